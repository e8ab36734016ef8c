"""Spans that are not the fast path: stages of a call, training runs, epochs, evaluations and checkpoints."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags

from otel_ml import _catalog as names
from otel_ml._clock import CLOCK
from otel_ml._fast import EVERY
from otel_ml._frames import CALL_KEY, is_cancellation, place
from otel_ml._late import may_keep
from otel_ml._observe import ERROR
from otel_ml._otel_private import NO_STATE, SPAN_KEY, get_context, make_context, set_context
from otel_ml._shield import failed, hold_context
from otel_ml._span import SAMPLED, LightSpan, Unsampled, draw
from otel_ml._values import qualified

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otel_ml._state import State

_LOW_BITS = (1 << 64) - 1


class Scope:
    """One span around a block, begun and ended by hand; `span` is None where it is not recorded.

    `facade` is what `otel_ml.current()` gives inside; None leaves that as it is.
    """

    __slots__ = ("_context", "_facade", "_outer", "_spare", "_state", "began", "span")

    def __init__(self, state: State, span_class: type[LightSpan] | None, facade: object = None) -> None:
        self._state, self._facade = state, facade
        self._outer = context = get_context()
        self.span = self._open(span_class, context) if span_class is not None else None
        self.began = perf_counter_ns()
        inner: dict[str, object] = dict(context)
        if isinstance(self.span, LightSpan):
            self.span.began, self.span._start_time = self.began, self.began + CLOCK.anchor
            state.tracing.on_start(self.span, context)
        if self.span is not None:
            inner[SPAN_KEY] = self.span
        if facade is not None:
            inner[CALL_KEY] = facade
        self._context = Context(inner)
        set_context(self._context)

    @property
    def context(self) -> SpanContext | None:
        """The ids of the span, or of the one around it."""
        current = self.span if self.span is not None else self._outer.get(SPAN_KEY)
        return current.get_span_context() if current is not None else None  # type: ignore[attr-defined]  # the API keeps a Span there

    def set(self, key: str, value: AttributeValue) -> None:
        """Put an attribute on the span, or on the one that an unsampled root gets if it fails."""
        span = self._spare if isinstance(self.span, Unsampled) else self.span
        if span is not None:
            span.set_attribute(key, value)

    def attach(self) -> None:
        """Make this scope current again, under whatever is current now."""
        self._outer = get_context()
        set_context(self._context)

    def pause(self) -> None:
        """Make current what was before; what is current now waits for `attach`."""
        self._context = get_context()
        set_context(self._outer)

    def detach(self) -> None:
        """Make current what was before, if this scope, or something begun in it, still is."""
        now = get_context()
        ours = now is self._context
        if not ours and self.span is not None:
            ours = now.get(SPAN_KEY) is self.span
        if not ours and self._facade is not None:
            ours = now.get(CALL_KEY) is self._facade
        if ours:
            set_context(self._outer)

    def end(self, error: BaseException | None = None, outcome: str | None = None) -> float:
        """End the span and restore the context; return how long it took, in seconds."""
        ended = perf_counter_ns()
        try:
            if type(error) is GeneratorExit:
                hold_context()
            self.detach()
            span = self._late(self.span, error) if isinstance(self.span, Unsampled) else self.span
            if span is not None and span._end_time is None:
                if error is not None and not is_cancellation(error):
                    span.set_attribute(names.ERROR_TYPE, qualified(type(error)))
                    span.set_status(ERROR)
                    for key, value in place(error).items():
                        span.set_attribute(key, value)
                if outcome is not None:
                    span.set_attribute(names.RUN_OUTCOME, outcome)
                span._end_time = span.ends_at(ended)
                self._state.tracing.on_end(span)
        except Exception:
            failed("end a span")
        return (ended - self.began) / 1e9

    def _open(self, span_class: type[LightSpan], context: Context) -> LightSpan | Unsampled | None:
        current: Span | None = context.get(SPAN_KEY)  # type: ignore[assignment]  # likewise
        parent = current.get_span_context() if current is not None else None
        if parent is not None and not parent.is_valid:
            parent = None
        bound = self._state.tracing.bound
        if bound is None:
            decided = self._state.tracing.decide(span_class, parent)
            if isinstance(decided, Unsampled):
                # Under a parent its decision stands.
                self._spare = self._in_reserve(span_class) if parent is None else None
            return decided
        trace_id = parent.trace_id if parent is not None else draw(128) or 1
        drawn = bound == EVERY or trace_id & _LOW_BITS < bound
        sampled = drawn if parent is None else bool(parent.trace_flags & 1)
        if not sampled:
            if parent is not None:
                return None
            root = Unsampled()
            root.trace_id, root.call, root.inner = trace_id, None, None
            self._spare = self._in_reserve(span_class)
            return root
        span: LightSpan = object.__new__(span_class)
        flags = SAMPLED if parent is None else TraceFlags(parent.trace_flags & SAMPLED)
        span._context = make_context(
            trace_id, draw(64) or 1, flags, parent.trace_state if parent is not None else NO_STATE
        )
        span._parent = parent
        return span

    def _in_reserve(self, span_class: type[LightSpan]) -> LightSpan | None:
        """Make a span that takes attributes now, and is handed on only if what it stands for fails."""
        return object.__new__(span_class) if self._state.keeps else None

    def _late(self, root: Unsampled, error: BaseException | None) -> LightSpan | None:
        """Return the span of an unsampled root that failed, once. Being slow is no reason: every run is."""
        span, self._spare = self._spare, None
        if span is None or error is None or is_cancellation(error) or not may_keep():
            return None
        context = root.get_span_context()
        span._context = make_context(context.trace_id, context.span_id, SAMPLED, NO_STATE)
        span.began, span._start_time = self.began, self.began + CLOCK.anchor
        span.set_attribute(names.SAMPLING_REASON, names.REASON_ERROR)
        self._state.tracing.on_start(span, None)
        return span


def outcome_of(error: BaseException | None) -> str:
    """Return `success`, `cancelled` or `error` for what ended a block."""
    if error is None:
        return names.SUCCESS
    return names.CANCELLED if is_cancellation(error) else names.ERROR


class Stage:
    """A part of a call: a child span where the call has one, and a duration in any case."""

    __slots__ = ("_ledger", "_scope", "_series")

    def __init__(self, state: State, model: str, version: str | None, name: str, *, recorded: bool) -> None:
        from otel_ml._state import identity

        facts = identity(model, version)
        self._ledger = state.ledger
        self._series = state.ledger.series(names.PREDICTION_STAGE_DURATION, {**facts, names.STAGE: name})
        span_class = state.part_class(name, {**facts, names.STAGE: name}) if recorded else None
        self._scope = Scope(state, span_class)

    def end(self, error: BaseException | None) -> None:
        """End the stage."""
        self._ledger.note(self._series, int(self._scope.end(error) * 1e9))
