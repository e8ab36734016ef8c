"""Turn what `configure()` was given into a state: exporters into sinks, providers of our own or a host's joined."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_ml import _catalog as names
from otel_ml._delivery import Parts
from otel_ml._events import Event, emit, readable, writable
from otel_ml._folder import Folder
from otel_ml._ledger import Ledger
from otel_ml._metrics import MERGING, Collected, Replay, keep_collecting, merged, view_of
from otel_ml._otel_private import enabled, limits_of
from otel_ml._providers import Closes
from otel_ml._shield import failed
from otel_ml._sink import Sink
from otel_ml._span import Ids
from otel_ml._state import State
from otel_ml._tracing import OwnSpans, Processors, Tracing, our_limits
from otel_ml._version import VERSION
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord

SCOPE = InstrumentationScope(names.SCOPE, VERSION)


@dataclass(frozen=True)
class Recipe:
    """Everything a state is made from; kept, so that a forked child can make its own."""

    exporters: tuple[object, ...] = ()
    resource: Mapping[str, str | bool | int | float] | None = None
    sampling: float | None = None
    keep_slower_than: float | None = 0.5
    interval: float | None = None
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None

    @property
    def joined(self) -> bool:
        """Whether a host's providers are sent to."""
        return any((self.tracer_provider, self.meter_provider, self.logger_provider))


@dataclass(frozen=True)
class Sorted:
    """The members of `exporters=[...]` by what they are."""

    parts: tuple[tuple[str, str, Parts, object], ...]
    span_processors: tuple[SpanProcessor, ...]
    record_processors: tuple[LogRecordProcessor, ...]
    readers: tuple[MetricReader, ...]


def assemble(recipe: Recipe) -> State:
    """Make a state. Nothing is connected and no thread runs until the first record."""
    resource = make_resource(recipe.resource)
    given = sort(recipe, resource)
    host = recipe.tracer_provider
    views = tuple(view_of(parts.metrics) for _, _, parts, _ in given.parts if parts.metrics is not None)
    collectors = tuple(Collected(parts.metrics) for _, _, parts, _ in given.parts if parts.metrics is not None)

    wrapped = tuple(MERGING) if recipe.meter_provider is not None else ()
    merging = WeakKeyDictionary({exporter: len(views) + index for index, exporter in enumerate(wrapped)})
    views = (*views, *(view_of(exporter) for exporter in wrapped))

    own = not recipe.joined or bool(given.parts)
    meter_provider = (
        MeterProvider((*collectors, *given.readers), resource, shutdown_on_exit=False)
        if own or recipe.meter_provider is None
        else recipe.meter_provider
    )
    replay_to = [recipe.meter_provider] if recipe.meter_provider is not None and not wrapped else []
    if wrapped and recipe.meter_provider is not None:
        keep_collecting(recipe.meter_provider.get_meter(names.REPLAY_SCOPE, VERSION))
    if given.readers:
        replay_to.append(meter_provider)
    replay = Replay([provider.get_meter(names.REPLAY_SCOPE, VERSION) for provider in replay_to]) if replay_to else None
    ledger = Ledger(views, replay)
    if replay is not None:
        replay.at_collection(ledger)

    sinks = _sinks(given, resource, ledger, collectors)
    takes = tuple(sink.light for sink in sinks if sink.parts.spans is not None)
    own_takes = tuple(sink.span for sink in sinks if sink.parts.spans is not None)
    if own or host is None:
        sampler: Sampler | None = None if recipe.sampling is None else ParentBased(TraceIdRatioBased(recipe.sampling))
        ids, limits = Ids(), our_limits()
        tracer_provider = TracerProvider(sampler, resource, False, None, ids, limits)
        tracing = Tracing(tracer_provider.sampler, ids, limits, takes)
        processors = Processors(tracing)
        tracer_provider = TracerProvider(tracer_provider.sampler, resource, False, processors, ids, limits)
        tracer_provider.add_span_processor(OwnSpans(lambda: own_takes))
        for processor in given.span_processors:
            tracer_provider.add_span_processor(processor)
        if host is not None:
            tracing.foreign += (host.get_tracer(names.SCOPE, VERSION).span_processor,)  # type: ignore[attr-defined]  # an SDK tracer
        spans = True
    else:
        tracer = host.get_tracer(names.SCOPE, VERSION)
        tracing = Tracing(tracer.sampler, tracer.id_generator, limits_of(host), ())  # type: ignore[attr-defined]  # an SDK tracer
        tracing.foreign = (tracer.span_processor,)  # type: ignore[attr-defined]  # an SDK tracer
        tracer_provider, resource, spans = host, host.resource, enabled(tracer)  # type: ignore[arg-type]  # an SDK tracer
    logger_provider, event_outs = _events(recipe, given, resource, sinks, own)
    keep = recipe.keep_slower_than
    foreign: tuple[Closes, ...] = (*given.span_processors, *given.record_processors, *given.readers)
    return State(
        resource=resource,
        instrumentation_scope=SCOPE,
        tracing=tracing,
        ledger=ledger,
        sinks=sinks,
        event_outs=event_outs,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        slow_ns=float("inf") if keep is None or (recipe.joined and not own) else keep * 1e9,
        keeps=keep is not None and own,
        merging=merging,
        replay=replay,
        folder=Folder(ledger) if replay is not None else None,
        spans=spans,
        foreign=foreign,
        rebuild=lambda: assemble(in_child(recipe)),
    )


def in_child(recipe: Recipe) -> Recipe:
    """Return the recipe for a forked child: the same places, under an instance id of its own."""
    if recipe.resource is None or names.SERVICE_INSTANCE not in recipe.resource:
        return recipe
    return replace(recipe, resource={k: v for k, v in recipe.resource.items() if k != names.SERVICE_INSTANCE})


def make_resource(given: Mapping[str, str | bool | int | float] | None) -> Resource:
    """Return the resource: arguments, then OpenTelemetry's variables, then what we know."""
    resource = Resource.create(dict(given or {}))
    known: dict[str, str] = {names.DISTRO_NAME: "otel-ml", names.DISTRO_VERSION: VERSION}
    if names.SERVICE_INSTANCE not in resource.attributes or names.SERVICE_INSTANCE not in (given or {}):
        known[names.SERVICE_INSTANCE] = _instance(resource)
    return resource.merge(Resource(known))


def _instance(resource: Resource) -> str:
    # OTEL_RESOURCE_ATTRIBUTES may name the instance; otherwise the SDK may have drawn one, before a fork.
    named = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if names.SERVICE_INSTANCE in named:
        return str(resource.attributes.get(names.SERVICE_INSTANCE))
    return str(uuid.uuid4())


def sort(recipe: Recipe, resource: Resource) -> Sorted:
    """Tell what each member of `exporters=[...]` is, and build ours."""
    parts: list[tuple[str, str, Parts, object]] = []
    span_processors: list[SpanProcessor] = []
    record_processors: list[LogRecordProcessor] = []
    readers: list[MetricReader] = []
    for given in recipe.exporters:
        one = given
        if not _is_exporter(one) and callable(one):
            one = one()
        if isinstance(one, SpanProcessor):
            span_processors.append(one)
        elif isinstance(one, LogRecordProcessor):
            record_processors.append(one)
        elif isinstance(one, MetricReader):
            readers.append(one)
        else:
            built = _parts(one, resource)
            if recipe.interval is not None:
                built = replace(built, interval=recipe.interval)
            name = f"{type(one).__name__.lower()}-{len(parts)}"
            describe = getattr(one, "describe", None)
            parts.append((name, describe() if describe is not None else type(one).__qualname__, built, given))
    return Sorted(tuple(parts), tuple(span_processors), tuple(record_processors), tuple(readers))


_STANDARD = (SpanExporter, MetricExporter, LogRecordExporter, SpanProcessor, LogRecordProcessor, MetricReader)


def _is_exporter(one: object) -> bool:
    return isinstance(one, _STANDARD) or hasattr(one, "build")


def _parts(one: object, resource: Resource) -> Parts:
    build: Callable[[Resource], Parts] | None = getattr(one, "build", None)
    if build is not None and not isinstance(one, type):
        return build(resource)
    spans = one if isinstance(one, SpanExporter) else None
    metrics = one if isinstance(one, MetricExporter) else None
    events = one if isinstance(one, LogRecordExporter) else None
    if spans is None and metrics is None and events is None:
        kind = one.__name__ if isinstance(one, type) else type(one).__name__
        raise ConfigurationError(
            f"exporters=[...] holds {kind!r}, which is no exporter, processor or reader. "
            "Write for example otel_ml.configure(exporters=[otel_ml.exporters.Local()])."
        )
    return Parts(spans, metrics, events, _millis("OTEL_METRIC_EXPORT_INTERVAL", 60.0), _millis("OTEL_BSP_SCHEDULE_DELAY", 1.0))


def _millis(variable: str, default: float) -> float:
    try:
        value = float(os.environ[variable]) / 1e3
    except (KeyError, ValueError):
        return default
    return value if value > 0 else default


def _sinks(given: Sorted, resource: Resource, ledger: Ledger, collectors: Sequence[Collected]) -> tuple[Sink, ...]:
    def as_readable(one: Event | ReadWriteLogRecord) -> ReadableLogRecord:
        if isinstance(one, Event):
            return readable(one, resource, SCOPE)
        from opentelemetry.sdk._logs import ReadableLogRecord as Readable

        return Readable(one.log_record, one.resource or resource, one.instrumentation_scope, one.limits)

    def collects(reader: int) -> Callable[[], MetricsData | None]:
        return lambda: merged(collectors[reader].read(), ledger.collect(reader), resource, SCOPE)

    sinks: list[Sink] = []
    reader = 0
    for name, where, parts, given_as in given.parts:
        collect = collects(reader) if parts.metrics is not None else None
        reader += parts.metrics is not None
        sinks.append(Sink(name, where, parts, as_readable, collect, given_as))
    return tuple(sinks)


class _OwnRecords(LogRecordProcessor):
    """Takes the records a user emits with our logger provider to the same sinks. The SDK wants a subclass."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = [sink for sink in sinks if sink.parts.events is not None]

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        for sink in self._sinks:
            sink.start()
            sink.event(log_record)

    def shutdown(self) -> None:
        """The state shuts its sinks down."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """The state flushes its sinks."""
        return True


def _events(
    recipe: Recipe, given: Sorted, resource: Resource, sinks: Sequence[Sink], own: bool
) -> tuple[LoggerProvider, tuple[Callable[[Event], None], ...]]:
    outs: list[Callable[[Event], None]] = [sink.event for sink in sinks if sink.parts.events is not None]

    def through(processor: LogRecordProcessor) -> Callable[[Event], None]:
        def out(event: Event) -> None:
            try:
                processor.on_emit(writable(event, resource, SCOPE))
            except Exception:
                failed("call a log record processor")

        return out

    outs.extend(through(processor) for processor in given.record_processors)
    host = recipe.logger_provider
    if host is not None:
        logger = host.get_logger(names.SCOPE, VERSION)

        def to_host(event: Event) -> None:
            try:
                emit(event, logger)
            except Exception:
                failed("emit an event")

        outs.append(to_host)
        if not own:
            return host, tuple(outs)
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(_OwnRecords(sinks))
    for processor in given.record_processors:
        provider.add_log_record_processor(processor)
    return provider, tuple(outs)
