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
from otel_ml._accounts import Accounts
from otel_ml._deferred import Deferrals
from otel_ml._events import Event, emit, readable, writable
from otel_ml._folder import Folder
from otel_ml._health_writer import HealthWriter, health_folder
from otel_ml._ledger import Ledger
from otel_ml._members import Sorted, sort
from otel_ml._metrics import Replay, Source, keep_collecting, view_of, wrapped_exporters
from otel_ml._otel_private import enabled, has_provider, limits_of, release_reader
from otel_ml._providers import OURS, Closes, Outlet, OwnRecords, OwnSpans
from otel_ml._shield import failed
from otel_ml._sink import Sink
from otel_ml._span import Ids
from otel_ml._state import State
from otel_ml._tracing import Processors, Tracing, our_limits
from otel_ml._version import VERSION
from otel_ml._voice import Voice
from otel_ml._watching import Driver, Watching
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord

    from otel_ml._alarm import Alarm
    from otel_ml._finding import Finding

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
    # Makes the checks, so that a forked child has its own.
    driver: Callable[[Voice], Driver] | None = None
    alarms: tuple[Alarm, ...] = ()
    on_finding: Callable[[Finding], object] | None = None

    @property
    def joined(self) -> bool:
        """Whether a host's providers are sent to."""
        return any((self.tracer_provider, self.meter_provider, self.logger_provider))


def assemble(recipe: Recipe, held: Sequence[MetricReader] = ()) -> State:
    """Make a state. Nothing is connected and no thread runs until the first record.

    Readers that the former state has `held` until now are left out; they are added when it has let go of them.
    """
    resource = make_resource(recipe.resource, recipe.detected)
    limits = our_limits()
    given = sort(recipe.exporters, recipe.interval, resource)
    host = recipe.tracer_provider
    views = tuple(view_of(parts.metrics) for _, _, parts, _ in given.parts if parts.metrics is not None)
    sources = tuple(Source(parts.metrics) for _, _, parts, _ in given.parts if parts.metrics is not None)

    wrapped = wrapped_exporters(recipe.meter_provider)
    merging = WeakKeyDictionary({exporter: len(views) + index for index, exporter in enumerate(wrapped)})
    views = (*views, *(view_of(exporter) for exporter in wrapped))

    own = not recipe.joined or bool(recipe.exporters)
    free = [one for one in given.readers if not any(one is other for other in held)]
    meter_provider = (
        _meter_provider((*(one.reader for one in sources), *free), resource)
        if own or recipe.meter_provider is None
        else recipe.meter_provider
    )
    replay_to = [recipe.meter_provider] if recipe.meter_provider is not None and not wrapped else []
    if wrapped and recipe.meter_provider is not None:
        keep_collecting(recipe.meter_provider.get_meter(names.REPLAY_SCOPE, VERSION))
    if given.readers:
        replay_to.append(meter_provider)
    replay = Replay(replay_to) if replay_to else None
    ledger = Ledger(views, replay)
    if replay is not None:
        replay.at_collection(ledger)

    sinks = _sinks(given, resource, ledger, sources)
    deferrals = Deferrals()
    accounts = Accounts(ledger, sinks, replay, deferrals)
    folder = health_folder([parts for _, _, parts, _ in given.parts])
    health_writer = HealthWriter(accounts.health, folder, str(resource.attributes.get(names.SERVICE_NAME, "")))
    for sink in sinks:
        sink.sender.each_minute = health_writer.each_minute
    takes = tuple(sink.light for sink in sinks if sink.parts.spans is not None)
    outlet = Outlet(sinks, given.span_processors, given.record_processors, sources)
    if own or host is None:
        sampler: Sampler | None = None if recipe.sampling is None else ParentBased(TraceIdRatioBased(recipe.sampling))
        ids = Ids()
        tracer_provider = TracerProvider(sampler, resource, False, None, ids, limits)
        tracing = Tracing(tracer_provider.sampler, ids, limits, takes)
        processors = Processors(tracing)
        tracer_provider = TracerProvider(tracer_provider.sampler, resource, False, processors, ids, limits)
        tracer_provider.add_span_processor(OwnSpans(outlet))
        OURS.add(tracer_provider)
        tracing.foreign += given.span_processors
        if host is not None:
            tracing.foreign += (host.get_tracer(names.SCOPE, VERSION).span_processor,)  # type: ignore[attr-defined]  # an SDK tracer
        spans = True
    else:
        tracer = host.get_tracer(names.SCOPE, VERSION)
        tracing = Tracing(tracer.sampler, tracer.id_generator, limits_of(host), ())  # type: ignore[attr-defined]  # an SDK tracer
        tracing.foreign = (tracer.span_processor,)  # type: ignore[attr-defined]  # an SDK tracer
        tracer_provider, resource, spans = host, host.resource, enabled(tracer)  # type: ignore[arg-type]  # an SDK tracer
    logger_provider, event_outs = _events(recipe, given, resource, outlet, own)
    voice = Voice(recipe.on_finding)
    watching = Watching(recipe.driver(voice)) if recipe.driver is not None else None
    if watching is not None:
        event_outs = (*event_outs, watching.event)
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
        accounts=accounts,
        health_writer=health_writer,
        deferrals=deferrals,
        watching=watching,
        alarms=recipe.alarms,
    )
    accounts.await_labels(state.outcomes.waiting)
    voice.speak_for(state)
    if watching is not None:
        watching.tell_left_out = lambda rows: ledger.note(ledger.series(names.CHECKS_DROPPED, {}), rows)
    ledger.before_collection = deferrals.read
    return state


def _meter_provider(readers: Sequence[MetricReader], resource: Resource) -> MeterProvider:
    free = [one for one in readers if not has_provider(one)]
    try:
        provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    except ValueError as error:
        raise ConfigurationError(
            f"{error} Leave OTEL_METRICS_EXEMPLAR_FILTER out, or set it to trace_based."
        ) from error
    except Exception as error:
        for one in free:
            release_reader(one)
        raise ConfigurationError(
            "exporters=[...] holds a metric reader that belongs to another provider already. "
            "Pass a function that makes one, as exporters=[lambda: InMemoryMetricReader()]."
        ) from error
    OURS.add(provider)
    return provider


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


def _sinks(given: Sorted, resource: Resource, ledger: Ledger, sources: Sequence[Source]) -> tuple[Sink, ...]:
    def as_readable(one: Event | ReadWriteLogRecord) -> ReadableLogRecord:
        if isinstance(one, Event):
            return readable(one, resource, SCOPE)
        from opentelemetry.sdk._logs import ReadableLogRecord as Readable

        return Readable(one.log_record, one.resource or resource, one.instrumentation_scope, one.limits)

    def collects(reader: int) -> Callable[[], MetricsData | None]:
        return lambda: sources[reader].collect(lambda: ledger.collect(reader), resource, SCOPE)

    sinks: list[Sink] = []
    reader = 0
    for name, where, parts, given_as in given.parts:
        collect = collects(reader) if parts.metrics is not None else None
        reader += parts.metrics is not None
        sinks.append(Sink(name, where, parts, as_readable, collect, given_as))
    return tuple(sinks)


def _events(
    recipe: Recipe, given: Sorted, resource: Resource, outlet: Outlet, own: bool
) -> tuple[LoggerProvider, tuple[Callable[[Event], None], ...]]:
    outs: list[Callable[[Event], None]] = [sink.event for sink in outlet.sinks if sink.parts.events is not None]

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
    try:
        provider = LoggerProvider(resource, shutdown_on_exit=False)
    except ValueError as error:
        # As with the limits of spans, the SDK's message names the variable and its value.
        raise ConfigurationError(f"{error}. Set it to a whole number, or leave it out.") from error
    provider.add_log_record_processor(OwnRecords(outlet))
    OURS.add(provider)
    return provider, tuple(outs)
