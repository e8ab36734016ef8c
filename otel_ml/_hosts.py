"""OpenTelemetry's global providers: whether a host has set them, and ours where it has not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_ml._providers import OURS
from otel_ml._shield import tell
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_ml._state import State
    from otel_ml._telemetry import Telemetry


def global_providers() -> tuple[TracerProvider | None, MeterProvider | None, LoggerProvider | None]:
    """Return the global providers that are the SDK's and not ours; a proxy says that the host has set none."""
    tracers, meters, loggers = (
        trace_api.get_tracer_provider(),
        metrics_api.get_meter_provider(),
        logs_api.get_logger_provider(),
    )
    return (
        tracers if isinstance(tracers, TracerProvider) and tracers not in OURS else None,
        meters if isinstance(meters, MeterProvider) and meters not in OURS else None,
        loggers if isinstance(loggers, LoggerProvider) and loggers not in OURS else None,
    )


def check_free() -> None:
    """Raise `ConfigurationError` where a host has set OpenTelemetry's global providers, so that ours cannot be."""
    if any(global_providers()):
        raise ConfigurationError(
            "set_global=True, but OpenTelemetry's global providers are set already. Leave set_global out, or join=True."
        )


def make_global(handle: Telemetry, *, warn: bool) -> None:
    """Make the providers behind a handle the global ones, unless there are others; one line says that there are.

    OpenTelemetry lets a global provider be set once a process. So where former ones of ours are global already, what is
    made with them goes from now on where the handle's goes.
    """
    others = [one for one in global_providers() if one is not None]
    if others and warn:
        tell(
            "parents_elsewhere",
            "This program has OpenTelemetry providers of its own, to which the parents of otel_ml's spans go. "
            "Pass join=True to send otel_ml's spans there too.",
        )
    if _made_global:
        _made_global[0].follow(handle)
    elif not others and type(trace_api.get_tracer_provider()) is trace_api.ProxyTracerProvider:
        state = handle.state
        trace_api.set_tracer_provider(state.tracer_provider)
        metrics_api.set_meter_provider(state.meter_provider)
        logs_api.set_logger_provider(state.logger_provider)
        _made_global.append(_Global(state))


class _Global:
    """Our providers that are OpenTelemetry's global ones, and whose sources collect from their instruments now."""

    def __init__(self, state: State) -> None:
        self._outlet, self._sources = state.outlet, state.outlet.sources
        self._meter_provider = cast("MeterProvider", state.meter_provider)
        self._pid = os.getpid()

    def follow(self, handle: Telemetry) -> None:
        """Have everything made with them go to another state, and to what becomes of it in a forked child."""
        self._outlet.move(lambda: handle.state.outlet)
        if os.getpid() != self._pid:
            # A thread of the parent may have held the SDK's lock on its instruments, and would hold it here for ever.
            return
        for source in self._sources:
            source.leave(self._meter_provider)
        self._sources = handle.state.outlet.sources
        for source in self._sources:
            source.follow(self._meter_provider)


_made_global: list[_Global] = []
