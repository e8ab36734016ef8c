"""The one module-level state: what telemetry does now, replaced whole by `configure()`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_ml._state import State
    from otel_ml._telemetry import Orphan


class Current:
    """Holds the state that calls follow; None until `configure()`, or until a host's providers are joined."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: State | Orphan | None = None

    def find_host(self) -> State | Orphan | None:
        """Join the OpenTelemetry SDK providers a host application has made global, if it has.

        Looks only at what is imported already: an application without the SDK pays for one dictionary lookup.
        """
        if self.state is not None or "opentelemetry.sdk.trace" not in sys.modules:
            return self.state
        from importlib import import_module

        # Imported by name, when it is needed: this module belongs to the layer that knows no OpenTelemetry.
        joined: State | None = import_module("otel_ml._configure").join_host()
        return joined


CURRENT = Current()
