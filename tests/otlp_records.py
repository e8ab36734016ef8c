"""Records of all three signals, made by the official SDK, for tests of exporters."""

from collections.abc import Sequence

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

RESOURCE = Resource({"service.name": "churn", "service.instance.id": "1"})
SCOPE = InstrumentationScope("tests", "1.0")
ATTRIBUTES: dict[str, AttributeValue] = {"text": "é", "whole": 3, "real": 0.5, "flag": True, "list": ("a", "b")}


def make_spans(count: int = 3, attributes: dict[str, AttributeValue] = ATTRIBUTES) -> Sequence[ReadableSpan]:
    """Return ended spans: a parent with attributes of each type, an event and an error, and its children with a link."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests", "1.0")
    with tracer.start_as_current_span("span 0", kind=SpanKind.CLIENT, attributes=attributes) as parent:
        parent.add_event("event", {"n": 1})
        parent.set_status(StatusCode.ERROR, "failed")
        for index in range(1, count):
            with tracer.start_as_current_span(f"span {index}") as child:
                child.add_link(parent.get_span_context())
    provider.shutdown()
    return kept.get_finished_spans()


def make_metrics() -> MetricsData:
    """Return one collection with a point of every kind: sum, gauge, and both histograms; six points in all."""
    reader = InMemoryMetricReader()
    view = View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=RESOURCE, views=[view], shutdown_on_exit=False)
    meter = provider.get_meter("tests", "1.0")
    for model in ("a", "b"):
        meter.create_counter("count", "1", "how many").add(3, {"model": model})
        meter.create_gauge("gauge").set(0.25, {"model": model})
    for name in ("explicit", "exponential"):
        for value in (0.1, 7.0, 30.0):
            meter.create_histogram(name, "s").record(value)
    collected = reader.get_metrics_data()
    provider.shutdown()
    assert collected is not None
    return collected


def make_events(count: int = 3) -> Sequence[ReadableLogRecord]:
    """Return events, each with a place in a trace."""
    return [
        ReadableLogRecord(
            LogRecord(
                timestamp=1_000_000_000 + index,
                observed_timestamp=2_000_000_000 + index,
                trace_id=0x1234,
                span_id=0x56,
                trace_flags=TraceFlags(1),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                event_name="step",
                attributes={"index": index, "loss": float("nan")},
            ),
            RESOURCE,
            SCOPE,
        )
        for index in range(count)
    ]
