"""A handle on one state for its whole life: flush, shut down, ask for health; across forks and at exit."""

from __future__ import annotations

import atexit
import dataclasses
import os
import sys
import threading
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricReader

from otel_ml import _late, _shield
from otel_ml._current import CURRENT
from otel_ml._health import Health
from otel_ml._shield import failed
from otel_ml._span import reseed
from otel_ml._tenants import TENANT, Tenants, is_default, replace

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_ml._observe import Path
    from otel_ml._site import Site
    from otel_ml._state import State

# Two seconds are promised from the last line of the program to its end; the interpreter needs some of them.
EXIT_SECONDS = 1.6
# Who waits for ever waits an hour: locks take no infinite time-out.
LONGEST = 3_600.0


class Telemetry:
    """What `configure()` returns: the telemetry it set up. Also a context manager that shuts it down.

    The three providers are standard OpenTelemetry ones, for spans and instruments of your own; what you make with them
    goes to the same exporters.
    """

    def __init__(self, state: State) -> None:
        self._state: State | Orphan = state
        self._ended: bool | None = None
        _handles.add(self)

    @property
    def tracer_provider(self) -> TracerProvider:
        """The standard provider behind spans."""
        return self.state.tracer_provider

    @property
    def meter_provider(self) -> MeterProvider:
        """The standard provider behind metrics."""
        return self.state.meter_provider

    @property
    def logger_provider(self) -> LoggerProvider:
        """The standard provider behind events."""
        return self.state.logger_provider

    @property
    def state(self) -> State:
        """The state behind this handle; in a forked child, the child's own."""
        state = self._state
        return state.successor() if isinstance(state, Orphan) else state

    def flush(self, timeout: float = 5.0) -> bool:
        """Send everything recorded so far; return within `timeout` seconds.

        True only if all of it was delivered, and nothing that this process recorded has been lost since the last flush.
        Safe in a signal handler, also during another flush.
        """
        if isinstance(self._state, Orphan):
            return True
        if self._ended is not None:
            return self._ended
        try:
            return self._state.flush(monotonic() + min(max(0.0, timeout), LONGEST))
        except Exception:
            failed("flush")
            return False

    def shutdown(self, timeout: float = 2.0) -> bool:
        """Send everything and stop; return within `timeout` seconds, False if anything was left undelivered.

        What is left is in the spool, or counted as dropped where there is none. Decorated functions go on working,
        unobserved until the next `configure()`.
        """
        return self.hand_over(timeout, ())

    def hand_over(self, timeout: float, shared: Sequence[object]) -> bool:
        """Shut down all but the exporters and processors that the next state goes on using."""
        if self._ended is not None:
            return self._ended
        replace(self._state, None)
        _handles.discard(self)
        _tenants.discard(self)
        if isinstance(self._state, Orphan):
            return True
        self._ended = False
        try:
            self._ended = self._state.shutdown(monotonic() + min(max(0.0, timeout), LONGEST), shared)
        except Exception:
            failed("shut down")
        return self._ended

    def readers(self, members: Sequence[object]) -> tuple[MetricReader, ...]:
        """Return those of the members of another configuration that are metric readers of this one."""
        state = self._state._parent if isinstance(self._state, Orphan) else self._state
        both = (one for one in state.foreign if any(one is member for member in members))
        return tuple(one for one in both if isinstance(one, MetricReader))

    def health(self) -> Health:
        """Return what became of everything recorded so far."""
        state = self._state
        if isinstance(state, Orphan):
            return Health()
        return dataclasses.replace(state.accounts.health(), unkept=_late.unkept())

    @contextmanager
    def use(self) -> Generator[Telemetry, None, None]:
        """Have this telemetry, instead of the current one, observe what the block calls: one tenant among several.

        For telemetry made by `configure(..., current=False)`. It holds for the block's own thread or task and for
        those started in it with its context (`asyncio` tasks, `asyncio.to_thread`).

        >>> import otel_ml
        >>> tenant = otel_ml.configure(service="tenant-a", exporters=[], current=False)
        >>> with tenant.use():
        ...     with otel_ml.predict("churn"):
        ...         pass
        >>> tenant.shutdown()
        True
        """
        if not isinstance(CURRENT.state, Tenants):
            CURRENT.state = Tenants(CURRENT.state)
        former = TENANT.get()
        TENANT.set(self)
        try:
            yield self
        finally:
            TENANT.set(former)

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


class Orphan:
    """Stands in for the parent's state in a forked child until the child records something of its own.

    Nothing of the parent's is used: its locks may be held by threads that do not exist here, its queues are its own.
    """

    forked = True

    def __init__(self, parent: State, handle: Telemetry) -> None:
        self._parent, self._handle = parent, weakref.ref(handle)
        self._lock = threading.RLock()
        self._child: State | None = None
        parent.outlet.move(lambda: self.successor().outlet)

    def successor(self) -> State:
        """Return the child's own state, made at the first call."""
        with self._lock:
            if self._child is None:
                made = self._parent.rebuild()
                # A signal handler may have recorded in between, and so have made it.
                if self._child is None:
                    self._child = made
                    handle = self._handle()
                    if handle is not None:
                        handle._state = made
                    replace(self, made)
                    flush_in_child()
            return self._child

    def path(self, site: Site) -> Path:
        """Return the site's path under the child's own state."""
        return self.successor().path(site)

    def current_frame(self) -> object:
        """Return the frame or run around the caller, or None."""
        return self._parent.current_frame()


def install(handle: Telemetry) -> None:
    """Make a handle's state the current one."""
    _kept[:] = [handle]
    CURRENT.ended = False
    if isinstance(CURRENT.state, Tenants):
        CURRENT.state.default = handle._state
    else:
        CURRENT.state = handle._state


def flush_in_child() -> None:
    """Have a `multiprocessing` child send what it holds before it leaves by `os._exit`, which runs no atexit handler."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    Finalize(None, _at_exit, exitpriority=0)


_handles: weakref.WeakSet[Telemetry] = weakref.WeakSet()
# The handle of the current state and those of tenants: held, since the user may let go of them before the exit.
_kept: list[Telemetry] = []
_tenants: set[Telemetry] = set()


def hold(handle: Telemetry) -> None:
    """Hold a tenant's handle, so that it is closed at exit although the user let go of it."""
    _tenants.add(handle)


def kept() -> Telemetry | None:
    """Return the handle of the current state, or of the one that was shut down last."""
    return _kept[0] if _kept else None


def speaking() -> Telemetry | None:
    """Return the handle of the tenant in whose block the caller is, else of the current state; None if there is none."""
    handle = TENANT.get()
    if handle is not None:
        return handle
    return kept() if is_current(kept()) else None


def is_current(handle: Telemetry | None) -> bool:
    """Say whether a handle's state is the current one."""
    return handle is not None and is_default(handle._state)


def flush_all() -> None:
    """Have every telemetry there is send what it holds, or leave it in its spool, on time for the end of the program."""
    deadline = monotonic() + EXIT_SECONDS
    for handle in list(_handles):
        handle.flush(max(0.0, deadline - monotonic()))


def _at_exit() -> None:
    deadline = monotonic() + EXIT_SECONDS
    for handle in list(_handles):
        handle.shutdown(max(0.0, deadline - monotonic()))


def _in_child() -> None:
    reseed()
    _shield.forget()
    _late.forget()
    for handle in list(_handles):
        state = handle._state
        # A lock of the parent's stand-in may be held by a thread that does not exist here: always a new one.
        orphan = Orphan(state._parent if isinstance(state, Orphan) else state, handle)
        handle._state = orphan
        replace(state, orphan)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
