"""How one state samples spans and where ended spans go: to our sinks, and to processors that are not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from otel_ml._clock import CLOCK
from otel_ml._frames import CALL_KEY, FRAME
from otel_ml._otel_private import NO_STATE, SPAN_KEY, id_is_random, on_ending, random_bit, set_context
from otel_ml._providers import OwnSpans
from otel_ml._shield import failed
from otel_ml._span import Counted, Frame, Ids, LightSpan, Unsampled
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_ml._observe import Path

EVERY = 1 << 64
MAX_ATTRIBUTES = 64
MAX_LENGTH = 1_024

Take = Callable[[ReadableSpan], None]
TakeLight = Callable[[LightSpan], None]


class Tracing:
    """Sampling decisions and the way out for spans.

    `bound` is what the low 64 bits of a root's trace id are compared with where the decision is that simple, and None
    where a custom sampler or id generator has to be asked.
    """

    __slots__ = ("_generator", "_sampler", "bound", "foreign", "limits", "takes")

    def __init__(
        self, sampler: Sampler, generator: IdGenerator, limits: SpanLimits, takes: tuple[TakeLight, ...]
    ) -> None:
        self._sampler, self._generator, self.limits, self.takes = sampler, generator, limits, takes
        known = type(generator) is RandomIdGenerator or type(generator) is Ids
        self.bound = known_bound(sampler) if known else None
        self.foreign: tuple[SpanProcessor, ...] = ()

    def on_start(self, span: LightSpan, context: Context | None) -> None:
        """Tell processors that are not ours."""
        for processor in self.foreign:
            try:
                processor.on_start(span, parent_context=context)  # type: ignore[arg-type]  # a LightSpan is a Span and readable
            except Exception:
                failed("call a span processor")

    def on_end(self, span: LightSpan) -> None:
        """Hand an ended span to our sinks and to the processors that are not ours."""
        if span._context.trace_flags & 1:  # type: ignore[union-attr]  # a LightSpan always has a context
            for take in self.takes:
                take(span)
        for processor in self.foreign:
            try:
                ending = on_ending(processor)
                if ending is not None:
                    ending(span)
                processor.on_end(span)
            except Exception:
                failed("call a span processor")

    def ended(self, span: LightSpan) -> None:
        """Take a span that the user's own code ended."""
        self.on_end(span)

    def ask(self, path: Path, context: Context, parent: SpanContext | None, count: int) -> Frame:
        """Open a frame as a custom sampler or id generator decides, the way the SDK's tracer does."""
        span_class = path.span_class
        assert span_class is not None  # noqa: S101  # asked only for sites that have spans
        decided = self.decide(span_class, parent, path.sized(count) if count != 1 else path.attributes)
        frame: Frame = path.counted_class() if decided is None else decided
        frame.rows, frame.outer, frame.began = count, context, perf_counter_ns()
        if isinstance(frame, Counted):
            frame.outer = FRAME.set(frame)
            return frame
        frame.path = path
        if isinstance(frame, LightSpan):
            frame._start_time = frame.began + CLOCK.anchor
            self.on_start(frame, context)
        set_context(Context({**context, SPAN_KEY: frame, CALL_KEY: frame}))
        return frame

    def decide(
        self,
        span_class: type[LightSpan],
        parent: SpanContext | None,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> LightSpan | Unsampled | None:
        """Ask the sampler; return a span to record, an unrecorded root, or None under an unrecorded parent."""
        generator = _IDS if type(self._generator) is RandomIdGenerator else self._generator
        trace_id = generator.generate_trace_id() if parent is None else parent.trace_id
        offered = span_class._attributes if attributes is None else attributes
        result = self._sampler.should_sample(None, trace_id, span_class._name, SpanKind.INTERNAL, offered, ())
        random = id_is_random(generator) if parent is None else bool(parent.trace_flags & 2)
        flags = TraceFlags(int(result.decision is Decision.RECORD_AND_SAMPLE) | (random_bit() if random else 0))
        made = SpanContext(
            trace_id,
            generator.generate_span_id(),
            False,
            flags,
            result.trace_state if result.trace_state is not None else NO_STATE,
        )
        if result.decision is Decision.DROP:
            if parent is not None and not flags & 1 and not parent.trace_flags & 1:
                return None
            root = Unsampled()
            root._context, root.call, root.inner = made, None, None
            return root
        span: LightSpan = object.__new__(span_class)
        span._context, span._parent, span._attributes = made, parent, offered
        given = dict(result.attributes or {})  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # a bare mapping in the SDK
        if given != offered:
            span._attributes, span._own = {}, True
            span.set_attributes(given)
        return span


_IDS = Ids()


def known_bound(sampler: Sampler) -> int | None:
    """Return the bound for samplers whose decision is a comparison; None for every other.

    Told by description, which is public: the default samplers, alone or as the root of a `ParentBased` with default
    delegates. A parent's decision is followed only by `ParentBased`, so others are asked.
    """
    if type(sampler) is not ParentBased:
        return None
    description = str(sampler.get_description())  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    prefix, _, rest = description.partition("{root:")
    root, _, delegates = rest.rpartition(",remoteParentSampled:")
    if prefix != "ParentBased" or delegates != _DEFAULT_DELEGATES:
        return None
    if root == "AlwaysOnSampler":
        return EVERY
    if root == "AlwaysOffSampler":
        return 0
    if root.startswith("TraceIdRatioBased{") and root.endswith("}"):
        try:
            return TraceIdRatioBased.get_bound_for_rate(float(root[len("TraceIdRatioBased{") : -1]))
        except ValueError:
            return None
    return None


_DEFAULT_DELEGATES = (
    "AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
    "localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
)


def our_limits() -> SpanLimits:
    """Return our span limits (64 attributes, 1,024 characters a value), where OpenTelemetry's variables set none."""
    counts = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")
    lengths = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    try:
        return SpanLimits(
            max_span_attributes=None if any(name in os.environ for name in counts) else MAX_ATTRIBUTES,
            max_attribute_length=None if any(name in os.environ for name in lengths) else MAX_LENGTH,
        )
    except ValueError as error:
        # The SDK's message names the variable and its value.
        raise ConfigurationError(f"{error}. Set it to a whole number, or leave it out.") from error


class Processors(SynchronousMultiSpanProcessor):
    """The processors of our tracer provider. The SDK wants a subclass; ours tells `Tracing` of those added later."""

    def __init__(self, tracing: Tracing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        self._tracing = tracing

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Have a processor see the user's own spans and our light ones."""
        super().add_span_processor(span_processor)
        if not isinstance(span_processor, OwnSpans):
            self._tracing.foreign += (span_processor,)
