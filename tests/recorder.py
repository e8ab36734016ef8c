"""A place of our own kind that keeps what it is sent, and what tests ask of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TypeVar

import pytest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ml._delivery import Parts

Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint
T = TypeVar("T")


class Spans(SpanExporter):
    """Keeps spans."""

    def __init__(self) -> None:
        self.kept: list[ReadableSpan] = []
        self.closed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.kept.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed += 1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class Events(LogRecordExporter):
    """Keeps events."""

    def __init__(self) -> None:
        self.kept: list[ReadableLogRecord] = []
        self.closed = 0

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.kept.extend(batch)
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed += 1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class Metrics(MetricExporter):
    """Keeps collections of metrics."""

    def __init__(
        self,
        temporality: Mapping[type, AggregationTemporality] | None = None,
        aggregation: Mapping[type, Aggregation] | None = None,
    ) -> None:
        super().__init__(dict(temporality) if temporality else None, dict(aggregation) if aggregation else None)
        self.kept: list[MetricsData] = []
        self.closed = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self.kept.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        self.closed += 1


class Recorder:
    """An exporter for `configure(exporters=[...])` that keeps all three signals in memory."""

    def __init__(
        self,
        temporality: Mapping[type, AggregationTemporality] | None = None,
        aggregation: Mapping[type, Aggregation] | None = None,
        delay: float = 0.02,
    ) -> None:
        self._spans, self._events, self._metrics = Spans(), Events(), Metrics(temporality, aggregation)
        self._delay = delay
        self.resource = Resource({})

    def build(self, resource: Resource) -> Parts:
        self.resource = resource
        return Parts(self._spans, self._metrics, self._events, interval=3_600.0, delay=self._delay)

    def describe(self) -> str:
        return "memory"

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans received so far."""
        return list(self._spans.kept)

    @property
    def events(self) -> list[ReadableLogRecord]:
        """The events received so far."""
        return list(self._events.kept)

    @property
    def collections(self) -> list[MetricsData]:
        """The collections of metrics received so far."""
        return list(self._metrics.kept)

    def span(self) -> ReadableSpan:
        """The one span received."""
        (only,) = self._spans.kept
        return only

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of one name."""
        return [span for span in self._spans.kept if span.name == name]

    def events_named(self, name: str) -> list[dict[str, object]]:
        """The attributes of the events of one name, in the order in which they came."""
        return [attributes_of(one) for one in self._events.kept if one.log_record.event_name == name]

    def points(self, name: str) -> list[Point]:
        """The points of one metric in the last collection."""
        return points(self._metrics.kept[-1], name) if self._metrics.kept else []

    def value(self, name: str, **attributes: object) -> float:
        """The sum over the points of one metric that have these attributes (dots written as `__`)."""
        asked = {key.replace("__", "."): value for key, value in attributes.items()}
        found = [p for p in self.points(name) if all((p.attributes or {}).get(k) == v for k, v in asked.items())]
        return sum(p.value if isinstance(p, NumberDataPoint) else p.count for p in found)

    def forget(self) -> None:
        """Forget what was received so far."""
        self._spans.kept.clear()
        self._events.kept.clear()
        self._metrics.kept.clear()


def metrics(data: MetricsData) -> Iterator[Metric]:
    """Iterate over the metrics of a collection; those of exporters differ from reader to reader, and are left out."""
    return (metric for metric in _all(data) if not metric.name.startswith("otel_ml.exporter."))


def points(data: MetricsData, name: str) -> list[Point]:
    """Return the points of one metric."""
    return [point for metric in _all(data) if metric.name == name for point in metric.data.data_points]


def _all(data: MetricsData) -> Iterator[Metric]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def attributes_of(event: ReadableLogRecord) -> dict[str, object]:
    """Return an event's attributes."""
    return dict(event.log_record.attributes or {})


def wait_for(condition: Callable[[], T], timeout: float = 10.0) -> T:
    """Return what `condition` gives once that is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


# The oracle is the SDK that is installed; ours follows the newest. Before 1.45 the SDK had no limit of 2,000 series,
# another scale for exponential histograms, and no None or mapping as an attribute's value.
same_rules = pytest.mark.skipif(
    tuple(int(part) for part in version("opentelemetry-sdk").split(".")[:2]) < (1, 45),
    reason="the oracle's own rules changed with opentelemetry-sdk 1.45",
)
