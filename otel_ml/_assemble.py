"""Turn what `configure()` was given into a state: exporters into sinks, providers of our own or a host's joined."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_ml import _catalog as names
from otel_ml._events import Event, emit, readable, writable
from otel_ml._folder import Folder
from otel_ml._ledger import Ledger
from otel_ml._members import Sorted, sort
from otel_ml._metrics import Collected, Replay, keep_collecting, merged, view_of, wrapped_exporters
from otel_ml._otel_private import SUPPRESS_KEY, enabled, get_context, limits_of, release_reader
from otel_ml._providers import Closes, Outlet
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
    detected: Resource | None = None

    @property
    def joined(self) -> bool:
        """Whether a host's providers are sent to."""
        return any((self.tracer_provider, self.meter_provider, self.logger_provider))


def assemble(recipe: Recipe) -> State:
    """Make a state. Nothing is connected and no thread runs until the first record."""
    resource = make_resource(recipe.resource, recipe.detected)
    given = sort(recipe.exporters, recipe.interval, resource)
    host = recipe.tracer_provider
    views = tuple(view_of(parts.metrics) for _, _, parts, _ in given.parts if parts.metrics is not None)
    collectors = tuple(Collected(parts.metrics) for _, _, parts, _ in given.parts if parts.metrics is not None)

    wrapped = wrapped_exporters(recipe.meter_provider)
    merging = WeakKeyDictionary({exporter: len(views) + index for index, exporter in enumerate(wrapped)})
    views = (*views, *(view_of(exporter) for exporter in wrapped))

    own = not recipe.joined or bool(recipe.exporters)
    meter_provider = (
        _meter_provider((*collectors, *given.readers), resource)
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
    outlet = Outlet(sinks)
    if own or host is None:
        sampler: Sampler | None = None if recipe.sampling is None else ParentBased(TraceIdRatioBased(recipe.sampling))
        ids, limits = Ids(), our_limits()
        tracer_provider = TracerProvider(sampler, resource, False, None, ids, limits)
        tracing = Tracing(tracer_provider.sampler, ids, limits, takes)
        processors = Processors(tracing)
        tracer_provider = TracerProvider(tracer_provider.sampler, resource, False, processors, ids, limits)
        tracer_provider.add_span_processor(OwnSpans(outlet))
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
    logger_provider, event_outs = _events(recipe, given, resource, outlet, own)
    keep = recipe.keep_slower_than
    # One object may be of several kinds, and is closed once.
    closes: tuple[Closes, ...] = (*given.span_processors, *given.record_processors, *given.readers)
    foreign = tuple({id(one): one for one in closes}.values())
    state = State(
        resource=resource,
        instrumentation_scope=SCOPE,
        tracing=tracing,
        ledger=ledger,
        sinks=sinks,
        outlet=outlet,
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
        rebuild=lambda: assemble(in_child(recipe, resource)),
    )
    ledger.before_collection = state.read_deferred
    return state


def _meter_provider(readers: Sequence[MetricReader], resource: Resource) -> MeterProvider:
    try:
        return MeterProvider(readers, resource, shutdown_on_exit=False)
    except Exception as error:
        raise ConfigurationError(
            "exporters=[...] holds a metric reader that belongs to another provider already. "
            "Pass a function that makes one, as exporters=[lambda: InMemoryMetricReader()]."
        ) from error


def in_child(recipe: Recipe, detected: Resource) -> Recipe:
    """Return the recipe for a forked child: the same places, under an instance id of its own.

    What was detected is kept: the SDK's detectors run in threads, which a signal handler in the child could not wait for.
    """
    for one in recipe.exporters:
        if isinstance(one, MetricReader):
            release_reader(one)
    given = {key: value for key, value in (recipe.resource or {}).items() if key != names.SERVICE_INSTANCE}
    return replace(recipe, resource=given, detected=detected)


def make_resource(given: Mapping[str, str | bool | int | float] | None, detected: Resource | None = None) -> Resource:
    """Return the resource: arguments, then OpenTelemetry's variables, then what we know."""
    resource = Resource.create(dict(given or {})) if detected is None else detected
    known: dict[str, str | int] = {names.DISTRO_NAME: "otel-ml", names.DISTRO_VERSION: VERSION}
    if names.PROCESS_PID in resource.attributes:
        known[names.PROCESS_PID] = os.getpid()
    if names.SERVICE_INSTANCE not in resource.attributes or names.SERVICE_INSTANCE not in (given or {}):
        known[names.SERVICE_INSTANCE] = _instance(resource)
    return resource.merge(Resource(known))


def _instance(resource: Resource) -> str:
    # OTEL_RESOURCE_ATTRIBUTES may name the instance; otherwise the SDK may have drawn one, before a fork.
    named = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if names.SERVICE_INSTANCE in named:
        return str(resource.attributes.get(names.SERVICE_INSTANCE))
    return str(uuid.uuid4())


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

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if SUPPRESS_KEY in get_context():
            # What an exporter's library logs while it sends (urllib3 does, at DEBUG) would be sent, and logged, for ever.
            return
        try:
            for sink in self._outlet.sinks():
                if sink.parts.events is not None:
                    sink.start()
                    sink.event(log_record)
        except Exception:
            failed("take a log record")

    def shutdown(self) -> None:
        """The state shuts its sinks down."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """The state flushes its sinks."""
        return True


def _events(
    recipe: Recipe, given: Sorted, resource: Resource, outlet: Outlet, own: bool
) -> tuple[LoggerProvider, tuple[Callable[[Event], None], ...]]:
    outs: list[Callable[[Event], None]] = [sink.event for sink in outlet.sinks() if sink.parts.events is not None]

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
    provider.add_log_record_processor(_OwnRecords(outlet))
    for processor in given.record_processors:
        provider.add_log_record_processor(processor)
    return provider, tuple(outs)
