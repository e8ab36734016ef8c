"""The fast path: what is done on the user's stack before and after a plain call."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, cast

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags

from otel_ml._clock import CLOCK
from otel_ml._frames import CALL_KEY, FRAME
from otel_ml._ledger import FOLD_AT
from otel_ml._otel_private import NO_STATE, SPAN_KEY, SUPPRESS_KEY, get_context, hold, make_context, put_context
from otel_ml._rows import COUNTERS, one, rows
from otel_ml._shield import failed
from otel_ml._span import SAMPLED, Frame, LightSpan, Unsampled, draw

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otel_ml._observe import Path

Open = Callable[[tuple[object, ...], dict[str, object]], "Frame | None"]

# The official ratio sampler looks at the low 64 bits of a trace id; so do we, and both agree on every trace.
_LOW_BITS = (1 << 64) - 1
EVERY = 1 << 64


def opens(path: Path) -> Open:
    """Make `open`: find the parent, decide, start the clock, and make the frame current."""
    state, site, span_class = path.state, path.site, path.span_class
    opened, skip, tracing = path.models.opened, site.skip, state.tracing
    bound = tracing.bound
    always = bound == EVERY
    now, clock, get, put, suppress, key = perf_counter_ns, CLOCK, get_context, put_context, SUPPRESS_KEY, SPAN_KEY
    new = cast("Callable[[], LightSpan]", span_class)  # None only where `counted` is used
    frame_set, counters, sampled_flags = FRAME.set, COUNTERS, SAMPLED
    new_counted, holds = path.counted_class, hold

    single: type[object] | None = None

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
        _held = holds()  # for as long as the variable is being set
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
            current: Span | None = context.get(key)  # type: ignore[assignment]  # what the API keeps there is a Span
            if current is not None:
                parent = current.get_span_context()
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
                root.rows = 1 if args and type(args[0]) is single else size(args, kwargs)
                root.outer = context
                root.trace_id = trace_id
                _held = holds()  # as above
                put(
                    Context({**context, key: root, CALL_KEY: root}) if context else Context({key: root, CALL_KEY: root})
                )
                root.began = now()
                return root
            span = new()
            span._context = make_context(trace_id, draw(64) or 1, sampled_flags, NO_STATE)
        elif parent.trace_flags & 1:
            span = new()
            flags = parent.trace_flags & sampled_flags
            span._context = make_context(
                parent.trace_id,
                draw(64) or 1,
                sampled_flags if flags == sampled_flags else TraceFlags(flags),
                parent.trace_state,
            )
            span._parent = parent
        else:
            return counted(args, kwargs)
        opened(None)
        count = 1 if args and type(args[0]) is single else size(args, kwargs)
        if count != 1:
            span._attributes = path.by_rows.get(count) or path.sized(count)
        # Read again in `close`: from the object, which CPython 3.11 specialises, not from its class, which it does not.
        span.rows, span.call, span._end_time = count, None, None
        span.path, span.outer = path, context
        _held = holds()  # as above
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
            try:
                site.note(path, frame, args, kwargs)
            except BaseException as error:  # an interrupt while the user's `id=` ran: the frame must not stay current
                path.fail(frame, error)
                raise
        return frame

    if path.look is None:
        return open_and_note if site.remembers else chosen
    look, opened_ = path.look, open_and_note if site.remembers else chosen

    def open_and_look(args: tuple[object, ...], kwargs: dict[str, object]) -> Frame | None:
        frame = opened_(args, kwargs)
        if frame is not None:
            look.inputs(frame, args[skip] if len(args) > skip else next(iter(kwargs.values()), None))
        return frame

    return open_and_look


def closes(path: Path) -> Callable[[Frame, object], None]:
    """Make `close` for a plain function: stop the clock, restore the context, note, hand on."""
    series, now, fold_at, tracing = path.series, perf_counter_ns, FOLD_AT, path.state.tracing
    note, size, values, slow = series.note, series.size, series.values, path.state.slow_ns
    remembers, put, frame_reset, takes = path.site.remembers, put_context, FRAME.reset, tracing.takes
    light = path.span_class if tracing.bound is not None else None
    counted, holds = path.counted_class, hold

    def close_counted(frame: Frame, result: object) -> None:
        ended = now()
        try:
            _held = holds()  # as in `open`
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
            _held = holds()  # as in `open`
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
                frame._end_time = frame._start_time + took  # type: ignore[union-attr, operator]  # likewise
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

    if path.look is None:
        return close if path.span_class is not None else close_counted

    def close_and_look(frame: Frame, result: object) -> None:
        ended = now()
        try:
            _held = holds()  # as in `open`
            if type(frame) is counted:
                frame_reset(frame.outer)  # type: ignore[arg-type]  # as above
            else:
                put(frame.outer)  # type: ignore[arg-type]  # as above
            path.settle(frame, result, ended=ended)
        except Exception:
            failed("record a call")

    return close_and_look
