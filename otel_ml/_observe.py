"""The fast path: how one decorated function or `with` block is opened and closed under one state."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from otel_ml import _catalog as names
from otel_ml._clock import CLOCK
from otel_ml._ledger import FOLD_AT
from otel_ml._otel_private import NO_STATE, SPAN_KEY, SUPPRESS_KEY, get_context, make_context, set_context
from otel_ml._rows import rows
from otel_ml._shield import failed
from otel_ml._span import SAMPLED, Counted, Frame, LightSpan, Unsampled, draw
from otel_ml._values import qualified

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_ml._predictions import Labels, ModelSeries
    from otel_ml._scope import Stage
    from otel_ml._site import Site
    from otel_ml._state import State

# The key under which the current Call or Run is kept, beside the current span.
CALL_KEY = "otel_ml-call"
ERROR = Status(StatusCode.ERROR)
MAX_SIZES = 256

Open = Callable[[tuple[object, ...], dict[str, object]], "Frame | None"]


class Path:
    """What a site does under one state: `open` a frame, then `close` or `fail` it. None of them raises."""

    __slots__ = (
        "attributes", "by_rows", "call", "labels", "models", "on_end", "open", "close", "series", "site", "span_class",
        "state",
    )  # fmt: skip

    def __init__(self, state: State, site: Site, models: ModelSeries, span_class: type[LightSpan] | None) -> None:
        self.state, self.site, self.models, self.span_class = state, site, models, span_class
        self.labels: Labels = tuple(sorted(site.labels.items()))
        self.series = models.of(self.labels)
        self.attributes: dict[str, AttributeValue] = span_class._attributes if span_class is not None else {}  # type: ignore[assignment]  # a LightSpan's are a dict
        self.by_rows: dict[int, dict[str, AttributeValue]] = {}
        self.on_end = state.tracing.on_end
        self.open: Open = _opens(self)
        self.close: Callable[[Frame, object], None] = _closes(self)

    # ------------------------------------------------------------------------------------------- when it went well
    def finish(self, frame: Frame, result: object) -> None:
        """Close a frame whose current context may not be ours any more (coroutines, generators, `with`)."""
        self.leave(frame)
        self.settle(frame, result)

    def leave(self, frame: Frame) -> None:
        """Make current what was current before the frame, if the frame (or a child of it) still is."""
        if get_context().get(CALL_KEY) is frame:
            set_context(frame.outer)  # type: ignore[arg-type]  # what get_context returned

    def enter(self, frame: Frame) -> None:
        """Make the frame current, remembering what was."""
        context = get_context()
        frame.outer = context
        if isinstance(frame, Counted):
            set_context(Context({**context, CALL_KEY: frame}))
        else:
            set_context(Context({**context, SPAN_KEY: frame, CALL_KEY: frame}))

    def settle(self, frame: Frame, result: object, outcome: str = names.SUCCESS, ended: int = 0) -> None:
        """Note what a frame that went well took, and hand its span on."""
        ended = ended or perf_counter_ns()
        try:
            self._settle(frame, result, ended, outcome)
        except Exception:
            failed("record a call")

    def _settle(self, frame: Frame, result: object, ended: int, outcome: str) -> None:
        call, series = frame.call, self.series
        if call is not None or self.site.remembers:
            call = call if call is not None else self.site.call(self, frame)
            series = self.models.of(call.labels) if call.labels is not None else series
            call.ending(result, outcome)
        took = ended - frame.began
        series.note(took)
        series.size(frame.rows)
        if isinstance(frame, LightSpan):
            if outcome is not names.SUCCESS:
                frame.set_attribute(names.OUTCOME, outcome)
            self._end(frame, ended)
        elif took > self.state.slow_ns and isinstance(frame, Unsampled):
            self._late(frame, ended, names.REASON_SLOW, None)
        if len(series.durations.values) > FOLD_AT:
            series.fold_soon()

    # ------------------------------------------------------------------------------------------- when it did not
    def fail(self, frame: Frame, error: BaseException) -> None:
        """Close a frame that ended with an exception; the exception itself is left alone."""
        ended = perf_counter_ns()
        try:
            self.leave(frame)
            self._fail(frame, error, ended)
        except Exception:
            failed("record a failed call")

    def _fail(self, frame: Frame, error: BaseException, ended: int) -> None:
        if is_cancellation(error):
            self._settle(frame, None, ended, names.CANCELLED)
            return
        call = frame.call
        if call is not None:
            call.ending(None, names.ERROR)
        labels = call.labels if call is not None and call.labels is not None else self.labels
        kind = qualified(type(error))
        series = self.models.of(labels, kind)
        series.note(ended - frame.began)
        series.size(frame.rows)
        if isinstance(frame, LightSpan):
            self._mark(frame, error, kind)
            self._end(frame, ended)
        elif isinstance(frame, Unsampled) and self.state.keeps:
            self._late(frame, ended, names.REASON_ERROR, error)

    def _mark(self, span: LightSpan, error: BaseException, kind: str) -> None:
        span.set_attribute(names.OUTCOME, names.ERROR)
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(ERROR)
        for key, value in place(error).items():
            span.set_attribute(key, value)

    def _late(self, frame: Unsampled, ended: int, reason: str, error: BaseException | None) -> None:
        """Build the span of an unsampled root call after the fact: it was slow or it failed."""
        if self.span_class is None or not self.state.may_keep():
            return
        context = frame.get_span_context()
        span: LightSpan = object.__new__(self.span_class)
        span._context = make_context(context.trace_id, context.span_id, SAMPLED, NO_STATE)
        span.began, span.rows, span._start_time = frame.began, frame.rows, frame.began + CLOCK.anchor
        if span.rows != 1:
            span._attributes = self.sized(span.rows)
        span.set_attribute(names.SAMPLING_REASON, reason)
        for key, value in (frame.call.noted if frame.call is not None else {}).items():
            span.set_attribute(key, value)
        if error is not None:
            self._mark(span, error, qualified(type(error)))
        self.state.tracing.on_start(span, None)
        self._end(span, ended)

    # ------------------------------------------------------------------------------------------- shared
    def stage(self, frame: Frame, name: str) -> Stage:
        """Begin a part of the call."""
        from otel_ml._scope import Stage

        return Stage(self.state, self.site.model, self.site.version, name, recorded=isinstance(frame, LightSpan))

    def ended(self, span: LightSpan) -> None:
        """Hand on a span whose `_end_time` is set."""
        self.on_end(span)

    def _end(self, span: LightSpan, ended: int) -> None:
        if span._end_time is None:
            span._end_time = ended + CLOCK.anchor
            self.on_end(span)

    def sized(self, count: int) -> dict[str, AttributeValue]:
        """Return the span's attributes for a batch of `count` rows; shared until they are first written."""
        found = self.by_rows.get(count)
        if found is None:
            found = {**self.attributes, names.BATCH_SIZE: count}
            if len(self.by_rows) < MAX_SIZES:
                self.by_rows[count] = found
        return found


def current_frame() -> object:
    """Return the frame or run around the caller, or None."""
    return get_context().get(CALL_KEY)


def is_cancellation(error: BaseException) -> bool:
    """Say whether an exception means that the call was not wanted any more, rather than that it failed."""
    if isinstance(error, GeneratorExit):
        return True
    if isinstance(error, SystemExit):
        return error.code in (None, 0)
    return qualified(type(error)) in _CANCELLATIONS or _is_cancelled_error(error)


_CANCELLATIONS = frozenset({"trio.Cancelled", "asyncio.exceptions.CancelledError"})


def _is_cancelled_error(error: BaseException) -> bool:
    import sys

    asyncio = sys.modules.get("asyncio.exceptions")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def place(error: BaseException) -> dict[str, AttributeValue]:
    """Return where an exception was raised: function, file and line, never its text."""
    trace = error.__traceback__
    if trace is None:
        return {}
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return {names.CODE_FUNCTION: code.co_qualname, names.CODE_FILE: code.co_filename, names.CODE_LINE: trace.tb_lineno}


def _opens(path: Path) -> Open:
    """Make `open`: find the parent, decide, start the clock, and make the frame current."""
    state, site, span_class = path.state, path.site, path.span_class
    opened, skip = path.models.opened, site.skip
    bound = state.tracing.bound
    always = bound == EVERY
    tracing, new, now, clock = state.tracing, object.__new__, perf_counter_ns, CLOCK

    def open_(args: tuple[object, ...], kwargs: dict[str, object]) -> Frame | None:
        context = get_context()
        parent = None
        if context:
            if SUPPRESS_KEY in context:
                return None
            current = context.get(SPAN_KEY)
            if current is not None:
                parent = current.get_span_context()  # type: ignore[attr-defined]  # what the API keeps there is a Span
                if not parent.is_valid:
                    parent = None
        opened(None)
        count = rows(args[skip]) if len(args) > skip else 1 if not kwargs else rows(next(iter(kwargs.values())))
        frame: Frame
        if span_class is None:
            frame = Counted()
            frame.path, frame.rows, frame.outer, frame.began = path, count, context, now()
            set_context(Context({**context, CALL_KEY: frame}))
            return frame
        if bound is None:
            return tracing.ask(path, context, parent, count)
        if parent is None:
            trace_id = draw(128) or 1
            if always or trace_id & _LOW_BITS < bound:
                span = new(span_class)
                span._context = make_context(trace_id, draw(64) or 1, SAMPLED, NO_STATE)
            else:
                frame = Unsampled()
                frame._trace_id = trace_id
                frame.path, frame.rows, frame.outer, frame.began = path, count, context, now()
                set_context(Context({**context, SPAN_KEY: frame, CALL_KEY: frame}))
                return frame
        elif parent.trace_flags & 1:
            span = new(span_class)
            flags = SAMPLED if parent.trace_flags == SAMPLED else TraceFlags(parent.trace_flags & SAMPLED)
            span._context = make_context(parent.trace_id, draw(64) or 1, flags, parent.trace_state)
            span._parent = parent
        else:
            frame = Counted()
            frame.path, frame.rows, frame.outer, frame.began = path, count, context, now()
            set_context(Context({**context, CALL_KEY: frame}))
            return frame
        if count != 1:
            span._attributes = path.by_rows.get(count) or path.sized(count)
            span.rows = count
        span.path, span.outer = path, context
        span.began = began = now()
        span._start_time = began + clock.anchor
        if tracing.foreign:
            tracing.on_start(span, context)
        set_context(Context({**context, SPAN_KEY: span, CALL_KEY: span}))
        return span

    if not site.remembers:
        return open_

    def open_and_note(args: tuple[object, ...], kwargs: dict[str, object]) -> Frame | None:
        frame = open_(args, kwargs)
        if frame is not None:
            site.note(path, frame, args, kwargs)
        return frame

    return open_and_note


def _closes(path: Path) -> Callable[[Frame, object], None]:
    """Make `close` for a plain function: stop the clock, restore the context, note, hand on."""
    series, now, clock, on_end, fold_at = path.series, perf_counter_ns, CLOCK, path.on_end, FOLD_AT
    note, size, values, slow = series.note, series.size, series.durations.values, path.state.slow_ns
    remembers, spans = path.site.remembers, path.span_class is not None

    def close(frame: Frame, result: object) -> None:
        ended = now()
        set_context(frame.outer)  # type: ignore[arg-type]  # what get_context returned
        took = ended - frame.began
        if frame.call is not None or remembers or took > slow:
            path.settle(frame, result, ended=ended)
            return
        note(took)
        size(frame.rows)
        if spans and type(frame) is not Counted and type(frame) is not Unsampled and frame._end_time is None:
            frame._end_time = ended + clock.anchor
            on_end(frame)
        if len(values) > fold_at:
            series.fold_soon()

    return close


# The official ratio sampler looks at the low 64 bits of a trace id; so do we, and both agree on every trace.
_LOW_BITS = (1 << 64) - 1
EVERY = 1 << 64
