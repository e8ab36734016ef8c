"""The standard OpenTelemetry exporters of spans and events behind `exporters.Console`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ml import _catalog as names
from otel_ml._delivery import DELIVERED, Delivery
from otel_ml.exporters._console_lines import (
    QUIET_EVENTS,
    RUN_SPANS,
    call_line,
    duration,
    event_line,
    safe,
    span_seconds,
    step_line,
)

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml.exporters._console_screen import Paint, Screen

# Calls whose stages, and runs whose latest step, are remembered until they end themselves.
MAX_OPEN = 1_000


class ConsoleSpans(SpanExporter):
    """A line for each call, its stages on the same line."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stages: dict[int, list[str]] = {}

    def deliver(self, batch: Sequence[ReadableSpan], deadline: float) -> Delivery:  # a line takes no time
        """Write the lines of a batch."""
        paint = self._screen.paint
        refused = 0
        lines: list[str] = []
        for span in batch:
            try:
                lines += self._lines(span, paint)
            except Exception:  # one bad record costs one record
                refused += 1
        return _outcome(self._screen.write(lines), len(batch), refused)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the lines of a batch."""
        return SpanExportResult.FAILURE if self.deliver(spans, 0.0).rejected else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self) -> None:
        """Take the live line away; the stream stays open, it is not ours."""
        self._screen.end()

    def _lines(self, span: ReadableSpan, paint: Paint) -> Sequence[str]:
        attributes = span.attributes or {}
        stage = attributes.get(names.STAGE)
        if isinstance(stage, str) and span.parent is not None:
            self._note(span.parent.span_id, f"{safe(stage)} {duration(span_seconds(span))}")
            return ()
        operation = attributes.get(names.OPERATION)
        if isinstance(operation, str) and operation in RUN_SPANS:
            return ()
        stages = self._stages.pop(span.context.span_id, ()) if span.context is not None else ()
        return (call_line(span, ", ".join(stages), paint),)

    def _note(self, call: int, stage: str) -> None:
        # A stage ends before its call does. A call that is never exported would leave its stages here.
        if len(self._stages) >= MAX_OPEN:
            del self._stages[next(iter(self._stages))]
        self._stages.setdefault(call, []).append(stage)


class ConsoleEvents(LogRecordExporter):
    """A line for each run that begins or ends and each epoch; on a terminal also the latest step, live."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        # By run: what its latest step logged, until the epoch's line has shown it.
        self._latest: dict[object, dict[str, object]] = {}

    def deliver(self, batch: Sequence[ReadableLogRecord], deadline: float) -> Delivery:  # a line takes no time
        """Write the lines of a batch."""
        paint = self._screen.paint
        refused = 0
        lines: list[str] = []
        live = ""
        for record in batch:
            try:
                name = record.log_record.event_name
                if name == names.STEP_COMPLETED:
                    self._note(record)
                    live = step_line(record)
                elif name not in QUIET_EVENTS:
                    lines.append(event_line(record, paint, self._latest_of(record)))
                    live = ""
            except Exception:  # one bad record costs one record
                refused += 1
        return _outcome(self._screen.write(lines, live), len(batch), refused)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write the lines of a batch."""
        return LogRecordExportResult.FAILURE if self.deliver(batch, 0.0).rejected else LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self) -> None:
        """Take the live line away; the stream stays open, it is not ours."""
        self._screen.end()

    def _note(self, record: ReadableLogRecord) -> None:
        attributes = record.log_record.attributes or {}
        if len(self._latest) >= MAX_OPEN:
            self._latest.clear()
        self._latest[attributes.get(names.RUN_ID)] = {
            key: value for key, value in attributes.items() if key.startswith(names.TRAINING_VALUE)
        }

    def _latest_of(self, record: ReadableLogRecord) -> dict[str, object] | None:
        if record.log_record.event_name != names.EPOCH_COMPLETED:
            return None
        return self._latest.pop((record.log_record.attributes or {}).get(names.RUN_ID), None)


def _outcome(written: bool, size: int, refused: int) -> Delivery:  # what write() has just said
    if not written:
        return Delivery(size, "stream_closed")
    return Delivery(refused, "unreadable_record") if refused else DELIVERED
