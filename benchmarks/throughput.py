"""What sending costs: 10,000 calls a second to a real collector, ours beside the SDK's own, in turns in one process.

Both sides record a span, a duration and a count a call, and send them over OTLP/HTTP to a rotel of this machine: ours with
every default, its spool included; the SDK's with its batch processor (queue of 131,072), periodic reader and exporters.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time, sleep

from byhand import ON_METRICS, ON_SPAN, QUEUE, score
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import otel_ml
from otel_ml import exporters

RATE, SECONDS, WINDOW = 10_000, 60.0, 10.0
MUST = 0.75
TICK = 0.002


@dataclass(frozen=True)
class Side:
    """One way to do it, and how many spans have arrived so far."""

    name: str
    call: Callable[[int], int]
    flush: Callable[[], object]
    arrived: Callable[[], int]
    close: Callable[[], object]


class Counting(SpanExporter):
    """Counts what the official exporter says it has delivered."""

    def __init__(self, inner: SpanExporter) -> None:
        self.inner, self.delivered = inner, 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.inner.export(spans)
        self.delivered += len(spans) if result is SpanExportResult.SUCCESS else 0
        return result

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.inner.force_flush(timeout_millis)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each side (60)")
    parser.add_argument("--rate", type=int, default=RATE, help="calls a second (10000)")
    asked = parser.parse_args()
    with collector() as endpoint, tempfile.TemporaryDirectory() as folder:
        os.environ["OTEL_ML_SPOOL"] = str(Path(folder) / "spool")
        sides = (ours(endpoint), official(endpoint))
        cpu, made = run(sides, asked.seconds, asked.rate)
        lost = {side.name: made - side.arrived() for side in sides}
        for side in sides:
            side.close()
    ratio = cpu[sides[0].name] / cpu[sides[1].name]
    print(
        f"{asked.rate:,} calls/s for {asked.seconds:.0f} s on each side, {made:,} calls each, to rotel over OTLP/HTTP"
    )
    for side in sides:
        print(f"  {side.name:34} {cpu[side.name] / made * 1e6:6.1f} us CPU a call   {lost[side.name]:>6,} lost")
    verdict = "met" if ratio <= MUST and not lost[sides[0].name] else "MISSED"
    print(f"  ratio {ratio:.3f}, must be at most {MUST}: {verdict}")
    return verdict == "MISSED"


def run(sides: Sequence[Side], seconds: float, rate: int) -> tuple[dict[str, float], int]:
    """Let the sides take turns; return the CPU seconds of each, and the calls that each has made."""
    window = min(WINDOW, seconds)
    turns, made = max(1, round(seconds / window)), 0
    cpu = {side.name: 0.0 for side in sides}
    for side in sides:
        paced(side, 1.0, rate)  # warm up
    for turn in range(turns):
        for side in sides if turn % 2 else reversed(sides):
            spent, calls = paced(side, window, rate)
            cpu[side.name] += spent
        made += calls
    return cpu, made + int(1.0 / TICK) * int(rate * TICK)


def paced(side: Side, seconds: float, rate: int) -> tuple[float, int]:
    """Make calls at a rate, flush, and return the CPU time of the process and the number of calls."""
    each, began, cpu = int(rate * TICK), monotonic(), process_time()
    ticks = int(seconds / TICK)
    for tick in range(ticks):
        for x in range(each):
            side.call(x)
        ahead = began + (tick + 1) * TICK - monotonic()
        if ahead > 0:
            sleep(ahead)
    side.flush()
    return process_time() - cpu, ticks * each


def ours(endpoint: str) -> Side:
    telemetry = otel_ml.configure(service="churn", exporters=[exporters.OTLP(endpoint)], set_global=False)
    return Side(
        "otel_ml, exporters.OTLP",
        otel_ml.predict(model="churn", version="3.2")(score),
        lambda: telemetry.flush(10.0),
        lambda: telemetry.health().exporters[0].signals["spans"].delivered,
        telemetry.shutdown,
    )


def official(endpoint: str) -> Side:
    spans = Counting(OTLPSpanExporter(f"{endpoint}/v1/traces"))
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(spans, max_queue_size=QUEUE))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"))])
    meter = meters.get_meter("byhand")
    tracer = tracers.get_tracer("byhand")
    duration, calls = meter.create_histogram("byhand.duration", "s"), meter.create_counter("byhand.calls")

    def call(x: int) -> int:
        with tracer.start_as_current_span("predict churn", attributes=ON_SPAN):
            began = monotonic()
            result = score(x)
            duration.record(monotonic() - began, ON_METRICS)
            calls.add(1, ON_METRICS)
            return result

    def flush() -> bool:
        return tracers.force_flush() and meters.force_flush()

    def close() -> None:
        tracers.shutdown()
        meters.shutdown()

    return Side("OpenTelemetry SDK, official exporter", call, flush, lambda: spans.delivered, close)


@contextmanager
def collector() -> Iterator[str]:
    """Run rotel on a free port, taking everything and keeping nothing."""
    spec = importlib.util.find_spec("rotel")
    if spec is None or spec.origin is None:
        sys.exit("rotel is not installed. Type: make bench")
    port, grpc = free_port(), free_port()
    process = subprocess.Popen(
        [
            Path(spec.origin).with_name("rotel-agent"), "start", "--exporter", "blackhole",
            "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.defpath},
    )  # fmt: skip
    try:
        limit = monotonic() + 10.0
        while monotonic() < limit and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(5.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
