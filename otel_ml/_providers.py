"""What stands between our state and standard providers: where the user's own records go, and how others are closed."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_ml._otel_private import SUPPRESS_KEY, get_context, on_ending
from otel_ml._request import Answer
from otel_ml._shield import failed

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_ml._metrics import Source
    from otel_ml._sink import Sink


# The providers that we made, lest they are taken for a host's: OpenTelemetry keeps the global ones for ever.
OURS: WeakSet[object] = WeakSet()


class Outlet:
    """Where the spans and records go that a user makes with our providers, and what collects the user's instruments.

    Others go on using providers when we have new ones: a forked child those of its parent, and whoever uses
    OpenTelemetry's global ones those that were set first. `move` has what they make go to where it belongs now.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        span_processors: Sequence[SpanProcessor] = (),
        record_processors: Sequence[LogRecordProcessor] = (),
        sources: Sequence[Source] = (),
    ) -> None:
        self.sinks, self.sources = sinks, sources
        self.span_processors, self.record_processors = span_processors, record_processors
        self._to: Callable[[], Outlet] | None = None

    def now(self) -> Outlet:
        """Return the outlet to use: this one, or the one it was moved to."""
        return self if self._to is None else self._to().now()

    def move(self, to: Callable[[], Outlet]) -> None:
        """Send everything elsewhere from now on."""
        self._to = to


class OwnSpans(SpanProcessor):
    """Takes the spans a user makes with our tracer provider to sinks and processors. The SDK wants a subclass."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell processors that are not ours."""
        try:
            for processor in self._outlet.now().span_processors:
                processor.on_start(span, parent_context=parent_context)
        except Exception:
            failed("call a span processor")

    def _on_ending(self, span: Span) -> None:
        try:
            for processor in self._outlet.now().span_processors:
                ending = on_ending(processor)
                if ending is not None:
                    ending(span)
        except Exception:
            failed("call a span processor")

    def on_end(self, span: ReadableSpan) -> None:
        """Hand a span on."""
        context = span.context
        try:
            outlet = self._outlet.now()
            if context is not None and context.trace_flags.sampled:
                for sink in outlet.sinks:
                    if sink.parts.spans is not None:
                        sink.span(span)
            for processor in outlet.span_processors:
                processor.on_end(span)
        except Exception:
            failed("take a span")

    def shutdown(self) -> None:
        """Shut processors down; the state shuts its sinks down."""
        for processor in self._outlet.now().span_processors:
            processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush processors; the state flushes its sinks."""
        return all([one.force_flush(timeout_millis) for one in self._outlet.now().span_processors])


class OwnRecords(LogRecordProcessor):
    """Takes the records a user emits with our logger provider to sinks and processors. The SDK wants a subclass."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Hand a record on."""
        try:
            outlet = self._outlet.now()
            # What an exporter's library logs while it sends (urllib3 does, at DEBUG) would be sent, and logged, for ever.
            for sink in outlet.sinks if SUPPRESS_KEY not in get_context() else ():
                if sink.parts.events is not None:
                    sink.start()
                    sink.event(log_record)
            for processor in outlet.record_processors:
                processor.on_emit(log_record)
        except Exception:
            failed("take a log record")

    def shutdown(self) -> None:
        """Shut processors down; the state shuts its sinks down."""
        for processor in self._outlet.now().record_processors:
            processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush processors; the state flushes its sinks."""
        return all([one.force_flush(timeout_millis) for one in self._outlet.now().record_processors])


class Closes(Protocol):
    """A standard processor or reader."""

    def shutdown(self) -> object: ...
    def force_flush(self, timeout_millis: int, /) -> object: ...


# Waits for what has begun; False if something was not done by the deadline, or said so.
Wait = Callable[[], bool]


def begin_close(foreign: Sequence[Closes], deadline: float) -> Wait:
    """Begin to shut everything down, all at once."""
    return _begin([one.shutdown for one in foreign], deadline)


def begin_flush(foreign: Sequence[Closes], deadline: float) -> Wait:
    """Begin to flush everything, all at once."""
    left = max(1, int((deadline - monotonic()) * 1_000))
    return _begin([lambda one=one: one.force_flush(left) for one in foreign], deadline)  # type: ignore[misc]  # bound as default


def _begin(tasks: Sequence[Callable[[], object]], deadline: float) -> Wait:
    answers = [Answer() for _ in tasks]
    later: list[tuple[Callable[[], object], Answer]] = []

    def run(task: Callable[[], object], answer: Answer) -> None:
        try:
            answer.give(task() is not False)
        except BaseException:  # also what would end a thread of its own without a word
            answer.give(False)
            failed("close a processor")

    def wait() -> bool:
        for task, answer in later:
            run(task, answer)
        return all([answer.wait(deadline) is True for answer in answers])

    for task, answer in zip(tasks, answers, strict=True):
        try:
            # `threading.Thread` takes a lock to start, which a signal handler may have interrupted somebody holding.
            start_new_thread(run, (task, answer))
        except RuntimeError:
            # CPython 3.12.0-3.12.2 starts no thread at exit: then one after the other.
            later.append((task, answer))
    return wait
