"""One bad record costs one record: what OpenTelemetry's encoders cannot encode is left out and counted."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import Gauge, Metric, MetricsData, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from otel_ml._delivery import Delivers, Delivery, Packed
from otel_ml.exporters import OTLP
from otel_ml.exporters._encode import body, pack
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, SCOPE, make_events, make_metrics, make_spans

CONTEXT = SpanContext(1, 2, False)
SPAN = {"name": "x", "context": CONTEXT, "resource": RESOURCE, "instrumentation_scope": SCOPE}

BAD_SPANS: dict[str, Callable[[], ReadableSpan]] = {
    "name is a number": lambda: ReadableSpan(**{**SPAN, "name": 3}),  # type: ignore[arg-type]  # bad on purpose
    "name is an object": lambda: ReadableSpan(**{**SPAN, "name": object()}),  # type: ignore[arg-type]  # bad on purpose
    "name has a lone surrogate": lambda: ReadableSpan(**{**SPAN, "name": "\ud800"}),  # type: ignore[arg-type]  # a dict of all
    "no context": lambda: ReadableSpan(**{**SPAN, "context": None}),  # type: ignore[arg-type]  # bad on purpose
    "trace id too large": lambda: ReadableSpan(**{**SPAN, "context": SpanContext(1, 2, False)}, parent=Huge()),  # type: ignore[arg-type]  # bad on purpose
    "time is negative": lambda: ReadableSpan(**SPAN, start_time=-1),  # type: ignore[arg-type]  # bad on purpose
    "time is text": lambda: ReadableSpan(**SPAN, start_time="now"),  # type: ignore[arg-type]  # bad on purpose
    "not a span": lambda: object(),  # type: ignore[return-value]  # bad on purpose
}
BAD_EVENTS: dict[str, dict[str, object]] = {
    "name has a lone surrogate": {"event_name": "\ud800"},
    "name is a number": {"event_name": 3},
    "time is negative": {"timestamp": -1},
    "time beyond 64 bits": {"timestamp": 2**70},
    "body is an object": {"body": object()},
    "trace id too large": {"trace_id": 2**130},
    "severity is a number": {"severity_text": 3},
}
BAD_POINTS: dict[str, object] = {
    "True": True,
    "beyond 64 bits": 2**63,
    "text": "3",
    "an object": object(),
}


class Huge:
    """A parent whose id is too large."""

    span_id, is_remote = 2**70, False


class TestSpans:
    @pytest.mark.parametrize("bad", BAD_SPANS)
    def test_a_bad_span_costs_one_span(self, bad: str) -> None:
        """Of 512 spans with a bad one among them, 511 are encoded, in order."""
        before, after = make_spans(200), make_spans(311)
        packed = pack("traces", [*before, BAD_SPANS[bad](), *after])

        assert (count(packed), packed.rejected) == (511, 1)
        request = ExportTraceServiceRequest.FromString(body(packed.parcels))
        names = [
            span.name for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        assert names == [span.name for span in (*before, *after)]

    def test_all_bad(self) -> None:
        """A batch of bad spans alone is rejected without a request."""
        with FaultCollector() as collector:
            part = OTLP(collector.endpoint).build(RESOURCE).spans
            assert isinstance(part, Delivers)
            bad = [BAD_SPANS["no context"](), BAD_SPANS["not a span"]()]
            assert part.deliver(bad, monotonic() + 5) == Delivery(2, "encoding")
            assert collector.connections == 0

    def test_bad_ones_are_counted_with_the_delivery(self) -> None:
        """The good ones arrive, the bad one is rejected for that reason; after a failure it is counted once, later."""
        with FaultCollector(503, times=1) as collector:
            part = OTLP(collector.endpoint).build(RESOURCE).spans
            assert isinstance(part, Delivers)
            batch = [*make_spans(), BAD_SPANS["no context"]()]
            assert part.deliver(batch, monotonic() + 5) == Delivery(reason="http_503", retry_after=0.0)
            assert part.deliver(batch, monotonic() + 5) == Delivery(1, "encoding")
            part.shutdown()  # type: ignore[attr-defined]  # a span exporter
            assert len(collector.spans) == 3

    def test_refused_by_the_collector_too(self) -> None:
        """Bad ones and refused ones add up; a final status rejects them all."""
        batch = [*make_spans(), BAD_SPANS["no context"]()]
        for mode, delivery in (
            ("partial_success", Delivery(3, "partial_success")),
            (400, Delivery(4, "http_400", divisible=True)),
        ):
            with FaultCollector(mode, rejected=2) as collector:  # type: ignore[arg-type]  # modes of it
                part = OTLP(collector.endpoint).build(RESOURCE).spans
                assert isinstance(part, Delivers)
                assert part.deliver(batch, monotonic() + 5) == delivery
                part.shutdown()  # type: ignore[attr-defined]  # a span exporter


class TestEvents:
    @pytest.mark.parametrize("bad", BAD_EVENTS)
    def test_a_bad_event_costs_one_event(self, bad: str) -> None:
        """Of 512 events with a bad one among them, 511 are encoded, in order."""
        values = {
            "timestamp": 1,
            "trace_id": 1,
            "span_id": 2,
            "trace_flags": TraceFlags(1),
            "event_name": "x",
            **BAD_EVENTS[bad],
        }
        record = ReadableLogRecord(LogRecord(**values), RESOURCE, SCOPE)  # type: ignore[arg-type]  # bad on purpose
        packed = pack("logs", [*make_events(200), record, *make_events(311)])

        assert (count(packed), packed.rejected) == (511, 1)
        request = ExportLogsServiceRequest.FromString(body(packed.parcels))
        assert len(request.resource_logs[0].scope_logs[0].log_records) == 511


class TestMetrics:
    @pytest.mark.parametrize("bad", BAD_POINTS)
    def test_a_bad_point_costs_one_point(self, bad: str) -> None:
        """A point with a bad value is left out; every other point, of its own metric too, is encoded."""
        collected = make_metrics()
        packed = pack("metrics", with_bad(collected, value=BAD_POINTS[bad]))

        assert (count(packed), packed.rejected) == (7, 1)
        assert points_of(body(packed.parcels)) == {"bad": 1, "count": 2, "gauge": 2, "explicit": 1, "exponential": 1}

    def test_a_bad_name_costs_one_metric(self) -> None:
        """A metric whose name cannot be encoded loses its own points alone."""
        packed = pack("metrics", with_bad(make_metrics(), value=1, name="\ud800"))

        assert (count(packed), packed.rejected) == (6, 2)
        assert points_of(body(packed.parcels)) == {"count": 2, "gauge": 2, "explicit": 1, "exponential": 1}

    def test_a_bad_point_is_counted_in_the_delivery(self) -> None:
        """Metrics are counted by data point."""
        with FaultCollector() as collector:
            part = OTLP(collector.endpoint).build(RESOURCE).metrics
            assert isinstance(part, Delivers)
            assert part.deliver(with_bad(make_metrics(), value=True), monotonic() + 5) == Delivery(1, "encoding")
            part.shutdown()  # type: ignore[attr-defined]  # a metric exporter
            assert "bad" in {metric.name for metric in collector.metrics}


def with_bad(collected: MetricsData, value: object, name: str = "bad") -> MetricsData:
    """Return a collection with one more gauge, of a good point and one of `value`."""
    points = [NumberDataPoint({}, None, 1, 0.5), NumberDataPoint({"k": "v"}, None, 1, value)]  # type: ignore[arg-type]  # bad on purpose
    (resource,) = collected.resource_metrics
    (scope,) = resource.scope_metrics
    gauge = Metric(name, "", "1", Gauge(points))
    return MetricsData([replace(resource, scope_metrics=[replace(scope, metrics=[gauge, *scope.metrics])])])


def count(packed: Packed) -> int:
    """Return how many records of the account were encoded."""
    return sum(parcel.count for parcel in packed.parcels)


def points_of(data: bytes) -> dict[str, int]:
    """Return how many points of each metric a request holds."""
    request = ExportMetricsServiceRequest.FromString(data)
    return {
        metric.name: len(getattr(metric, metric.WhichOneof("data")).data_points)
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
