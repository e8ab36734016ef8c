"""`exporters.OTLP` against a real OpenTelemetry collector: what comes out of it is what went in."""

import math
from collections.abc import Iterable
from time import monotonic

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_ml._delivery import DELIVERED, Delivers, Delivery, Parts
from otel_ml.exporters import OTLP
from tests.live.conftest import Rotel
from tests.otlp_records import RESOURCE, make_events, make_metrics, make_spans

pytestmark = pytest.mark.live

PROTOCOLS = ("http/protobuf", "grpc")


def parts_for(rotel: Rotel, protocol: str, **settings: object) -> Parts:
    """Return the three exporters for one of the collector's ports."""
    endpoint = rotel.http if protocol == "http/protobuf" else rotel.grpc
    return OTLP(endpoint, protocol=protocol, **settings).build(RESOURCE)  # type: ignore[arg-type]  # settings of each test


def shut_down(parts: Parts) -> None:
    """Close the connections of all three."""
    for part in (parts.spans, parts.metrics, parts.events):
        assert part is not None
        part.shutdown()


def deliver(part: object, batch: object) -> Delivery:
    """Try once to deliver a batch."""
    assert isinstance(part, Delivers)
    return part.deliver(batch, monotonic() + 5.0)  # type: ignore[arg-type]  # the batch of that signal


def texts(messages: Iterable[object]) -> list[str]:
    """Return messages as protobuf prints them, which NaN does not keep from being equal."""
    return sorted(str(message) for message in messages)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestReadBack:
    def test_spans(self, rotel: Rotel, protocol: str, compression: str) -> None:
        """Spans come back field by field: ids, parents, times, attributes, events, links, status."""
        spans = make_spans(50)
        parts = parts_for(rotel, protocol, compression=compression)
        assert deliver(parts.spans, spans) == DELIVERED
        assert rotel.behind.wait_for(lambda c: len(c.spans) >= 50, 10.0)
        shut_down(parts)

        (sent,) = encode_spans(spans).resource_spans
        assert texts(rotel.behind.spans) == texts(sent.scope_spans[0].spans)

    def test_metrics(self, rotel: Rotel, protocol: str, compression: str) -> None:
        """Sums, gauges and both kinds of histogram come back with their points."""
        collected = make_metrics()
        parts = parts_for(rotel, protocol, compression=compression)
        assert deliver(parts.metrics, collected) == DELIVERED
        assert rotel.behind.wait_for(lambda c: len(c.metrics) >= 4, 10.0)
        shut_down(parts)

        (sent,) = encode_metrics(collected).resource_metrics
        assert texts(rotel.behind.metrics) == texts(sent.scope_metrics[0].metrics)

    def test_events(self, rotel: Rotel, protocol: str, compression: str) -> None:
        """Events come back with names, times and traces, in order, and NaN is still NaN."""
        events = make_events(50)
        parts = parts_for(rotel, protocol, compression=compression)
        assert deliver(parts.events, events) == DELIVERED
        assert rotel.behind.wait_for(lambda c: len(c.logs) >= 50, 10.0)
        shut_down(parts)

        (sent,) = encode_logs(events).resource_logs
        assert [str(log) for log in rotel.behind.logs] == [str(log) for log in sent.scope_logs[0].log_records]
        assert all(math.isnan(log.attributes[1].value.double_value) for log in rotel.behind.logs)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_in_an_app_of_its_own(rotel: Rotel, protocol: str) -> None:
    """With the official processor and reader, spans and metrics come back once each."""
    parts = parts_for(rotel, protocol)
    assert parts.spans is not None
    assert parts.metrics is not None
    tracers = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(parts.spans))
    meters = MeterProvider([PeriodicExportingMetricReader(parts.metrics)], RESOURCE, shutdown_on_exit=False)
    tracer, counter = tracers.get_tracer("app"), meters.get_meter("app").create_counter("things")
    for index in range(1_200):
        with tracer.start_as_current_span(f"work {index}"):
            counter.add(1)
    tracers.shutdown()
    meters.shutdown()
    shut_down(parts)

    assert rotel.behind.wait_for(lambda c: len(c.spans) >= 1_200 and c.metrics != [], 10.0)
    assert sorted(span.name for span in rotel.behind.spans) == sorted(f"work {index}" for index in range(1_200))
    (metric,) = rotel.behind.metrics
    assert metric.sum.data_points[0].as_int == 1_200


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_probe(rotel: Rotel, protocol: str) -> None:
    """A real collector accepts a probe for each signal and forwards nothing for it."""
    parts = parts_for(rotel, protocol)
    for part in (parts.spans, parts.metrics, parts.events):
        assert part.probe(monotonic() + 5.0) == DELIVERED  # type: ignore[union-attr]  # ours have it
    shut_down(parts)
    assert rotel.behind.spans == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_wrong_port(rotel: Rotel, protocol: str) -> None:
    """The other protocol's port delivers nothing and loses nothing."""
    endpoint = rotel.grpc if protocol == "http/protobuf" else rotel.http
    parts = OTLP(endpoint, protocol=protocol).build(RESOURCE)  # type: ignore[arg-type]  # one of the two
    delivery = deliver(parts.spans, make_spans())
    shut_down(parts)
    assert delivery.retry_after == 0.0 or delivery.rejected == 3
    assert delivery.reason != ""


def test_a_collector_that_is_gone(rotel: Rotel) -> None:
    """When the collector ends between two batches, the second one is kept for another try."""
    parts = [parts_for(rotel, protocol) for protocol in PROTOCOLS]
    assert [deliver(part.spans, make_spans()) for part in parts] == [DELIVERED, DELIVERED]
    rotel.process.terminate()
    rotel.process.wait(5.0)
    assert [deliver(part.spans, make_spans()).retry_after for part in parts] == [0.0, 0.0]
    for part in parts:
        shut_down(part)
    assert rotel.behind.wait_for(lambda c: len(c.spans) == 6)
