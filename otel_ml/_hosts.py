"""OpenTelemetry's global providers: whether a host has set them, and ours where it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_ml._shield import tell
from otel_ml._telemetry import kept
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_ml._state import State


def global_providers() -> tuple[TracerProvider | None, MeterProvider | None, LoggerProvider | None]:
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


def check_free() -> None:
    """Raise `ConfigurationError` where a host has set OpenTelemetry's global providers, so that ours cannot be."""
    if any(global_providers()):
        raise ConfigurationError(
            "set_global=True, but OpenTelemetry's global providers are set already. Leave set_global out, or join=True."
        )


def make_global(state: State, *, warn: bool) -> None:
    """Make a state's providers the global ones, unless there are others; one line says that there are."""
    others = [one for one in global_providers() if one is not None]
    if others and warn:
        tell(
            "parents_elsewhere",
            "This program has OpenTelemetry providers of its own, to which the parents of otel_ml's spans go. "
            "Pass join=True to send otel_ml's spans there too.",
        )
    if others or _made_global:
        return
    if type(trace_api.get_tracer_provider()) is trace_api.ProxyTracerProvider:
        trace_api.set_tracer_provider(state.tracer_provider)
        metrics_api.set_meter_provider(state.meter_provider)
        logs_api.set_logger_provider(state.logger_provider)
        _made_global.extend((state.tracer_provider, state.meter_provider, state.logger_provider))
