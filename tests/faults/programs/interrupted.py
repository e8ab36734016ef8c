"""Record, flush and configure while a signal handler or the garbage collector records and flushes in between."""

import faulthandler
import gc
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ml
from tests.stopwatch import stopwatch

asked = json.loads(sys.argv[1])
if asked["work"] != "fork":
    # Tells where it hangs, and ends the program. What is armed here cannot be armed anew in a child.
    faulthandler.dump_traceback_later(asked["hangs"], exit=True)
# Up to CPython 3.11 the collector may run in the middle of `ContextVar.set`, and whoever sets one then (a callback, a
# finalizer, or a signal handler that interrupts one of these) crashes the interpreter: a callback in `gc.callbacks` that
# sets variables and a loop that sets them are enough to see it. So there the collector does not meet our calls.
OLD = sys.version_info < (3, 12)
NO_CALLS = asked["by"] == "collector" and OLD
if asked["by"] == "signal" and OLD:
    gc.disable()


class Last(MetricExporter):
    """Keeps the last collection."""

    data: MetricsData | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self.data = metrics_data
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True


last = Last()
places: list[object] = [last, otel_ml.exporters.OTLP(asked["endpoint"])]
if asked["foreign"]:
    places += [InMemoryMetricReader(), BatchSpanProcessor(InMemorySpanExporter())]


def configure() -> otel_ml.Telemetry:
    """Configure, and again."""
    return otel_ml.configure(service="interrupted", exporters=places, interval=asked["interval"])  # type: ignore[arg-type]  # exporters of all kinds


@otel_ml.predict(spans=False)
def score(label: int) -> None:
    """Label the call with something never seen before."""
    otel_ml.current().label(variant=label)  # type: ignore[union-attr]  # inside a call


@otel_ml.predict(id="name", output=lambda found: found)
def remembered(name: str) -> int:
    """Return a number to remember."""
    return 1


calls = 0
logs = 0
handled = 0
handling = False
# Seconds that a flush of half a second has taken.
longest = longest_of_ours = 0.0


def record() -> None:
    """Record a little of everything."""
    global calls, logs
    logs += 1
    run.log(loss=0.5)
    otel_ml.feedback(f"order-{logs}", actual=1)
    if not (NO_CALLS and handling):
        calls += 1
        score(calls)
        remembered(f"order-{calls}")


def handle(*_: object) -> None:
    """What runs in between: record, flush for a moment, look."""
    global handled, handling
    if handling:
        return
    handling = True
    try:
        handled += 1
        record()
        if handled % 10 == 0:
            otel_ml.flush(0.002)
            otel_ml.health()
    finally:
        handling = False


def flushing() -> None:
    """Flush what there is."""
    global longest, longest_of_ours
    record()
    with stopwatch() as took:
        otel_ml.flush(0.5)
    longest, longest_of_ours = max(longest, took.elapsed), max(longest_of_ours, took.seconds)


def configuring() -> None:
    """Replace everything."""
    record()
    configure()


def threading_() -> None:
    """Start a thread, as a first record does."""
    thread = threading.Thread(target=record)
    thread.start()
    thread.join()


def forking() -> None:
    """Record first of all in a child, which is interrupted as often."""
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(3.0, exit=True)
        start()
        for _ in range(20):
            record()
        otel_ml.flush(0.05)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def start() -> None:
    """Have the handler run every half a millisecond, or in every collection of garbage."""
    if asked["by"] == "signal":
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    else:
        gc.set_threshold(200, 5, 5)
        gc.callbacks.append(handle)


class Cyclic:
    """Is found by the garbage collector alone, and records when it goes."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        handle()


telemetry = configure()
works: dict[str, Callable[[], None]] = {
    "record": record,
    "flush": flushing,
    "configure": configuring,
    "threads": threading_,
    "fork": forking,
}
with otel_ml.train("interrupted") as run:
    start()
    # A fork takes as long as many of the others.
    rounds = range(asked["count"] // 5) if asked["work"] == "fork" else itertools.count()
    for _ in rounds:
        works[asked["work"]]()
        if handled >= asked["count"]:
            break
        if asked["by"] == "collector":
            Cyclic()
if asked["by"] == "signal":
    signal.setitimer(signal.ITIMER_REAL, 0)
else:
    gc.callbacks.clear()
flushed = otel_ml.flush(20.0 if asked["healthy"] else 0.5)
points = [
    point.count
    for resource in (last.data.resource_metrics if last.data else ())
    for scope in resource.scope_metrics
    for metric in scope.metrics
    if metric.name == "ml.prediction.duration"
    for point in metric.data.data_points
]
steps = [
    point.value
    for resource in (last.data.resource_metrics if last.data else ())
    for scope in resource.scope_metrics
    for metric in scope.metrics
    if metric.name == "ml.training.steps"
    for point in metric.data.data_points
]
said = {
    "calls": calls,
    "logs": logs,
    "handled": handled,
    "counted": sum(points),
    "steps": sum(steps),
    "flushed": flushed,
    "longest": [longest, longest_of_ours],
}
print(json.dumps(said))
otel_ml.shutdown()
print(time.monotonic(), flush=True)
