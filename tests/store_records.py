"""Real spans, events and metric points, made by the OpenTelemetry SDK, for whatever stores or shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Tracer

from otel_ml import _catalog as names

RESOURCE = Resource({"service.name": "churn-api", "host.cpus": 2})
SCOPE = InstrumentationScope("tests", "1.0", attributes={"team": "a"})


class Recorder:
    """A tracer whose ended spans can be taken."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(resource=RESOURCE)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.tracer: Tracer = provider.get_tracer("tests", "1.0", attributes={"team": "a"})

    def take(self) -> list[ReadableSpan]:
        """Return the spans that have ended since the last time."""
        spans = list(self._memory.get_finished_spans())
        self._memory.clear()
        return spans


def calls(count: int, *, model: str = "churn", padding: str = "", **attributes: Any) -> list[ReadableSpan]:
    """Return the spans of `count` calls, numbered by the attribute `number`."""
    recorder = Recorder()
    for number in range(count):
        facts = {names.OPERATION: names.PREDICT, names.MODEL: model, "number": number, **attributes}
        if padding:
            facts["padding"] = padding
        recorder.tracer.start_span(f"predict {model}", attributes=facts).end()
    return recorder.take()


def event(
    name: str, attributes: Mapping[str, Any] | None = None, *, time: int | None = 1_700_000_000_000_000_000, **more: Any
) -> ReadableLogRecord:
    """Return a log record as exporters take it."""
    record = LogRecord(
        timestamp=time,
        observed_timestamp=time,
        severity_number=SeverityNumber.INFO,
        severity_text="INFO",
        event_name=name,
        attributes=dict(attributes or {}),
        **more,
    )
    return ReadableLogRecord(record, RESOURCE, SCOPE)


def steps(count: int, *, run: str = "run-1", first: int = 0, **values: Any) -> list[ReadableLogRecord]:
    """Return the events of `count` steps of a run."""
    logged = {names.TRAINING_VALUE + key: value for key, value in values.items()}
    return [
        event(
            names.STEP_COMPLETED,
            {names.MODEL: "churn", names.RUN_ID: run, names.STEP: step, **logged},
            time=1_700_000_000_000_000_000 + step,
        )
        for step in range(first, first + count)
    ]


def emitted(**record: Any) -> ReadableLogRecord:
    """Return a log record that went through the SDK's own logger."""
    memory = InMemoryLogRecordExporter()
    provider = LoggerProvider(RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    provider.get_logger("tests").emit(**record)
    return memory.get_finished_logs()[0]


class Meter:
    """A meter of every kind of instrument, read on demand."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        exponential = View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())
        provider = MeterProvider([self._reader], RESOURCE, views=[exponential])
        meter = provider.get_meter("tests", "1.0", attributes={"team": "a"})
        self.calls = meter.create_counter("calls", "{call}", "How many.")
        self.active = meter.create_up_down_counter("active")
        self.loss = meter.create_gauge("loss")
        self.took = meter.create_histogram("took", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
        self.sizes = meter.create_histogram("sizes")

    def read(self) -> MetricsData:
        """Collect, as a periodic reader would."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return data


def gauge(name: str, values: Sequence[Any]) -> MetricsData:
    """Return points that the SDK's instruments would have refused."""
    points = [NumberDataPoint({"at": at}, 0, 1, value) for at, value in enumerate(values)]
    metric = Metric(name, "", "1", Gauge(points))
    return MetricsData([ResourceMetrics(RESOURCE, [ScopeMetrics(SCOPE, [metric], "")], "")])
