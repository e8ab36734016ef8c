"""A handle on one state for its whole life: flush, shut down, ask for health; across forks and at exit."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING

from otel_ml import _shield
from otel_ml._current import CURRENT
from otel_ml._health import Account, ExporterHealth, Health
from otel_ml._providers import flush_all
from otel_ml._shield import failed
from otel_ml._span import reseed

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


class Telemetry:
    """What `configure()` returns: the telemetry it set up. Also a context manager that shuts it down.

    The three providers are standard OpenTelemetry ones, for spans and instruments of your own; what you make with them
    goes to the same exporters.
    """

    def __init__(self, state: State) -> None:
        self._state: State | Orphan = state
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

        True only if all of it was delivered. Safe in a signal handler, also during another flush.
        """
        try:
            state, deadline = self.state, monotonic() + max(0.0, timeout)
            foreign = flush_all(state.foreign, deadline) if state.foreign else True
            return state.flush(deadline) and foreign
        except Exception:
            failed("flush")
            return False

    def shutdown(self, timeout: float = 2.0) -> bool:
        """Send everything and stop; return within `timeout` seconds, False if anything was left undelivered.

        What is left is counted as dropped. Decorated functions go on working, unobserved.
        """
        if CURRENT.state is self._state:
            CURRENT.state = None
        _handles.discard(self)
        if isinstance(self._state, Orphan):
            return True
        try:
            return self._state.shutdown(monotonic() + max(0.0, timeout))
        except Exception:
            failed("shut down")
            return False

    def health(self) -> Health:
        """Return what became of everything recorded so far."""
        state = self.state
        exporters = tuple(
            ExporterHealth(
                sink.name,
                sink.where,
                {signal: Account(*account) for signal, account in sink.account().items()},
            )
            for sink in state.sinks
        )
        refused = state.replay.refused if state.replay is not None else 0
        return Health(exporters, refused, _shield.failures())

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
        self._lock = threading.Lock()
        self._child: State | None = None

    def successor(self) -> State:
        """Return the child's own state, made at the first call."""
        with self._lock:
            if self._child is None:
                self._child = self._parent.rebuild()
                handle = self._handle()
                if handle is not None:
                    handle._state = self._child
                if CURRENT.state is self:
                    CURRENT.state = self._child
                flush_in_child()
            return self._child

    def path(self, site: Site) -> Path:
        """Return the site's path under the child's own state."""
        return self.successor().path(site)

    def current_frame(self) -> object:
        """Return the frame or run around the caller, or None."""
        return self._parent.current_frame()


def live() -> State | None:
    """Return the current state; in a forked child, the child's own."""
    state = CURRENT.state
    return None if state is None else state.successor()


def flush_in_child() -> None:
    """Have a `multiprocessing` child send what it holds before it leaves by `os._exit`, which runs no atexit handler."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    Finalize(None, _at_exit, exitpriority=0)


_handles: weakref.WeakSet[Telemetry] = weakref.WeakSet()
_kept: list[Telemetry] = []


def keep(handle: Telemetry) -> None:
    """Hold the handle of the current state, so that it is closed at exit although the user let go of it."""
    _kept[:] = [handle]


def kept() -> Telemetry | None:
    """Return the handle of the current state."""
    return _kept[0] if _kept and (CURRENT.state is not None) else None


def _at_exit() -> None:
    deadline = monotonic() + EXIT_SECONDS
    for handle in list(_handles):
        handle.shutdown(max(0.0, deadline - monotonic()))


def _in_child() -> None:
    reseed()
    _shield.forget()
    for handle in list(_handles):
        state = handle._state
        if isinstance(state, Orphan):
            continue
        orphan = Orphan(state, handle)
        handle._state = orphan
        if CURRENT.state is state:
            CURRENT.state = orphan


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
