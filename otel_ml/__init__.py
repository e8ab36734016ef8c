"""Watch machine-learning models in production: predict and train as OpenTelemetry traces, metrics and events."""

from typing import TYPE_CHECKING

from otel_ml._call import Call
from otel_ml._calls import current, predict
from otel_ml._epochs import Epoch
from otel_ml._feedback import feedback
from otel_ml._runs import Run
from otel_ml._train import train
from otel_ml._version import VERSION as __version__
from otel_ml.errors import ConfigurationError, MissingExtraError, OtelMLError

if TYPE_CHECKING:
    from otel_ml import checks, errors, exporters, testing
    from otel_ml._alarm import Alarm
    from otel_ml._configure import configure, flush, health, shutdown
    from otel_ml._finding import Finding
    from otel_ml._health import Health
    from otel_ml._telemetry import Telemetry

__all__ = [
    "Alarm",
    "Call",
    "ConfigurationError",
    "Epoch",
    "Finding",
    "Health",
    "MissingExtraError",
    "OtelMLError",
    "Run",
    "Telemetry",
    "__version__",
    "checks",
    "configure",
    "current",
    "errors",
    "exporters",
    "feedback",
    "flush",
    "health",
    "predict",
    "shutdown",
    "testing",
    "train",
]

# What needs the OpenTelemetry SDK is loaded when it is first used: importing otel_ml must cost next to nothing.
_HOMES = {
    "Alarm": "otel_ml._alarm",
    "Finding": "otel_ml._finding",
    "Health": "otel_ml._health",
    "Telemetry": "otel_ml._telemetry",
    "configure": "otel_ml._configure",
    "flush": "otel_ml._configure",
    "health": "otel_ml._configure",
    "shutdown": "otel_ml._configure",
}
_MODULES = {"checks", "exporters", "testing"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"otel_ml.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'otel_ml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
