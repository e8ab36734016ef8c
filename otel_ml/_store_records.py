"""What is read from the local store: spans, events and metric points as values."""

from __future__ import annotations

from dataclasses import dataclass

from otel_ml._values import Value

Attributes = dict[str, Value]
Number = int | float

_NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Origin:
    """Who recorded something: the resource's attributes, and the instrumentation scope."""

    resource: Attributes
    scope: str
    scope_version: str
    scope_attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanLink:
    """A span that another one refers to; ids in hex."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A stored span. `id` grows in the order of writing; trace and span ids are in hex."""

    id: int
    origin: Origin
    trace_id: str
    span_id: str
    parent_id: str | None
    flags: int
    trace_state: str
    name: str
    model: str | None
    kind: str
    start_ns: int
    end_ns: int
    status: str
    description: str | None
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]
    dropped: tuple[int, int, int]

    @property
    def duration(self) -> float:
        """How long it took, in seconds."""
        return (self.end_ns - self.start_ns) / _NANOSECONDS


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A stored event. `id` grows in the order of writing, so that a run's events come in the order they were logged."""

    id: int
    origin: Origin
    time_ns: int
    observed_ns: int
    name: str
    run: str | None
    severity: int | None
    severity_text: str | None
    body: Value
    attributes: Attributes
    trace_id: str | None
    span_id: str | None
    flags: int
    dropped: int


@dataclass(frozen=True, slots=True)
class PointRecord:
    """A stored metric point: `value` for sums and gauges, the other numbers and `buckets` for histograms.

    `buckets` are the counts of an explicit histogram, one more than its `bounds`; of an exponential one, a mapping of
    `scale`, `zero`, and `positive` and `negative` (offset, counts).
    """

    id: int
    origin: Origin
    series: int
    name: str
    kind: str
    unit: str
    description: str
    temporality: str
    monotonic: bool
    attributes: Attributes
    start_ns: int | None
    time_ns: int
    value: Number | None
    count: int | None
    sum: Number | None
    min: Number | None
    max: Number | None
    bounds: tuple[float, ...]
    buckets: Value
