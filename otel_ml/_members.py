"""What each member of `exporters=[...]` is: an exporter of ours, one of the six standard kinds, or a function that makes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar, cast

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from otel_ml._delivery import Parts
from otel_ml._providers import begin_close
from otel_ml._settings import milliseconds
from otel_ml.errors import ConfigurationError, OtelMLError

if TYPE_CHECKING:
    from otel_ml._providers import Closes

Made = TypeVar("Made")


@dataclass(frozen=True)
class Sorted:
    """The members of `exporters=[...]` by what they are; `parts` are (name, where, parts, the object itself)."""

    parts: tuple[tuple[str, str, Parts, object], ...]
    span_processors: tuple[SpanProcessor, ...]
    record_processors: tuple[LogRecordProcessor, ...]
    readers: tuple[MetricReader, ...]


def sort(members: Sequence[object], interval: float | None, resource: Resource) -> Sorted:
    """Tell what each member is, and build ours; where that fails, close again what functions among them have made."""
    made: list[object] = []
    try:
        return _sort(members, interval, resource, made)
    except BaseException:
        # Processors have threads. They hold nothing yet, so that a second is more than they need.
        closes = [cast("Closes", one) for one in made if hasattr(one, "shutdown")]
        begin_close(closes, monotonic() + 1.0)()
        raise


def _sort(members: Sequence[object], interval: float | None, resource: Resource, made: list[object]) -> Sorted:
    parts: list[tuple[str, str, Parts, object]] = []
    span_processors: list[SpanProcessor] = []
    record_processors: list[LogRecordProcessor] = []
    readers: list[MetricReader] = []
    for given in members:
        one = given
        if not is_exporter(one) and callable(one):
            one = _result(one, "A function in exporters=[...]")
            made.append(one)
        if isinstance(one, SpanProcessor):
            span_processors.append(one)
        if isinstance(one, LogRecordProcessor):
            record_processors.append(one)
        if isinstance(one, MetricReader):
            readers.append(one)
        if not isinstance(one, SpanProcessor | LogRecordProcessor | MetricReader):
            built = _parts(one, resource)
            if interval is not None:
                built = replace(built, interval=interval)
            name = f"{type(one).__name__.lower()}-{len(parts)}"
            describe = getattr(one, "describe", None)
            parts.append((name, describe() if describe is not None else type(one).__qualname__, built, one))
    return Sorted(tuple(parts), tuple(span_processors), tuple(record_processors), tuple(readers))


def check_member(one: object) -> None:
    """Raise `ConfigurationError` for what is no exporter and makes none."""
    if not is_exporter(one) and not callable(one):
        raise _no_exporter(one)


_STANDARD = (SpanExporter, MetricExporter, LogRecordExporter, SpanProcessor, LogRecordProcessor, MetricReader)


def is_exporter(one: object) -> bool:
    """Say whether an object is an exporter, processor or reader, of ours or of OpenTelemetry's; a class is none."""
    return not isinstance(one, type) and (isinstance(one, _STANDARD) or hasattr(one, "build"))


def _parts(one: object, resource: Resource) -> Parts:
    build: Callable[[Resource], Parts] | None = getattr(one, "build", None)
    if build is not None and not isinstance(one, type):
        return _result(lambda: build(resource), f"build() of {type(one).__name__} in exporters=[...]")
    spans = one if isinstance(one, SpanExporter) else None
    metrics = one if isinstance(one, MetricExporter) else None
    events = one if isinstance(one, LogRecordExporter) else None
    if spans is None and metrics is None and events is None:
        raise _no_exporter(one)
    interval, delay = milliseconds("OTEL_METRIC_EXPORT_INTERVAL"), milliseconds("OTEL_BSP_SCHEDULE_DELAY")
    return Parts(spans, metrics, events, interval or 60.0, delay or 1.0)


def _result(make: Callable[[], Made], what: str) -> Made:
    try:
        return make()
    except OtelMLError:
        raise
    except Exception as error:
        # Its text may hold what must not be shown.
        raise ConfigurationError(
            f"{what} raised {type(error).__name__} instead of making an exporter. "
            "Put right what the exception above says, or leave it out of otel_ml.configure()."
        ) from error


def _no_exporter(one: object) -> ConfigurationError:
    kind = one.__name__ if isinstance(one, type) else type(one).__name__
    return ConfigurationError(
        f"exporters=[...] holds {kind!r}, which is no exporter, processor or reader. "
        "Write for example otel_ml.configure(exporters=[otel_ml.exporters.Local()])."
    )
