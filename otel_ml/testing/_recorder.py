"""`record()`: what a test's code would export, kept in memory and read as plain lists."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ml._configure import configure
from otel_ml._delivery import Parts

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_ml._telemetry import Telemetry

Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a metric: a `value`, or a histogram's `count` and `sum`."""

    attributes: Mapping[str, Value]
    value: int | float | None
    count: int | None = None
    sum: int | float | None = None


@dataclass
class Recorder:
    """An exporter that keeps everything. Reading sends what is still queued first, so that nothing has to be waited for."""

    telemetry: Telemetry | None = None
    _spans: list[ReadableSpan] = field(default_factory=list[ReadableSpan])
    _events: list[ReadableLogRecord] = field(default_factory=list[ReadableLogRecord])
    _metrics: list[MetricsData] = field(default_factory=list[MetricsData])

    def build(self, resource: Resource) -> Parts:
        """Make the parts that the pipeline feeds."""
        return Parts(_Spans(self._spans), _Metrics(self._metrics), _Events(self._events), interval=3600.0, delay=0.05)

    def describe(self) -> str:
        """Return where telemetry goes."""
        return "memory"

    @property
    def spans(self) -> list[ReadableSpan]:
        """Every ended, sampled span, in the order in which they ended."""
        self._flush()
        return list(self._spans)

    @property
    def events(self) -> list[ReadableLogRecord]:
        """Every event, in the order in which they were emitted."""
        self._flush()
        return list(self._events)

    @property
    def metrics(self) -> dict[str, list[Point]]:
        """The latest points of every metric, by name."""
        self._flush()
        latest: dict[str, list[Point]] = {}
        for resource in self._metrics[-1].resource_metrics if self._metrics else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    latest[metric.name] = [_point(point) for point in metric.data.data_points]
        return latest

    def _flush(self) -> None:
        if self.telemetry is not None:
            self.telemetry.flush()


@contextmanager
def record() -> Generator[Recorder, None, None]:
    """Record what the block's code would export; nothing leaves the process.

    >>> import otel_ml
    >>> @otel_ml.predict(model="churn")
    ... def score(rows):
    ...     return [0 for _ in rows]
    >>> with record() as recorder:
    ...     _ = score([[1.0], [2.0]])
    >>> [span.name for span in recorder.spans]
    ['predict churn']
    >>> recorder.metrics["ml.prediction.samples"][0].value
    2
    """
    recorder = Recorder()
    telemetry = configure(exporters=[recorder], set_global=False)
    recorder.telemetry = telemetry
    try:
        yield recorder
        telemetry.flush()
    finally:
        recorder.telemetry = None
        telemetry.shutdown()


def _point(point: object) -> Point:
    return Point(
        dict(getattr(point, "attributes", None) or {}),
        getattr(point, "value", None),
        getattr(point, "count", None),
        getattr(point, "sum", None),
    )


class _Spans(SpanExporter):
    def __init__(self, kept: list[ReadableSpan]) -> None:
        self._kept = kept

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._kept.extend(spans)
        return SpanExportResult.SUCCESS


class _Events(LogRecordExporter):
    def __init__(self, kept: list[ReadableLogRecord]) -> None:
        self._kept = kept

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self._kept.extend(batch)
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing is held."""
        return True


class _Metrics(MetricExporter):
    def __init__(self, kept: list[MetricsData]) -> None:
        super().__init__()
        self._kept = kept

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self._kept.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Nothing is held."""
