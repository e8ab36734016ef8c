"""The only place that touches what OpenTelemetry keeps to itself; each touch has a self-check and a public fallback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, cast

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import INVALID_SPAN, SpanContext, TraceFlags, TraceState

if TYPE_CHECKING:
    from contextvars import ContextVar

    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer

# The key under which the API keeps the current span, found through the public API.
SPAN_KEY: str = next(iter(trace_api.set_span_in_context(INVALID_SPAN, Context())))
NO_STATE: TraceState = SpanContext(1, 1, False).trace_state

MakeContext = Callable[[int, int, TraceFlags, TraceState], SpanContext]


def _public_context(trace_id: int, span_id: int, flags: TraceFlags, state: TraceState) -> SpanContext:
    return SpanContext(trace_id, span_id, False, flags, state)


def _tuple_context(trace_id: int, span_id: int, flags: TraceFlags, state: TraceState) -> SpanContext:
    return tuple.__new__(SpanContext, (trace_id, span_id, False, flags, state, True))  # pyright: ignore[reportUnknownMemberType]  # of a bare tuple


def _pick_make_context() -> MakeContext:
    """Build span contexts as the tuples they are (140 ns instead of 320), where that gives the very same value."""
    try:
        mine, theirs = _tuple_context(5, 6, TraceFlags(3), NO_STATE), _public_context(5, 6, TraceFlags(3), NO_STATE)
        same = tuple(mine) == tuple(theirs) and type(mine) is type(theirs) and repr(mine) == repr(theirs)
        if same and mine.is_valid and mine.trace_id == 5 and mine.span_id == 6 and mine.trace_flags == 3:
            return _tuple_context
    except Exception:  # a changed layout may fail in any way; the public constructor always works
        return _public_context
    return _public_context


def _attach(context: Context) -> object:
    return context_api.attach(context)


def _pick_context_access() -> tuple[Callable[[], Context], Callable[[Context], object]]:
    """Read and set the current context through its `ContextVar` (75 ns instead of 170 the pair)."""
    try:
        kept = context_api._RUNTIME_CONTEXT._current_context  # type: ignore[attr-defined]  # guarded by the check
        variable = cast("ContextVar[Context]", kept)
        before = variable.get()
        token = context_api.attach(Context({"otel_ml": 1}))
        seen = variable.get().get("otel_ml") == 1
        variable.set(before)
        restored = context_api.get_current() is before
        context_api.detach(token)
        if seen and restored:
            return variable.get, variable.set
    except Exception:  # another runtime context, or none of these names: the public functions always work
        return context_api.get_current, _attach
    return context_api.get_current, _attach


make_context: MakeContext = _pick_make_context()
get_context, put_context = _pick_context_access()

# CPython 3.11 collects garbage in the middle of `ContextVar.set`. A finalizer that is run there, and calls a watched
# function, frees the variables that the outer `set` is still reading, unless they are held meanwhile (30 ns).
hold: Callable[[], object] = copy_context if sys.version_info < (3, 12) else bool


def set_context(context: Context) -> None:
    """Make a context the current one."""
    held = hold()
    put_context(context)
    del held


SUPPRESS_KEY: str = getattr(context_api, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")


def random_bit() -> int:
    """Return 2 where this SDK marks the ids of root spans as random (W3C trace context level 2), else 0."""
    return 2 if hasattr(IdGenerator, "is_trace_id_random") else 0


def id_is_random(generator: IdGenerator) -> bool:
    """Say whether a generator's trace ids carry the random bit."""
    ask = getattr(generator, "is_trace_id_random", None)
    return bool(ask()) if ask is not None else False


def limits_of(provider: TracerProvider) -> SpanLimits:
    """Return a provider's span limits; the defaults if they are no longer kept where they were."""
    limits = getattr(provider, "_span_limits", None)
    return limits if isinstance(limits, SpanLimits) else SpanLimits()


def enabled(tracer: Tracer) -> bool:
    """Say whether a host has switched this tracer off by its tracer configurator."""
    ask = getattr(tracer, "_is_enabled", None)
    return bool(ask()) if ask is not None else True


def on_ending(processor: SpanProcessor) -> Callable[[ReadableSpan], None] | None:
    """Return the processor's `_on_ending`, which newer SDKs call before `on_end`."""
    hook: Callable[[ReadableSpan], None] | None = getattr(processor, "_on_ending", None)
    return hook


def preferred_temporality(exporter: MetricExporter) -> dict[type, AggregationTemporality]:
    """Return what temporality an exporter asks for, by instrument class."""
    return dict(getattr(exporter, "_preferred_temporality", None) or {})


def preferred_aggregation(exporter: MetricExporter) -> dict[type, Aggregation]:
    """Return what aggregation an exporter asks for, by instrument class."""
    return dict(getattr(exporter, "_preferred_aggregation", None) or {})


def explicit_bounds(aggregation: Aggregation) -> tuple[float, ...] | None:
    """Return the boundaries an explicit aggregation was given, or None for the instrument's own."""
    if not isinstance(aggregation, ExplicitBucketHistogramAggregation):
        return None
    bounds = getattr(aggregation, "_boundaries", None)
    return tuple(bounds) if bounds is not None else None


def exponential_size(aggregation: Aggregation) -> tuple[int, int] | None:
    """Return (max_size, max_scale) of an exponential aggregation, or None for any other."""
    if not isinstance(aggregation, ExponentialBucketHistogramAggregation):
        return None
    return int(getattr(aggregation, "_max_size", 160)), int(getattr(aggregation, "_max_scale", 20))


def release_reader(reader: MetricReader) -> None:
    """Let a reader of a former provider of ours join the next one, which the SDK refuses otherwise."""
    registered = getattr(MeterProvider, "_all_metric_readers", None)
    if registered is not None:
        registered.discard(reader)


def has_provider(reader: MetricReader) -> bool:
    """Say whether a reader belongs to a meter provider already."""
    return reader in getattr(MeterProvider, "_all_metric_readers", ())


def push_exporters(provider: MeterProvider) -> list[object] | None:
    """Return the exporters behind a meter provider's readers, None standing for a reader that has none; None if hidden."""
    storages = getattr(getattr(provider, "_measurement_consumer", None), "_reader_storages", None)
    if storages is None:
        return None
    return [getattr(reader, "_exporter", None) for reader in storages]


def resource_of(provider: MeterProvider) -> object:
    """Return a meter provider's resource, or None."""
    return getattr(getattr(provider, "_sdk_config", None), "resource", None)
