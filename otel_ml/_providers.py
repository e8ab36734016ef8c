"""Flushing and closing processors and readers that are not ours, within a deadline they do not know of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Protocol

from otel_ml._shield import failed


class Closes(Protocol):
    """A standard processor or reader."""

    def shutdown(self) -> object: ...
    def force_flush(self, timeout_millis: int, /) -> object: ...


def close_all(foreign: Sequence[Closes], deadline: float) -> bool:
    """Shut everything down, all at once; False if something was not done by the deadline."""
    return _all([one.shutdown for one in foreign], deadline)


def flush_all(foreign: Sequence[Closes], deadline: float) -> bool:
    """Flush everything, all at once; False if something was not done, or said so, by the deadline."""
    left = max(1, int((deadline - monotonic()) * 1_000))
    return _all([lambda one=one: one.force_flush(left) for one in foreign], deadline)  # type: ignore[misc]  # bound as default


def _all(tasks: Sequence[Callable[[], object]], deadline: float) -> bool:
    answers: SimpleQueue[bool] = SimpleQueue()

    def run(task: Callable[[], object]) -> None:
        try:
            answers.put(task() is not False)
        except Exception:
            failed("close a processor")
            answers.put(False)

    for task in tasks:
        try:
            threading.Thread(target=run, args=(task,), daemon=True).start()
        except RuntimeError:
            # CPython 3.12.0-3.12.2 starts no thread at exit: then one after the other.
            run(task)
    done = True
    for _ in tasks:
        try:
            done = answers.get(timeout=max(0.0, deadline - monotonic())) and done
        except Empty:
            return False
    return done
