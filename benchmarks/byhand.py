"""The baseline: the telemetry of one prediction as people write it by hand on OpenTelemetry's SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from time import perf_counter, time_ns

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Histogram,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.util.types import AttributeValue

QUEUE = 131_072
# Six attributes on the span and three on each metric. They are made once, which favours the baseline.
ON_SPAN: Mapping[str, AttributeValue] = {
    "ml.operation.name": "predict",
    "ml.model.name": "churn",
    "ml.model.version": "3.2",
    "ml.framework.name": "sklearn",
    "ml.task.type": "classification",
    "ml.prediction.batch.size": 1,
}
ON_METRICS: Mapping[str, AttributeValue] = {
    "ml.operation.name": "predict",
    "ml.model.name": "churn",
    "ml.model.version": "3.2",
}
STEP: Mapping[str, AttributeValue] = {
    "ml.model.name": "churn",
    "ml.model.version": "3.2",
    "ml.training.run.id": "0123456789abcdef",
}


def score(x: int) -> int:
    """Stand in for a model; it costs next to nothing, so that what is around it shows."""
    return x


async def ascore(x: int) -> int:
    """Stand in for a model behind `await`."""
    return x


def tokens(x: int) -> Iterator[int]:
    """Stand in for a model that streams."""
    yield from range(x, x + 10)


class ByHand:
    """Spans, a histogram and a counter through the official batch processor and periodic reader, to nowhere."""

    def __init__(self, sampler: Sampler | None = None, spans: NullSpans | None = None) -> None:
        self.spans, self.metrics = spans or NullSpans(), NullMetrics()
        self.tracer_provider = TracerProvider(sampler=sampler)
        self.tracer_provider.add_span_processor(BatchSpanProcessor(self.spans, max_queue_size=QUEUE))
        self.meter_provider = MeterProvider([PeriodicExportingMetricReader(self.metrics)])
        meter = self.meter_provider.get_meter("byhand")
        self._tracer = self.tracer_provider.get_tracer("byhand")
        self._duration = meter.create_histogram("byhand.duration", "s")
        self._calls = meter.create_counter("byhand.calls")

    def flush(self) -> None:
        """Send everything; raises if the SDK says that it could not."""
        if not (self.tracer_provider.force_flush() and self.meter_provider.force_flush()):
            raise RuntimeError("the SDK did not flush")

    def close(self) -> None:
        """End the SDK's threads."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def call(self) -> Callable[[int], int]:
        """Return `score` with a span and metrics around it."""
        tracer, duration, calls = self._tracer, self._duration, self._calls

        def call(x: int) -> int:
            with tracer.start_as_current_span("predict churn", attributes=ON_SPAN):
                began = perf_counter()
                result = score(x)
                duration.record(perf_counter() - began, ON_METRICS)
                calls.add(1, ON_METRICS)
                return result

        return call

    def call_with_two_more(self) -> Callable[[int], int]:
        """Return the same, with two attributes that differ from call to call."""
        tracer, duration, calls = self._tracer, self._duration, self._calls

        def call(x: int) -> int:
            with tracer.start_as_current_span("predict churn", attributes=ON_SPAN) as span:
                began = perf_counter()
                result = score(x)
                span.set_attribute("tier", "gold")
                span.set_attribute("customer", x)
                duration.record(perf_counter() - began, ON_METRICS)
                calls.add(1, ON_METRICS)
                return result

        return call

    def count(self) -> Callable[[int], int]:
        """Return `score` with metrics alone."""
        duration, calls = self._duration, self._calls

        def call(x: int) -> int:
            began = perf_counter()
            result = score(x)
            duration.record(perf_counter() - began, ON_METRICS)
            calls.add(1, ON_METRICS)
            return result

        return call

    def coroutine(self) -> Callable[[int], Awaitable[int]]:
        """Return `ascore` with a span and metrics around it."""
        tracer, duration, calls = self._tracer, self._duration, self._calls

        async def call(x: int) -> int:
            with tracer.start_as_current_span("predict churn", attributes=ON_SPAN):
                began = perf_counter()
                result = await ascore(x)
                duration.record(perf_counter() - began, ON_METRICS)
                calls.add(1, ON_METRICS)
                return result

        return call

    def generator(self) -> Callable[[int], Iterator[int]]:
        """Return `tokens` with a span and metrics around it; the span stays current in the consumer."""
        tracer, duration, calls = self._tracer, self._duration, self._calls

        def call(x: int) -> Iterator[int]:
            with tracer.start_as_current_span("predict churn", attributes=ON_SPAN):
                began = perf_counter()
                yield from tokens(x)
                duration.record(perf_counter() - began, ON_METRICS)
                calls.add(1, ON_METRICS)

        return call


class LogsByHand:
    """One log record a training step through the official batch processor, to nowhere; no metrics."""

    def __init__(self) -> None:
        self.events = NullEvents()
        self.provider = LoggerProvider()
        self.provider.add_log_record_processor(BatchLogRecordProcessor(self.events, max_queue_size=QUEUE))
        self._logger = self.provider.get_logger("byhand")

    def flush(self) -> None:
        """Send everything."""
        if not self.provider.force_flush():
            raise RuntimeError("the SDK did not flush")

    def step(self) -> Callable[[int], None]:
        """Return what logs one step of a run."""
        logger = self._logger

        def step(x: int) -> None:
            now = time_ns()
            logger.emit(
                LogRecord(
                    timestamp=now,
                    observed_timestamp=now,
                    severity_number=SeverityNumber.INFO,
                    event_name="ml.training.step.completed",
                    attributes={**STEP, "ml.training.step": x, "loss": 0.25, "accuracy": 0.9, "lr": 0.001},
                )
            )

        return step


# ------------------------------------------------------------------------------------------------ exporters
class NullSpans(SpanExporter):
    """Counts spans and forgets them."""

    def __init__(self) -> None:
        self.seen = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.seen += len(spans)
        return SpanExportResult.SUCCESS


class NullMetrics(MetricExporter):
    """Keeps the last collection, so that it can be said how many calls the histograms have counted."""

    def __init__(self) -> None:
        super().__init__()
        self._last: MetricsData | None = None

    def counted(self, name: str) -> int:
        """Return how many values histogram `name` held in the last collection."""
        return sum(
            point.count
            for resource in (self._last.resource_metrics if self._last is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name and isinstance(metric.data, Histogram)
            for point in metric.data.data_points
        )

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,
        **kwargs: object,
    ) -> MetricExportResult:
        self._last = metrics_data
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Nothing is held here."""


class NullEvents(LogRecordExporter):
    """Counts log records and forgets them."""

    def __init__(self) -> None:
        self.seen = 0

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.seen += len(batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True

    def shutdown(self) -> None:
        """Nothing is held here."""


def drain(stream: Iterator[int]) -> None:
    """Consume a stream."""
    for _ in stream:
        pass
