"""Encode a batch for OTLP with OpenTelemetry's own encoders, so that one bad record costs one record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml.exporters._wire import Signal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request, the records in it (data points, for metrics), and how many could not be encoded."""

    body: bytes
    count: int
    rejected: int


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  # protobuf's own name


def encode(signal: Signal, batch: Sequence[ReadableSpan] | Sequence[ReadableLogRecord] | MetricsData) -> Encoded:
    """Encode a batch of one signal; what cannot be encoded is left out and counted. Never raises."""
    if isinstance(batch, MetricsData):
        return _metrics(batch)
    if signal == "traces":
        return _records(cast("Sequence[ReadableSpan]", batch), lambda spans: cast("_Message", encode_spans(spans)))
    return _records(cast("Sequence[ReadableLogRecord]", batch), lambda logs: cast("_Message", encode_logs(logs)))


def _records(batch: Sequence[T], message: Callable[[Sequence[T]], _Message]) -> Encoded:
    body = _attempt(lambda: message(batch))
    if body is not None:
        return Encoded(body, len(batch), 0)
    good = [record for record in batch if _attempt(partial(message, [record])) is not None]
    return Encoded(_attempt(lambda: message(good)) or b"", len(good), len(batch) - len(good))


def _metrics(batch: MetricsData) -> Encoded:
    total = _points(batch)
    body = _attempt(lambda: cast("_Message", encode_metrics(batch)))
    if body is not None:
        return Encoded(body, total, 0)
    good = _good_metrics(batch)
    count = _points(good)
    return Encoded(_attempt(lambda: cast("_Message", encode_metrics(good))) or b"", count, total - count)


def _good_metrics(batch: MetricsData) -> MetricsData:
    return MetricsData([
        replace(
            resource,
            scope_metrics=[
                replace(scope, metrics=list(_good_in(scope.metrics, resource, scope))) for scope in resource.scope_metrics
            ],
        )
        for resource in batch.resource_metrics
    ])  # fmt: skip


def _good_in(metrics: Sequence[Metric], resource: ResourceMetrics, scope: ScopeMetrics) -> Iterator[Metric]:
    """Yield the metrics that can be encoded; of one that cannot, its points that can."""

    def fits(metric: Metric) -> bool:
        alone = MetricsData([replace(resource, scope_metrics=[replace(scope, metrics=[metric])])])
        return _attempt(lambda: cast("_Message", encode_metrics(alone))) is not None

    for metric in metrics:
        if fits(metric):
            yield metric
            continue
        points = [point for point in metric.data.data_points if fits(_with_points(metric, [point]))]
        if points:
            yield _with_points(metric, points)


def _with_points(metric: Metric, points: Sequence[object]) -> Metric:
    return replace(metric, data=replace(metric.data, data_points=points))  # type: ignore[arg-type]  # points of this metric


def _points(batch: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in batch.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def _attempt(make: Callable[[], _Message]) -> bytes | None:
    try:
        return make().SerializeToString()
    except Exception:  # whatever a record of somebody else's holds, it costs that record alone
        return None
