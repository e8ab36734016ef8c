"""What it takes to encode a span and an event for OTLP: OpenTelemetry's encoder and ours in turns, in CPU time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time_ns
from typing import Protocol, cast

from byhand import score
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ml
from otel_ml._delivery import Parts
from otel_ml.exporters._encode import body, pack

ROUNDS = 100
BATCH = 512


@dataclass(frozen=True)
class Taken:
    """CPU microseconds a record: medians of the rounds, and of their ratios."""

    official: float
    ours: float
    ratio: float

    def line(self, title: str) -> str:
        """Return a line of the table."""
        return f"{title:<8}{self.official:>12.2f}{self.ours:>12.2f}{self.ratio:>12.1f}x"


class Memory:
    """An exporter for `configure` that keeps what it is given."""

    def __init__(self) -> None:
        self.spans, self.events = InMemorySpanExporter(), InMemoryLogRecordExporter()

    def build(self, resource: Resource) -> Parts:
        return Parts(self.spans, None, self.events)

    def describe(self) -> str:
        return "memory"


def main() -> None:
    """Measure both, and print a table."""
    spans, events = records()
    print(f"{'CPU us':<8}{'official':>12}{'ours':>12}{'ratio':>13}")
    print(compare(lambda: official_spans(spans), lambda: body(pack("traces", spans).parcels), len(spans)).line("span"))
    print(
        compare(lambda: official_events(events), lambda: body(pack("logs", events).parcels), len(events)).line("event")
    )


def records() -> tuple[Sequence[ReadableSpan], Sequence[ReadableLogRecord]]:
    """Return a batch of spans of a watched function, and one of events of a training run."""
    memory = Memory()
    telemetry = otel_ml.configure(exporters=[memory])
    watched = otel_ml.predict(model="churn", version="3.2")(score)
    with otel_ml.train("churn", version="3.2") as run:
        for step in range(BATCH):
            run.log(step=step, loss=1 / (step + 1), accuracy=1 - 1 / (step + 1))
    for x in range(BATCH):
        watched(x)
    telemetry.shutdown()
    spans = memory.spans.get_finished_spans()[-BATCH:]
    events = memory.events.get_finished_logs()[-BATCH:]
    return spans, events


def compare(official: Callable[[], bytes], ours: Callable[[], bytes], count: int) -> Taken:
    """Measure both in turns; the first round warms up, shows that they give the same, and is left out."""
    if official() != ours():
        raise AssertionError("the two did not give the same bytes")
    taken: list[tuple[float, float]] = []
    for turn in range(ROUNDS):
        # Each goes first every other time, so that a machine that slows down favours neither.
        order = (official, ours) if turn % 2 else (ours, official)
        cost = {id(one): spend(one) / count for one in order}
        taken.append((cost[id(official)], cost[id(ours)]))
    return Taken(
        median(theirs for theirs, _ in taken),
        median(mine for _, mine in taken),
        median(theirs / mine for theirs, mine in taken),
    )


def spend(encode: Callable[[], bytes]) -> float:
    """Return the CPU microseconds that it takes."""
    gc.collect()
    began = process_time_ns()
    encode()
    return (process_time_ns() - began) / 1e3


class Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  # protobuf's own name


def official_spans(spans: Sequence[ReadableSpan]) -> bytes:
    return cast("Message", encode_spans(spans)).SerializeToString()


def official_events(events: Sequence[ReadableLogRecord]) -> bytes:
    return cast("Message", encode_logs(events)).SerializeToString()


if __name__ == "__main__":
    main()
