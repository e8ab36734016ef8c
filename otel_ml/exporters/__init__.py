"""Places telemetry goes: objects for the list given to `configure(exporters=[...])`."""

from typing import TYPE_CHECKING

__all__ = ["OTLP", "Console", "Local", "Merging", "Spool"]

if TYPE_CHECKING:
    from otel_ml._spool import Spool
    from otel_ml.exporters.console import Console
    from otel_ml.exporters.local import Local
    from otel_ml.exporters.merging import Merging
    from otel_ml.exporters.otlp import OTLP

_HOMES = {
    "OTLP": "otel_ml.exporters.otlp",
    "Console": "otel_ml.exporters.console",
    "Local": "otel_ml.exporters.local",
    "Merging": "otel_ml.exporters.merging",
    "Spool": "otel_ml._spool",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
