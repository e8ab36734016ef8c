"""`configure()`: say once where telemetry goes; and the joining of a host that has OpenTelemetry already."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_ml import _catalog as names
from otel_ml._assemble import Recipe, assemble
from otel_ml._health import Health
from otel_ml._hosts import check_free, global_providers, make_global
from otel_ml._places import places
from otel_ml._settings import disabled, from_pyproject
from otel_ml._shield import failed
from otel_ml._sigterm import flush_on_sigterm as handle_sigterm
from otel_ml._state import State
from otel_ml._telemetry import Telemetry, flush_all, flush_in_child, hold, install, is_current, kept
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_ml._delivery import Exporter

    Place = (
        Exporter | SpanExporter | SpanProcessor | MetricExporter | MetricReader | LogRecordExporter | LogRecordProcessor
    )

Attribute = str | bool | int | float

# Not a literal: whoever writes 0.5 has another object, and is taken at their word.
HALF_A_SECOND = float("0.5")


def configure(
    *,
    service: str | None = None,
    exporters: Sequence[Place | Callable[[], Place]] | None = None,
    sampling: float | None = None,
    keep_slower_than: float | None = HALF_A_SECOND,
    interval: float | None = None,
    resource: Mapping[str, Attribute] | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    join: bool | None = None,
    set_global: bool | None = None,
    current: bool = True,
    flush_on_sigterm: bool = False,
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
        join: True: send to the exporters and to the host's global providers. False: to the exporters alone.
        set_global: Whether our providers become OpenTelemetry's global ones; None: where none is set.
        current: False: leave what is configured as it is; the telemetry returned observes what is called in
            `with telemetry.use():`, as one of several tenants.
        flush_on_sigterm: True: when the process gets SIGTERM, everything recorded is sent, or spooled, within 1.6 seconds,
            and then the handler that was there before is called, or the process ends as it would have. Only in the main
            thread. Without it no signal handler is touched.

    Raises:
        ConfigurationError: An argument or setting cannot be used. After this function has returned nothing raises.

    >>> import otel_ml
    >>> telemetry = otel_ml.configure(service="churn-api", exporters=[])
    >>> telemetry.shutdown()
    True
    """
    check_settings(sampling, keep_slower_than, interval, resource, service)
    _check_providers(tracer_provider, meter_provider, logger_provider)
    _check_switches(join, set_global, current, flush_on_sigterm)
    settings = from_pyproject()
    check_settings(
        *(settings.get(name) for name in ("sampling", "keep_slower_than", "interval", "resource", "service"))
    )
    passed = bool(tracer_provider or meter_provider or logger_provider)
    found = places(exporters, settings, host=passed or (join is not False and any(global_providers())))
    recipe = _recipe(
        exporters=found,
        # A host that is joined samples as it does; only an argument that says otherwise is a mistake.
        sampling=sampling if found is None else _setting(sampling, settings, "sampling", "OTEL_TRACES_SAMPLER"),
        keep_slower_than=(
            cast("float", settings.get("keep_slower_than", 0.5))
            if keep_slower_than is HALF_A_SECOND
            else keep_slower_than
        ),
        interval=_setting(interval, settings, "interval", "OTEL_METRIC_EXPORT_INTERVAL"),
        resource=resource_facts(service, resource, settings),
        providers=(tracer_provider, meter_provider, logger_provider),
        join=join,
    )
    if set_global and current and not disabled():
        check_free()
    if flush_on_sigterm and not disabled():
        handle_sigterm(flush_all)
    return _install(recipe, set_global, warn=exporters is not None and join is None, current=current)


def join_host() -> State | None:
    """Join the host's global SDK providers, if it has any; called when a decorated function runs unconfigured."""
    if disabled():
        return None
    try:
        providers = global_providers()
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
            make_global(state, warn=warn)
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
    if (exporters is None and join is not False) or join:
        providers = cast("tuple[TracerProvider | None, MeterProvider | None, LoggerProvider | None]", (
            tuple(given or found for given, found in zip(providers, global_providers(), strict=True))
        ))  # fmt: skip
    if exporters is None and sampling is not None:
        raise ConfigurationError(
            "sampling= was given, but the host's own sampler decides when its providers are joined. "
            "Leave sampling out, or pass exporters=[...]."
        )
    return Recipe(exporters or (), resource, sampling, keep_slower_than, interval, *providers)


def _setting(argument: float | None, settings: Mapping[str, object], name: str, variable: str) -> float | None:
    """Return an argument, else the setting in pyproject.toml; None where OpenTelemetry's own variable is set instead."""
    return argument if argument is not None or variable in os.environ else cast("float | None", settings.get(name))


def resource_facts(
    service: str | None, given: Mapping[str, Attribute] | None, settings: Mapping[str, object]
) -> dict[str, Attribute]:
    made = {**cast("Mapping[str, Attribute]", settings.get("resource", {})), **(given or {})}
    name = service
    if name is None and "OTEL_SERVICE_NAME" not in os.environ:
        name = cast("str | None", settings.get("service"))
    if name is not None:
        made[names.SERVICE_NAME] = name
    return made


def check_settings(
    sampling: object, keep_slower_than: object, interval: object, resource: object, service: object
) -> None:
    if service is not None and (type(service) is not str or not service.strip()):
        raise ConfigurationError('service must be a name. Write configure(service="churn-api").')
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
    for key, value in cast("Mapping[object, object]", resource or {}).items():
        if not isinstance(key, str) or not key or not isinstance(value, str | bool | int | float | list | tuple):
            raise ConfigurationError(
                f"resource has an entry {key!r} of {type(value).__name__}; names are text, values text, numbers or "
                'booleans. Write resource={"deployment.environment.name": "prod"}.'
            )


def _check_switches(join: object, set_global: object, current: object, flush_on_sigterm: object) -> None:
    for name, value in (("join", join), ("set_global", set_global)):
        if value is not None and type(value) is not bool:
            raise ConfigurationError(
                f"{name} must be True, False or None, not {value!r}. Leave {name} out, or write True."
            )
    for name, value in (("current", current), ("flush_on_sigterm", flush_on_sigterm)):
        if type(value) is not bool:
            raise ConfigurationError(
                f"{name} must be True or False, not {value!r}. Leave {name} out, or write {name}={name != 'current'}."
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
