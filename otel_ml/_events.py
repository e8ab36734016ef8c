"""Events (OpenTelemetry log records with a name): light in the caller, standard records once a sender takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.trace import SpanContext, TraceFlags

from otel_ml._deferred import Deferred

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope


class Event:
    """What happened, when, and in which trace. `attributes` belong to the event; `text` is the length of their strings.

    `segments` is for checks alone: it is not exported.
    """

    __slots__ = ("attributes", "context", "name", "segments", "time", "weight")

    def __init__(
        self,
        name: str,
        time: int,
        attributes: dict[str, object],
        context: SpanContext | None,
        text: int,
    ) -> None:
        self.name, self.time, self.attributes, self.context = name, time, attributes, context
        self.segments: dict[str, str] | None = None
        # Slots of 512 bytes in a queue: the event itself, then its attributes (60 bytes each) and their texts.
        self.weight = 1 + (len(attributes) + text // 64) // 8


def record(event: Event) -> LogRecord:
    """Return the event as the OpenTelemetry API has it."""
    for key, value in event.attributes.items():
        if type(value) is Deferred:
            event.attributes[key] = value.read()
    made = LogRecord(
        timestamp=event.time,
        observed_timestamp=event.time,
        severity_number=SeverityNumber.INFO,
        severity_text="INFO",
        attributes=event.attributes,  # type: ignore[arg-type]  # cleaned where they were put in
        event_name=event.name,
    )
    context = event.context
    if context is not None and context.is_valid:
        made.trace_id, made.span_id, made.trace_flags = context.trace_id, context.span_id, context.trace_flags
    else:
        made.trace_id, made.span_id, made.trace_flags = 0, 0, TraceFlags.get_default()
    return made


def readable(event: Event, resource: Resource, scope: InstrumentationScope) -> ReadableLogRecord:
    """Return the event as exporters take it."""
    return ReadableLogRecord(record(event), resource, scope)


def writable(event: Event, resource: Resource, scope: InstrumentationScope) -> ReadWriteLogRecord:
    """Return the event as processors take it."""
    return ReadWriteLogRecord(record(event), resource, scope)


def emit(event: Event, logger: Logger) -> None:
    """Hand the event to a host's logger."""
    logger.emit(record(event))
