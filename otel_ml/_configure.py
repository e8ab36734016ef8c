"""`configure()`: say once where telemetry goes; and the joining of a host that has OpenTelemetry already."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from opentelemetry.sdk.resources import OTELResourceDetector

from otel_ml import _catalog as names
from otel_ml._assemble import Recipe, assemble
from otel_ml._current import CURRENT
from otel_ml._health import Health
from otel_ml._hosts import check_free, global_providers, make_global
from otel_ml._otel_private import release_reader
from otel_ml._places import places
from otel_ml._refused import check_providers, check_settings, check_switches, check_what_is_looked_for
from otel_ml._settings import disabled, from_pyproject, milliseconds
from otel_ml._shield import failed
from otel_ml._sigterm import flush_on_sigterm as handle_sigterm
from otel_ml._state import State
from otel_ml._telemetry import Telemetry, flush_all, flush_in_child, hold, install, is_current, kept, speaking
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_ml._alarm import Alarm
    from otel_ml._delivery import Exporter
    from otel_ml._finding import Finding
    from otel_ml._voice import Voice
    from otel_ml._watching import Driver
    from otel_ml.checks import Check

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
    checks: Sequence[Check] = (),
    alarms: Sequence[Alarm] = (),
    on_finding: Callable[[Finding], object] | None = None,
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

    Called again, it replaces everything that was configured before; an exporter present in both is not shut down. If it
    raises, what was configured before goes on.

    Args:
        service: Name of this service (`service.name`); else `OTEL_SERVICE_NAME`.
        exporters: Places telemetry goes: ours (`otel_ml.exporters`), any standard OpenTelemetry exporter, processor or
            reader, or functions that make one (made anew in forked children). Without it: `OTEL_ML_EXPORTERS`, else
            providers of a host are joined, else OpenTelemetry's own variables, else the local store.
        sampling: Share of root calls that get a span, 0 to 1; else `OTEL_TRACES_SAMPLER`, else 1. Metrics count every
            call.
        keep_slower_than: Seconds; failed calls, and slower ones, get a span even when not sampled, at most 10 a
            second. None: no such spans.
        interval: Seconds between metric exports; else `OTEL_METRIC_EXPORT_INTERVAL`, else what each exporter prefers (60;
            5 for Local and Console).
        checks: What to look for in calls, labels and training runs (`otel_ml.checks`). They work in a thread of their own
            and say what they find as events, metrics, and to `on_finding`.
        alarms: Conditions on metrics (`otel_ml.Alarm`); `otel-ml alarms` writes them out for a back end.
        on_finding: Called with each `Finding`, when it begins to hold and when it is over, in the checks' thread.
        resource: Further attributes of this process; they win over `OTEL_RESOURCE_ATTRIBUTES`.
        tracer_provider: A host's SDK provider to join; likewise `meter_provider` and `logger_provider`.
        join: True: send to the exporters and to the host's global providers, which there must be. False: to the exporters
            alone.
        set_global: Whether our providers become OpenTelemetry's global ones; None: where none is set. Where former ones of
            ours are global, what is made with them follows, unless this is False.
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
    check_switches(join, set_global, current, flush_on_sigterm)
    check_what_is_looked_for(checks, alarms, on_finding)
    check_providers(tracer_provider, meter_provider, logger_provider, join)
    settings = from_pyproject()
    check_settings(
        *(settings.get(name) for name in ("sampling", "keep_slower_than", "interval", "resource", "service"))
    )
    passed = bool(tracer_provider or meter_provider or logger_provider)
    found = places(exporters, settings, host=passed or (join is not False and any(global_providers())))
    recipe = _recipe(
        exporters=found,
        # A host that is joined samples as it does; only an argument that says otherwise is a mistake.
        sampling=sampling if found is None else _share(sampling, settings),
        keep_slower_than=(
            cast("float", settings.get("keep_slower_than", 0.5))
            if keep_slower_than is HALF_A_SECOND
            else keep_slower_than
        ),
        interval=interval
        or milliseconds("OTEL_METRIC_EXPORT_INTERVAL")
        or cast("float | None", settings.get("interval")),
        resource=resource_facts(service, resource, settings),
        providers=(tracer_provider, meter_provider, logger_provider),
        join=join,
    )
    recipe = replace(recipe, driver=_driver(tuple(checks)), alarms=tuple(alarms), on_finding=on_finding)
    if set_global and current and not disabled():
        check_free()
    warn = exporters is not None and join is None
    return _install(recipe, set_global, warn=warn, current=current, sigterm=flush_on_sigterm)


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
    """Send everything recorded so far; True only if all of it was delivered within `timeout` seconds.

    Like `shutdown` and `health`, it speaks for what is configured; in a `with telemetry.use():` block for that tenant.
    """
    handle = speaking()
    return handle.flush(timeout) if handle is not None else True


def shutdown(timeout: float = 2.0) -> bool:
    """Send everything and stop; False if anything was left undelivered after `timeout` seconds.

    Until `configure()` is called again nothing is observed, also where there are providers of a host.
    """
    handle = speaking()
    if handle is None:
        CURRENT.ended = True
        return True
    return handle.shutdown(timeout)


def health() -> Health:
    """Return what became of everything recorded so far, exporter by exporter."""
    handle = speaking() or kept()
    return handle.health() if handle is not None else Health()


def _driver(checks: tuple[Check, ...]) -> Callable[[Voice], Driver] | None:
    if not checks:
        return None
    from otel_ml.checks._driver import Driver as Checks

    return lambda voice: Checks(checks, voice)


def _install(recipe: Recipe, set_global: bool | None, *, warn: bool, current: bool, sigterm: bool) -> Telemetry:
    if disabled():
        recipe, sigterm = Recipe(), False
    former = kept() if current and is_current(kept()) else None
    handle = Telemetry(_replacing(former, recipe, sigterm=sigterm))
    if not current:
        hold(handle)
        return handle
    if not disabled():
        install(handle)
        joined = recipe.joined and not recipe.exporters
        if set_global is not False and not joined:
            make_global(handle, warn=warn)
        flush_in_child()
    return handle


def _replacing(former: Telemetry | None, recipe: Recipe, *, sigterm: bool) -> State:
    """Make a state, and then close the `former` one, which goes on if anything fails.

    Building exporters opens nothing, so that ports and files of the former state are closed before new ones open. A
    function that opens a port itself is called once more when the former state has left that port.
    """
    held = former.readers(recipe.exporters) if former is not None else ()
    try:
        state = assemble(recipe, held)
    except ConfigurationError as error:
        if former is None or not _in_use(error):
            raise
        former.hand_over(2.0, recipe.exporters)
        state = assemble(recipe, held)
    if sigterm:
        handle_sigterm(flush_all)
    if former is not None:
        former.hand_over(2.0, recipe.exporters)
    for reader in held:
        release_reader(reader)
        cast("MeterProvider", state.meter_provider).add_metric_reader(reader)
    return state


def _in_use(error: ConfigurationError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE


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
    if join and not any(providers) and not disabled():
        raise ConfigurationError(
            "join=True, but this program has no OpenTelemetry SDK providers that could be joined. "
            "Set them up before otel_ml.configure() is called, or leave join out."
        )
    if exporters is None and sampling is not None:
        raise ConfigurationError(
            "sampling= was given, but the host's own sampler decides when its providers are joined. "
            "Leave sampling out, or pass exporters=[...]."
        )
    return Recipe(exporters or (), resource, sampling, keep_slower_than, interval, *providers)


def _share(argument: float | None, settings: Mapping[str, object]) -> float | None:
    """Return the share of calls to sample; None where OpenTelemetry's own variable names a sampler instead."""
    named = argument is not None or "OTEL_TRACES_SAMPLER" in os.environ
    return argument if named else cast("float | None", settings.get("sampling"))


def resource_facts(
    service: str | None, given: Mapping[str, Attribute] | None, settings: Mapping[str, object]
) -> dict[str, Attribute]:
    """Return the attributes to add to what OpenTelemetry's variables say, which come before those of pyproject.toml."""
    listed = dict(cast("Mapping[str, Attribute]", settings.get("resource", {})))
    if (name := cast("str | None", settings.get("service"))) is not None:
        listed[names.SERVICE_NAME] = name
    said = set(OTELResourceDetector().detect().attributes) if listed else set[str]()
    made = {**{key: value for key, value in listed.items() if key not in said}, **(given or {})}
    if service is not None:
        made[names.SERVICE_NAME] = service
    return made
