"""`configure()`: say once where telemetry goes; and the joining of a host that has OpenTelemetry already."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_ml import _catalog as names
from otel_ml._assemble import Recipe, assemble
from otel_ml._current import CURRENT
from otel_ml._health import Health
from otel_ml._settings import disabled, exporter_names, from_pyproject, otel_exporter_names
from otel_ml._shield import failed, logger, tell
from otel_ml._state import State
from otel_ml._telemetry import Telemetry, flush_in_child, hold, install, is_current, kept
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

    from opentelemetry.sdk.resources import Resource

    from otel_ml._delivery import Exporter, Parts

    Place = (
        Exporter
        | SpanExporter
        | SpanProcessor
        | MetricExporter
        | MetricReader
        | LogRecordExporter
        | LogRecordProcessor
    )

Attribute = str | bool | int | float


def configure(
    *,
    service: str | None = None,
    exporters: Sequence[Place | Callable[[], Place]] | None = None,
    sampling: float | None = None,
    keep_slower_than: float | None = 0.5,
    interval: float | None = None,
    resource: Mapping[str, Attribute] | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    join: bool | None = None,
    set_global: bool | None = None,
    current: bool = True,
) -> Telemetry:
    """Say where telemetry goes; from now on every `predict` and `train` follows.

    Called again, it replaces everything that was configured before; an exporter present in both is not shut down.

    Args:
        service: Name of this service (`service.name`); else `OTEL_SERVICE_NAME`.
        exporters: Places telemetry goes: ours (`otel_ml.exporters`), any standard OpenTelemetry exporter, processor or
            reader, or functions that make one (made anew in forked children). Without it: `OTEL_ML_EXPORTERS`, else
            providers of a host are joined, else OpenTelemetry's own variables, else the local store.
        sampling: Share of root calls that get a span, 0 to 1; else `OTEL_TRACES_SAMPLER`, else 1. Metrics count every
            call.
        keep_slower_than: Seconds; failed calls, and slower ones, get a span even when not sampled, at most 10 a
            second. None: no such spans.
        interval: Seconds between metric exports; None: what each exporter prefers (60; 5 for Local and Console).
        resource: Further attributes of this process.
        tracer_provider: A host's SDK provider to join; likewise `meter_provider` and `logger_provider`.
        join: True: send to the exporters and to the host's global providers.
        set_global: Whether our providers become OpenTelemetry's global ones; None: where none is set.
        current: False: leave what is configured as it is; the telemetry returned observes what is called in
            `with telemetry.use():`, as one of several tenants.

    Raises:
        ConfigurationError: An argument or setting cannot be used. After this function has returned nothing raises.

    >>> import otel_ml
    >>> telemetry = otel_ml.configure(service="churn-api", exporters=[])
    >>> telemetry.shutdown()
    True
    """
    _check(sampling, keep_slower_than, interval, resource, service)
    _check_providers(tracer_provider, meter_provider, logger_provider)
    settings = from_pyproject()
    recipe = _recipe(
        exporters=_places(exporters, settings, host=bool(tracer_provider or meter_provider or logger_provider), join=join),
        sampling=sampling if sampling is not None else cast("float | None", settings.get("sampling")),
        keep_slower_than=keep_slower_than,
        interval=interval if interval is not None else cast("float | None", settings.get("interval")),
        resource=_resource(service, resource, settings),
        providers=(tracer_provider, meter_provider, logger_provider),
        join=join,
    )
    return _install(recipe, set_global, warn=exporters is not None and join is None, current=current)


def join_host() -> State | None:
    """Join the host's global SDK providers, if it has any; called when a decorated function runs unconfigured."""
    if disabled():
        return None
    try:
        providers = _global_providers()
        if not any(providers):
            return None
        handle = Telemetry(assemble(Recipe((), None, None, 0.5, None, *providers)))
        install(handle)
    except Exception:
        failed("join the host's providers")
        return None
    return handle.state


def flush(timeout: float = 5.0) -> bool:
    """Send everything recorded so far; True only if all of it was delivered within `timeout` seconds."""
    handle = kept()
    return handle.flush(timeout) if handle is not None and is_current(handle) else True


def shutdown(timeout: float = 2.0) -> bool:
    """Send everything and stop; False if anything was left undelivered after `timeout` seconds."""
    handle = kept()
    return handle.shutdown(timeout) if handle is not None and is_current(handle) else True


def health() -> Health:
    """Return what became of everything recorded so far, exporter by exporter."""
    handle = kept()
    return handle.health() if handle is not None else Health()


def _install(recipe: Recipe, set_global: bool | None, *, warn: bool, current: bool) -> Telemetry:
    if disabled():
        recipe = Recipe()
    former = kept()
    if current and former is not None and is_current(former):
        # Ports and files of the former state are closed before those of the new one open.
        former.hand_over(2.0, recipe.exporters)
    handle = Telemetry(assemble(recipe))
    if not current:
        hold(handle)
        return handle
    state = handle.state
    if not disabled():
        install(handle)
        if set_global is not False and not (recipe.joined and not recipe.exporters):
            _make_global(state, insist=set_global is True, warn=warn)
        flush_in_child()
    return handle


def _recipe(
    *,
    exporters: tuple[object, ...] | None,
    sampling: float | None,
    keep_slower_than: float | None,
    interval: float | None,
    resource: Mapping[str, Attribute] | None,
    providers: tuple[TracerProvider | None, MeterProvider | None, LoggerProvider | None],
    join: bool | None,
) -> Recipe:
    if exporters is None or (join and not any(providers)):
        providers = cast("tuple[TracerProvider | None, MeterProvider | None, LoggerProvider | None]", (
            tuple(given or found for given, found in zip(providers, _global_providers(), strict=True))
        ))  # fmt: skip
    if exporters is None and sampling is not None:
        raise ConfigurationError(
            "sampling= was given, but the host's own sampler decides when its providers are joined. "
            "Leave sampling out, or pass exporters=[...]."
        )
    return Recipe(exporters or (), resource, sampling, keep_slower_than, interval, *providers)


def _places(
    given: Sequence[object] | None, settings: Mapping[str, object], *, host: bool, join: bool | None
) -> tuple[object, ...] | None:
    """Return the exporters, or None where a host's providers are to be joined instead."""
    if given is not None:
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ConfigurationError(
                f"exporters must be a list, not {type(given).__name__}. Write exporters=[otel_ml.exporters.Local()]."
            )
        return tuple(given)
    named = exporter_names()
    if named is None and (host or any(_global_providers())):
        return None
    by_signal = otel_exporter_names() if named is None else None
    if by_signal is not None:
        return tuple(Only(cast("Exporter", _named(name)), signals) for name, signals in by_signal.items())
    if named is None and settings.get("exporters") is not None:
        named = [str(name).lower() for name in cast("Sequence[object]", settings["exporters"])]
    if named is not None:
        return tuple(_named(name) for name in named if name != "none")
    from otel_ml.exporters.local import Local, serves_a_person

    if serves_a_person():
        place = Local()
        logger.warning("otel_ml writes to the %s. Pass exporters=[...] to send telemetry elsewhere.", place.describe())
        return (place,)
    logger.warning("otel_ml exports nothing here. Write otel_ml.configure(exporters=[otel_ml.exporters.OTLP()]).")
    return ()


@dataclass(frozen=True)
class Only:
    """An exporter of ours for some of the signals, as OpenTelemetry's variables choose them."""

    place: Exporter
    signals: frozenset[str]

    def build(self, resource: Resource) -> Parts:
        """Build the exporter without the signals that were not asked for."""
        built = self.place.build(resource)
        return replace(
            built,
            spans=built.spans if "spans" in self.signals else None,
            metrics=built.metrics if "metrics" in self.signals else None,
            events=built.events if "events" in self.signals else None,
        )

    def describe(self) -> str:
        """Return where telemetry goes."""
        return self.place.describe()


def _named(name: str) -> object:
    from otel_ml import exporters

    known = {one.lower(): one for one in exporters.__all__ if one in {"OTLP", "Console", "Local"}}
    if name not in known:
        raise ConfigurationError(f"There is no exporter named {name!r}. Use {', '.join(sorted(known))} or none.")
    make: Callable[[], object] = getattr(exporters, known[name])
    return make()


def _resource(
    service: str | None, given: Mapping[str, Attribute] | None, settings: Mapping[str, object]
) -> dict[str, Attribute]:
    made = {**cast("Mapping[str, Attribute]", settings.get("resource", {})), **(given or {})}
    name = service
    if name is None and "OTEL_SERVICE_NAME" not in os.environ:
        name = cast("str | None", settings.get("service"))
    if name is not None:
        made[names.SERVICE_NAME] = name
    return made


def _global_providers() -> tuple[TracerProvider | None, MeterProvider | None, LoggerProvider | None]:
    """Return the global providers that are the SDK's and not ours; a proxy says that the host has set none."""
    ours = kept()
    own: tuple[object, ...] = ()
    if ours is not None:
        own = (ours.tracer_provider, ours.meter_provider, ours.logger_provider)
    own = (*own, *_made_global)
    tracers, meters, loggers = (
        trace_api.get_tracer_provider(),
        metrics_api.get_meter_provider(),
        logs_api.get_logger_provider(),
    )
    return (
        tracers if isinstance(tracers, TracerProvider) and not any(tracers is one for one in own) else None,
        meters if isinstance(meters, MeterProvider) and not any(meters is one for one in own) else None,
        loggers if isinstance(loggers, LoggerProvider) and not any(loggers is one for one in own) else None,
    )


# OpenTelemetry lets a global provider be set once a process: those we set must not be taken for a host's later.
_made_global: list[object] = []


def _make_global(state: State, *, insist: bool, warn: bool) -> None:
    others = [one for one in _global_providers() if one is not None]
    if others and warn:
        tell(
            "parents_elsewhere",
            "This program has OpenTelemetry providers of its own, to which the parents of otel_ml's spans go. "
            "Pass join=True to send otel_ml's spans there too.",
        )
    if others and insist:
        raise ConfigurationError(
            "set_global=True, but OpenTelemetry's global providers are set already. Leave set_global out, or join=True."
        )
    if others or _made_global:
        return
    if type(trace_api.get_tracer_provider()) is trace_api.ProxyTracerProvider:
        trace_api.set_tracer_provider(state.tracer_provider)
        metrics_api.set_meter_provider(state.meter_provider)
        logs_api.set_logger_provider(state.logger_provider)
        _made_global.extend((state.tracer_provider, state.meter_provider, state.logger_provider))


def _check(
    sampling: object, keep_slower_than: object, interval: object, resource: object, service: object
) -> None:
    if service is not None and (type(service) is not str or not service.strip()):
        raise ConfigurationError("service must be a name. Write configure(service=\"churn-api\").")
    if sampling is not None and not (_is_number(sampling) and 0 <= cast("float", sampling) <= 1):
        raise ConfigurationError(f"sampling={sampling!r} is no share of calls. Write a number from 0 to 1, as 0.1.")
    for name, value in (("keep_slower_than", keep_slower_than), ("interval", interval)):
        if value is not None and not (_is_number(value) and cast("float", value) > 0):
            raise ConfigurationError(f"{name}={value!r} is no time. Write a number of seconds above 0, as {name}=5.0.")
    if resource is not None and not isinstance(resource, Mapping):
        raise ConfigurationError(
            f"resource must be a mapping, not {type(resource).__name__}. "
            'Write resource={"deployment.environment.name": "prod"}.'
        )


def _check_providers(tracer_provider: object, meter_provider: object, logger_provider: object) -> None:
    for name, given, kind in (
        ("tracer_provider", tracer_provider, TracerProvider),
        ("meter_provider", meter_provider, MeterProvider),
        ("logger_provider", logger_provider, LoggerProvider),
    ):
        if given is not None and not isinstance(given, kind):
            raise ConfigurationError(
                f"{name} is a {type(given).__name__}, not the OpenTelemetry SDK's {kind.__name__}. "
                f"Pass the provider that your application set up with opentelemetry.sdk."
            )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast("float", value))


