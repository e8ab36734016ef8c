"""Whose state is current: the default one's, or in a tenant's block that tenant's."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from otel_ml._current import CURRENT

if TYPE_CHECKING:
    from otel_ml._state import State
    from otel_ml._telemetry import Orphan, Telemetry


class Tenants:
    """Stands where the current state does once `Telemetry.use` has been used: each block sees its own tenant's."""

    forked = True

    def __init__(self, default: State | Orphan | None) -> None:
        self.default = default

    def successor(self) -> State | None:
        """Return the state of the block around the caller, else the current one."""
        handle = TENANT.get()
        if handle is not None:
            return handle.state
        return None if self.default is None else self.default.successor()

    def current_frame(self) -> object:
        """Return the frame or run around the caller, or None."""
        state = self.successor()
        return None if state is None else state.current_frame()


def replace(old: State | Orphan, new: State | Orphan | None) -> None:
    """Put `new` where `old` is the current state; leave another current state alone."""
    state = CURRENT.state
    if new is None and is_default(old):
        CURRENT.ended = True
    if state is old:
        CURRENT.state = new
    elif isinstance(state, Tenants) and state.default is old:
        state.default = new


def is_default(state: State | Orphan) -> bool:
    """Say whether a state is the one outside of tenants' blocks."""
    return state is (CURRENT.state.default if isinstance(CURRENT.state, Tenants) else CURRENT.state)


TENANT: ContextVar[Telemetry | None] = ContextVar("otel_ml_tenant", default=None)
