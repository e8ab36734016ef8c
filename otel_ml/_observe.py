"""The fast path: how one decorated function or `with` block is opened and closed under one state."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from time import perf_counter_ns
from typing import TYPE_CHECKING, cast

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from otel_ml import _catalog as names
from otel_ml._clock import CLOCK
from otel_ml._ledger import FOLD_AT
from otel_ml._otel_private import NO_STATE, SPAN_KEY, SUPPRESS_KEY, get_context, make_context, set_context
from otel_ml._rows import COUNTERS, one, rows
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
# A call without a span has no need of a new context: a variable of its own costs a third.
FRAME: ContextVar[Counted | None] = ContextVar("otel_ml_frame", default=None)
ERROR = Status(StatusCode.ERROR)
MAX_SIZES = 256

Open = Callable[[tuple[object, ...], dict[str, object]], "Frame | None"]


class Path:
    """What a site does under one state: `open` a frame, then `close` or `fail` it. None of them raises."""

    # What a path that observes nothing counts down (`_site.Idle`).
    idle = 0

    __slots__ = (
        "attributes", "by_rows", "call", "counted_class", "labels", "models", "on_end", "open", "close", "series", "site", "span_class",
        "state",
    )  # fmt: skip

    def __init__(self, state: State, site: Site, models: ModelSeries, span_class: type[LightSpan] | None) -> None:
        self.state, self.site, self.models, self.span_class = state, site, models, span_class
        self.labels: Labels = tuple(sorted(site.labels.items()))
        self.series = models.of(self.labels)
        self.attributes: dict[str, AttributeValue] = span_class._attributes if span_class is not None else {}
        self.by_rows: dict[int, dict[str, AttributeValue]] = {}
        self.on_end = state.tracing.on_end
        self.counted_class: type[Counted] = type("Counted", (Counted,), {"path": self})
        self.open: Open = _opens(self)
        self.close: Callable[[Frame, object], None] = _closes(self)

    # ------------------------------------------------------------------------------------------- when it went well
    def finish(self, frame: Frame, result: object) -> None:
        """Close a frame whose current context may not be ours any more (coroutines, generators, `with`)."""
        if isinstance(frame, Counted):
            self._restore(frame)
            self.settle(frame, result)
        elif get_context().get(CALL_KEY) is frame:
            self.close(frame, result)
        else:
            self.settle(frame, result)

    def leave(self, frame: Frame) -> None:
        """Make current what was current before a generator went on; what is current in it waits for `enter`."""
        if isinstance(frame, Counted):
            self._restore(frame)
            return
        frame.inner = get_context()
        set_context(frame.outer)  # type: ignore[arg-type]  # what get_context returned

    def enter(self, frame: Frame) -> None:
        """Make current what was current in a generator, under whatever is current in its consumer now."""
        if isinstance(frame, Counted):
            frame.outer = FRAME.set(frame)
            return
        context, inner = get_context(), frame.inner or {}
        if context is not frame.outer:
            kept = {SPAN_KEY: inner.get(SPAN_KEY, frame), CALL_KEY: inner.get(CALL_KEY, frame)}
            frame.outer, inner = context, Context({**context, **kept})
        set_context(inner)  # type: ignore[arg-type]  # `leave` comes before `enter` and sets it

    def _restore(self, frame: Frame) -> None:
        """Make current what was current before the frame, if the frame (or a child of it) still is."""
        if isinstance(frame, Counted):
            if FRAME.get() is frame:
                FRAME.set(_former(frame))
        elif get_context().get(CALL_KEY) is frame:
            set_context(frame.outer)  # type: ignore[arg-type]  # what get_context returned

    def settle(self, frame: Frame, result: object, outcome: str = names.SUCCESS, ended: int = 0) -> None:
        """Note what a frame that went well took, and hand its span on."""
        ended = ended or perf_counter_ns()
        try:
            self._settle(frame, result, ended, outcome)
        except Exception:
            failed("record a call")

    def _settle(self, frame: Frame, result: object, ended: int, outcome: str) -> None:
        series = self.series
        call = self.site.call(self, frame) if frame.call is None and self.site.remembers else frame.call
        if call is not None:
            series = self.models.of(call.labels) if call.labels is not None else series
            call.ending(result, outcome)
        took = ended - frame.began
        series.add(took, frame.rows)
        if isinstance(frame, LightSpan):
            if outcome is not names.SUCCESS:
                frame.set_attribute(names.OUTCOME, outcome)
            self.end(frame, ended)
        elif took > self.state.slow_ns and isinstance(frame, Unsampled):
            self.late(frame, ended)
        if len(series.values) > FOLD_AT:
            series.fold_soon()

    # ------------------------------------------------------------------------------------------- when it did not
    def fail(self, frame: Frame, error: BaseException) -> None:
        """Close a frame that ended with an exception; the exception itself is left alone."""
        ended = perf_counter_ns()
        try:
            self._restore(frame)
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
        series.add(ended - frame.began, frame.rows)
        if isinstance(frame, LightSpan):
            self._mark(frame, error, kind)
            self.end(frame, ended)
        elif isinstance(frame, Unsampled) and self.state.keeps:
            self._late(frame, ended, names.REASON_ERROR, error)
        if len(series.values) > FOLD_AT:
            series.fold_soon()

    def _mark(self, span: LightSpan, error: BaseException, kind: str) -> None:
        span.set_attribute(names.OUTCOME, names.ERROR)
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(ERROR)
        for key, value in place(error).items():
            span.set_attribute(key, value)

    def late(self, frame: Unsampled, ended: int) -> None:
        """Give a slow unsampled call a span after all."""
        try:
            self._late(frame, ended, names.REASON_SLOW, None)
        except Exception:
            failed("record a slow call")

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
        if frame.call is not None:
            for key, value in frame.call.noted.items():
                span.set_attribute(key, value)  # type: ignore[arg-type]  # set_attribute cleans what it is given
        if error is not None:
            self._mark(span, error, qualified(type(error)))
        self.state.tracing.on_start(span, None)
        self.end(span, ended)

    # ------------------------------------------------------------------------------------------- shared
    def stage(self, frame: Frame, name: str) -> Stage:
        """Begin a part of the call."""
        from otel_ml._scope import Stage

        return Stage(self.state, self.site.model, self.site.version, name, recorded=isinstance(frame, LightSpan))

    def ended(self, span: LightSpan) -> None:
        """Hand on a span whose `_end_time` is set."""
        self.on_end(span)

    def end(self, span: LightSpan, ended: int) -> None:
        """End a span and hand it on, unless the user's own code has ended it."""
        # A span in a queue must not hold the call's result.
        span.call = None
        if span._end_time is None:
            span._end_time = ended + CLOCK.anchor
            self.on_end(span)

    def sized(self, count: int) -> dict[str, AttributeValue]:
        """Return the span's attributes for a batch of `count` rows; shared until they are first written."""
        found = self.by_rows.get(count)
        if found is None:
            # Limits may leave no room for the batch size.
            more = {names.BATCH_SIZE: count} if names.BATCH_SIZE in self.attributes else {}
            found = {**self.attributes, **more}
            if len(self.by_rows) < MAX_SIZES:
                self.by_rows[count] = found
        return found


def _former(frame: Counted) -> Counted | None:
    """Return what was current before the frame; its token can be spent only in the context that made it."""
    former = frame.outer.old_value  # type: ignore[attr-defined]  # the token that FRAME.set returned
    return None if former is Token.MISSING else cast("Counted | None", former)


def current_frame() -> object:
    """Return the innermost frame or run around the caller, or None."""
    counted, other = FRAME.get(), get_context().get(CALL_KEY)
    if counted is None or other is None:
        return counted if other is None else other
    return counted if counted.began > other.began else other  # type: ignore[attr-defined]  # a frame or a run


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
    opened, skip, tracing = path.models.opened, site.skip, state.tracing
    bound = tracing.bound
    always = bound == EVERY
    now, clock, get, put, suppress, key = perf_counter_ns, CLOCK, get_context, set_context, SUPPRESS_KEY, SPAN_KEY
    new = cast("Callable[[type[LightSpan] | None], LightSpan]", object.__new__)  # None only where `counted` is used
    frame_set, counters, sampled_flags = FRAME.set, COUNTERS, SAMPLED
    new_counted = path.counted_class

    single: object = None

    def size(args: tuple[object, ...], kwargs: dict[str, object]) -> int:
        nonlocal single
        batch = args[skip] if len(args) > skip else next(iter(kwargs.values()), None)
        count = rows(batch)
        if not skip and counters.get(id(type(batch))) is one:
            # The next argument of this class is known to be one row by one comparison.
            single = type(batch)
        return count

    def counted(args: tuple[object, ...], kwargs: dict[str, object]) -> Frame | None:
        context = get()
        if context and suppress in context:
            return None
        opened(None)
        frame = new_counted()
        if not args or type(args[0]) is not single:
            frame.rows = size(args, kwargs)
        frame.outer = frame_set(frame)
        frame.began = now()
        return frame

    def ask(
        context: Context, parent: SpanContext | None, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Frame | None:
        try:
            frame = tracing.ask(path, context, parent, size(args, kwargs))
        except Exception:
            failed("ask the sampler")
            return counted(args, kwargs)
        opened(None)
        return frame

    def open_(args: tuple[object, ...], kwargs: dict[str, object]) -> Frame | None:
        context = get()
        parent = None
        if context:
            if suppress in context:
                return None
            current = context.get(key)
            if current is not None:
                parent = current.get_span_context()  # type: ignore[attr-defined]  # what the API keeps there is a Span
                if not parent.is_valid:
                    parent = None
        if bound is None:
            return ask(context, parent, args, kwargs)
        if parent is None:
            trace_id = draw(128) or 1
            if not always and trace_id & _LOW_BITS >= bound:
                opened(None)
                root = Unsampled()
                root.path, root.call, root.inner = path, None, None
                root.rows, root.outer = size(args, kwargs), context
                root.trace_id = trace_id
                put(Context({**context, key: root, CALL_KEY: root}) if context else Context({key: root, CALL_KEY: root}))
                root.began = now()
                return root
            span = new(span_class)
            span._context = make_context(trace_id, draw(64) or 1, sampled_flags, NO_STATE)
        elif parent.trace_flags & 1:
            span = new(span_class)
            flags = parent.trace_flags & sampled_flags
            span._context = make_context(
                parent.trace_id, draw(64) or 1, sampled_flags if flags == sampled_flags else TraceFlags(flags), parent.trace_state
            )
            span._parent = parent
        else:
            return counted(args, kwargs)
        opened(None)
        count = 1 if args and type(args[0]) is single else size(args, kwargs)
        if count != 1:
            span._attributes = path.by_rows.get(count) or path.sized(count)
            span.rows = count
        span.path, span.outer = path, context
        put(Context({**context, key: span, CALL_KEY: span}) if context else Context({key: span, CALL_KEY: span}))
        span.began = began = now()
        span._start_time = began + clock.anchor
        if tracing.foreign:
            tracing.on_start(span, context)
        return span

    chosen: Open = open_ if span_class is not None else counted

    def open_and_note(args: tuple[object, ...], kwargs: dict[str, object]) -> Frame | None:
        frame = chosen(args, kwargs)
        if frame is not None:
            site.note(path, frame, args, kwargs)
        return frame

    return open_and_note if site.remembers else chosen


def _closes(path: Path) -> Callable[[Frame, object], None]:
    """Make `close` for a plain function: stop the clock, restore the context, note, hand on."""
    series, now, clock, fold_at, tracing = path.series, perf_counter_ns, CLOCK, FOLD_AT, path.state.tracing
    note, size, values, slow = series.note, series.size, series.values, path.state.slow_ns
    remembers, put, frame_reset, takes = path.site.remembers, set_context, FRAME.reset, tracing.takes
    light = path.span_class if tracing.bound is not None else None
    counted = path.counted_class

    def close_counted(frame: Frame, result: object) -> None:
        ended = now()
        try:
            frame_reset(frame.outer)  # type: ignore[arg-type]  # the token that FRAME.set returned, in this context
            call = frame.call
            if call is not None:
                if call.loud or remembers:
                    path.settle(frame, result, ended=ended)
                    return
                call.ended(result)
            # A size of one is not noted: the series tells by how many more durations than sizes there are.
            if frame.rows != 1:
                size(frame.rows)
            note(ended - frame.began)
            if len(values) > fold_at:
                series.fold_soon()
        except Exception:
            failed("record a call")

    def close(frame: Frame, result: object) -> None:
        ended = now()
        kind = type(frame)
        if kind is counted:
            close_counted(frame, result)
            return
        try:
            put(frame.outer)  # type: ignore[arg-type]  # what get_context returned
            call = frame.call
            if call is not None:
                if call.loud or remembers:
                    path.settle(frame, result, ended=ended)
                    return
                call.ended(result)
                if kind is not Unsampled:
                    # A span in a queue must not hold the call's result.
                    frame.call = None
            took = ended - frame.began
            if frame.rows != 1:
                size(frame.rows)
            note(took)
            if kind is light and not tracing.foreign and frame._end_time is None:  # type: ignore[union-attr]  # a LightSpan
                frame._end_time = ended + clock.anchor  # type: ignore[union-attr]  # likewise
                for take in takes:
                    take(frame)  # type: ignore[arg-type]  # likewise
            elif kind is Unsampled:
                if took > slow:
                    path.late(frame, ended)  # type: ignore[arg-type]  # an Unsampled
            else:
                path.end(frame, ended)  # type: ignore[arg-type]  # a LightSpan
            if len(values) > fold_at:
                series.fold_soon()
        except Exception:
            failed("record a call")

    return close if path.span_class is not None else close_counted


# The official ratio sampler looks at the low 64 bits of a trace id; so do we, and both agree on every trace.
_LOW_BITS = (1 << 64) - 1
EVERY = 1 << 64
