"""The one module-level state: what telemetry does now, replaced whole by `configure()`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_ml._state import State
    from otel_ml._telemetry import Orphan
    from otel_ml._tenants import Tenants


class Current:
    """Holds the state that calls follow; None until `configure()`, or until a host's providers are joined."""

    __slots__ = ("ended", "state")

    def __init__(self) -> None:
        self.state: State | Orphan | Tenants | None = None
        # Whether what was current was shut down: then a host is not joined any more without being asked.
        self.ended = False

    def __reduce__(self) -> str:
        """Pickle by name: a function sent to another process follows what is configured there."""
        return "CURRENT"

    def live(self) -> State | None:
        """Return the state to record under: in a forked child the child's own, in a tenant's block the tenant's."""
        state = self.state
        return None if state is None else state.successor()

    def find_host(self) -> State | None:
        """Join the OpenTelemetry SDK providers a host application has made global, if it has.

        Looks only at what is imported already: an application without the SDK pays for one dictionary lookup.
        """
        if self.state is not None or self.ended or "opentelemetry.sdk.trace" not in sys.modules:
            return self.live()
        from importlib import import_module

        # Imported by name, when it is needed: this module belongs to the layer that knows no OpenTelemetry.
        joined: State | None = import_module("otel_ml._configure").join_host()
        return joined


CURRENT = Current()
