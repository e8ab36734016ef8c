"""Metrics for OTLP, encoded by OpenTelemetry's own encoder, so that one bad data point costs that point alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, cast

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics

from otel_ml.exporters._protobuf import cut, fields


def encode_good_metrics(batch: MetricsData) -> bytes:
    """Return the request that holds every data point of a collection that can be encoded. Never raises."""
    try:
        return _encoded(batch)
    except Exception:
        try:
            return _encoded(_good_metrics(batch))
        except Exception:  # it is the resource or the scope that cannot be encoded
            return b""


def points_in(batch: MetricsData) -> int:
    """Return how many data points a collection holds."""
    return sum(
        len(metric.data.data_points)
        for resource in batch.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def points_of(metric: bytes) -> int:
    """Return how many data points an encoded metric holds."""
    return sum(len(cut(content, _POINTS)[1]) for number, _, content in fields(metric) if number in _DATA)


# Of a `Metric`: gauge, sum, histogram, exponential histogram and summary; of each of them: `data_points`.
_DATA = (5, 7, 9, 10, 11)
_POINTS = 1


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  # protobuf's own name


def _encoded(batch: MetricsData) -> bytes:
    return cast("_Message", encode_metrics(batch)).SerializeToString()


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
        try:
            _encoded(MetricsData([replace(resource, scope_metrics=[replace(scope, metrics=[metric])])]))
        except Exception:  # whatever a metric of somebody else's holds, it costs that metric alone
            return False
        return True

    for metric in metrics:
        if fits(metric):
            yield metric
            continue
        points = [point for point in metric.data.data_points if fits(_with_points(metric, [point]))]
        if points:
            yield _with_points(metric, points)


def _with_points(metric: Metric, points: Sequence[object]) -> Metric:
    return replace(metric, data=replace(metric.data, data_points=points))  # type: ignore[arg-type]  # points of this metric
