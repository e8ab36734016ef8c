"""What stands between our state and standard providers: where the user's own records go, and how others are closed."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from otel_ml._shield import failed

if TYPE_CHECKING:
    from otel_ml._sink import Sink


class Outlet:
    """Where the spans and records go that a user makes with our providers: to a state's sinks.

    A forked child goes on using the parent's providers (they are global, or kept in a variable); `move` then has what
    the child makes with them go to sinks of its own.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks: Callable[[], Sequence[Sink]] = lambda: sinks

    def sinks(self) -> Sequence[Sink]:
        """Return the sinks of this process."""
        return self._sinks()

    def move(self, sinks: Callable[[], Sequence[Sink]]) -> None:
        """Send everything elsewhere from now on."""
        self._sinks = sinks


class Closes(Protocol):
    """A standard processor or reader."""

    def shutdown(self) -> object: ...
    def force_flush(self, timeout_millis: int, /) -> object: ...


# Waits for what has begun; False if something was not done by the deadline, or said so.
Wait = Callable[[], bool]


def begin_close(foreign: Sequence[Closes], deadline: float) -> Wait:
    """Begin to shut everything down, all at once."""
    return _begin([one.shutdown for one in foreign], deadline)


def begin_flush(foreign: Sequence[Closes], deadline: float) -> Wait:
    """Begin to flush everything, all at once."""
    left = max(1, int((deadline - monotonic()) * 1_000))
    return _begin([lambda one=one: one.force_flush(left) for one in foreign], deadline)  # type: ignore[misc]  # bound as default


def _begin(tasks: Sequence[Callable[[], object]], deadline: float) -> Wait:
    answers: SimpleQueue[bool] = SimpleQueue()
    later: list[Callable[[], object]] = []

    def run(task: Callable[[], object]) -> None:
        try:
            answers.put(task() is not False)
        except BaseException:  # also what would end a thread of its own without a word
            answers.put(False)
            failed("close a processor")

    def wait() -> bool:
        done = True
        for task in later:
            run(task)
        for _ in tasks:
            try:
                done = answers.get(timeout=max(0.0, deadline - monotonic())) and done
            except Empty:
                return False
        return done

    for task in tasks:
        try:
            # `threading.Thread` takes a lock to start, which a signal handler may have interrupted somebody holding.
            start_new_thread(run, (task,))
        except RuntimeError:
            # CPython 3.12.0-3.12.2 starts no thread at exit: then one after the other.
            later.append(task)
    return wait
