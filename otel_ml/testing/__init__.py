"""What our own tests use, for yours: record telemetry, and see how a program fares while its collector misbehaves."""

from typing import TYPE_CHECKING

__all__ = ["FaultCollector", "Recorder", "record"]

if TYPE_CHECKING:
    from otel_ml.testing._faults import FaultCollector
    from otel_ml.testing._recorder import Recorder, record

_HOMES = {"FaultCollector": "_faults", "Recorder": "_recorder", "record": "_recorder"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
