"""Record a great deal of one kind, and say by how much the program has grown."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import otel_ml
from otel_ml._health import Account

asked = json.loads(sys.argv[1])
count: int = asked["count"]
PAGE = os.sysconf("SC_PAGE_SIZE")


class Null(SpanExporter):
    """Takes every span and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Last(MetricExporter):
    """Keeps the last collection."""

    data: MetricsData | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self.data = metrics_data
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True


last = Last()
black_hole = [otel_ml.exporters.OTLP(asked["endpoint"])] if asked["endpoint"] else []
exporters: dict[str, list[object]] = {
    "black hole": [*black_hole],
    "black hole and metrics": [*black_hole, last],
    "metrics": [last],
    "spans": [Null()],
    "nothing": [],
}
telemetry = otel_ml.configure(service="growing", exporters=exporters[asked["into"]], interval=asked["interval"])  # type: ignore[arg-type]  # exporters of all kinds
own = telemetry.tracer_provider.get_tracer("own")
logger = telemetry.logger_provider.get_logger("own")


@otel_ml.predict
def score(value: object) -> object:
    """Return what it was given."""
    return value


@otel_ml.predict(spans=False)
def measured(value: object) -> object:
    """Return what it was given, without a span."""
    return value


@otel_ml.predict
def labelled(number: int) -> None:
    """Label the call with something never seen before."""
    otel_ml.current().label(user=number)  # type: ignore[union-attr]  # inside a call


@otel_ml.predict(spans=False)
def labelled_without_span(number: int) -> None:
    """The same, measured only."""
    otel_ml.current().label(user=number)  # type: ignore[union-attr]  # inside a call


@otel_ml.predict
def with_text(number: int) -> None:
    """Put a kilobyte on the span."""
    otel_ml.current().set(text=f"{number:010}" * 100)  # type: ignore[union-attr]  # inside a call


@otel_ml.predict
def with_many_texts(number: int) -> None:
    """Put many short texts on the span."""
    otel_ml.current().set(**{f"key{k}": f"{number + k:0100}" for k in range(50)})  # type: ignore[union-attr]  # inside a call


@otel_ml.predict
def with_numbers(number: int) -> None:
    """Put many numbers on the span."""
    otel_ml.current().set(numbers=[number + k / 7 for k in range(200)])  # type: ignore[union-attr]  # inside a call


@otel_ml.predict
def with_result(number: int) -> bytearray:
    """Return a megabyte, in a call that something was asked about."""
    otel_ml.current()
    return bytearray(1_000_000)


@otel_ml.predict
def failing(number: int) -> None:
    """Raise."""
    raise ValueError(number)


def fails(number: int) -> None:
    """Catch what it raises."""
    try:
        failing(number)
    except ValueError:
        pass


def fails_in_many_ways(number: int) -> None:
    """Raise exceptions of ever new classes."""
    try:
        with otel_ml.predict("many"):
            raise type(f"Error{number}", (Exception,), {})
    except Exception:
        pass


def named(number: int) -> None:
    """Call a model never seen before."""
    with otel_ml.predict(f"model-{number}", version=f"{number % 7}"):
        pass


def fed_back(number: int) -> None:
    """Tell about models and classes never seen before."""
    otel_ml.feedback(f"id-{number}", actual=f"class-{number}", predicted="other", model=f"model-{number}")


def staged(number: int) -> None:
    """Name a stage never seen before."""
    with otel_ml.predict("staged") as call, call.stage(f"stage-{number}"):
        pass


def logged(number: int) -> None:
    """Log a step."""
    run.log(loss=number / 3, learning_rate=0.1)


def logged_texts(number: int) -> None:
    """Log a step with texts in a list."""
    run.log(texts=[f"{number:0500}", f"{number + 1:0500}"])  # type: ignore[arg-type]  # no number


def logged_keys(number: int) -> None:
    """Log a value under a name never seen before."""
    run.log({f"loss_{number}": 0.5})


def under_spans(number: int) -> None:
    """Call a model under a span of the program's own, with attributes."""
    with own.start_as_current_span("request", attributes={"url": f"{number:0500}", "user": f"{number:0500}"}):
        score(number)


def own_spans(number: int) -> None:
    """Make a span of one's own, with much on it."""
    own.start_span("own", attributes={f"key{k}": f"{number + k:0900}" for k in range(20)}).end()


def own_records(number: int) -> None:
    """Emit a log record of one's own with a long body."""
    logger.emit(LogRecord(body=f"{number:020000}"))


def own_points(number: int) -> None:
    """Count under an attribute never seen before, with an instrument of one's own."""
    counter.add(1, {"user": number})


def spans_with_events(number: int) -> None:
    """Add events to a span of ours."""
    with otel_ml.predict("eventful"):
        for event in range(20):
            trace.get_current_span().add_event("event", {"text": f"{number + event:0500}"})


counter = telemetry.meter_provider.get_meter("own").create_counter("own")
work: Callable[[int], object] = globals()[asked["what"]]


def size() -> float:
    """Return the resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def summed(name: str) -> list[tuple[bool, float]]:
    """Return, for each series of a metric in the last collection, whether it is the overflow and its count or sum."""
    assert last.data is not None
    return [
        ("otel.metric.overflow" in point.attributes, getattr(point, "count", None) or getattr(point, "value", 0))
        for resource in last.data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


with otel_ml.train("growing") as run:
    for number in range(1_000):
        work(-1 - number % 5)
    telemetry.flush(0.3)
    gc.collect()
    before = largest = size()
    for number in range(count):
        work(number)
        if not number % 1_000:
            largest = max(largest, size())
    largest = max(largest, size())


def counted() -> dict[str, Account]:
    """Return the accounts of all signals."""
    return {signal: one for place in telemetry.health().exporters for signal, one in place.signals.items()}


# A record on its way from the queue to the sender is in neither for a moment.
accounts, limit = counted(), time.monotonic() + 5.0
while time.monotonic() < limit:
    time.sleep(0.05)
    before_that, accounts = accounts, counted()
    if before_that == accounts:
        break
flushed = telemetry.flush(5.0) if "black hole" not in asked["into"] else telemetry.flush(0.5)
said = {
    "grown": largest - before,
    "created": {signal: account.created for signal, account in accounts.items()},
    "dropped": {signal: account.dropped for signal, account in accounts.items()},
    "queued": {signal: account.queued for signal, account in accounts.items()},
    "flushed": flushed,
    "durations": summed("ml.prediction.duration") if last.data else None,
    "samples": summed("ml.prediction.samples") if last.data else None,
    "batches": summed("ml.prediction.batch.size") if last.data else None,
}
telemetry.shutdown(0.0 if asked["into"] == "black hole" else 2.0)
print(json.dumps(said))
print(time.monotonic(), flush=True)
