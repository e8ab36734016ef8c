"""How one decorated function or `with` block is observed under one state, whatever becomes of the call."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, cast

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from otel_ml import _catalog as names
from otel_ml._clock import CLOCK
from otel_ml._fast import Open, closes, opens
from otel_ml._frames import CALL_KEY, FRAME, former, is_cancellation, place
from otel_ml._late import may_keep
from otel_ml._ledger import FOLD_AT
from otel_ml._otel_private import NO_STATE, SPAN_KEY, get_context, hold, make_context, put_context, set_context
from otel_ml._shield import failed, hold_context
from otel_ml._span import SAMPLED, Counted, Frame, LightSpan, Unsampled
from otel_ml._values import qualified

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_ml._predictions import Labels, ModelSeries
    from otel_ml._scope import Stage
    from otel_ml._site import Site
    from otel_ml._state import State

ERROR = Status(StatusCode.ERROR)
# Distinct batch sizes of a model whose attributes are shared between spans.
MAX_SIZES = 256


class Path:
    """What a site does under one state: `open` a frame, then `close` or `fail` it. None of them raises."""

    __slots__ = (
        "attributes", "by_rows", "call", "counted_class", "idle", "labels", "look", "models", "on_end", "open", "close", "series", "site", "span_class",
        "state",
    )  # fmt: skip

    def __init__(self, state: State, site: Site, models: ModelSeries, span_class: type[LightSpan] | None) -> None:
        self.state, self.site, self.models, self.span_class = state, site, models, span_class
        # What a path that observes nothing counts down (`_site.Idle`); a slot is read four times faster than a class's.
        self.idle = 0
        self.labels: Labels = tuple(sorted(site.labels.items()))
        self.series = models.of(self.labels)
        self.attributes: dict[str, AttributeValue] = span_class._attributes if span_class is not None else {}
        self.by_rows: dict[int, dict[str, AttributeValue]] = {}
        self.on_end = state.tracing.on_end
        # What checks want of the calls; None where there is none.
        self.look = state.watching.look(site) if state.watching is not None else None
        self.counted_class: type[Counted] = type("Counted", (Counted,), {"path": self})
        self.open: Open = opens(self)
        self.close: Callable[[Frame, object], None] = closes(self)

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
        context = get_context()
        inner = frame.inner if frame.inner is not None else Context()
        if context is not frame.outer:
            kept = {SPAN_KEY: inner.get(SPAN_KEY, frame), CALL_KEY: inner.get(CALL_KEY, frame)}
            frame.outer, inner = context, Context({**context, **kept})
        set_context(inner)

    def _restore(self, frame: Frame) -> None:
        """Make current what was current before the frame, if the frame (or a child of it) still is."""
        if isinstance(frame, Counted):
            if FRAME.get() is frame:
                FRAME.set(former(frame))
        elif get_context().get(CALL_KEY) is frame:
            # As `set_context` does, but with no call of Python's more: endless recursion ends here, and leaves no room.
            _held = hold()
            put_context(frame.outer)  # type: ignore[arg-type]  # what get_context returned

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
        if self.look is not None and outcome is names.SUCCESS:
            self.look.outputs(frame, result if result is not None or call is None else call.result)
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
            if type(error) is GeneratorExit:
                hold_context()
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
        if self.span_class is None or _under_parent(frame) or not may_keep():
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
            span._end_time = span.ends_at(ended)
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


def _under_parent(frame: Unsampled) -> bool:
    # A sampler that decided against a call under a parent has decided for good: only a trace's root is built late.
    parent = cast("Context", frame.outer).get(SPAN_KEY)
    return parent is not None and cast("Span", parent).get_span_context().is_valid
