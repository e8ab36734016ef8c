"""A wish to flush or close a sink, and what a sender takes from its queues."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TypeVar

Record = TypeVar("Record")

BATCH = 512
# Slots of 512 bytes: what a batch holds is held twice more while it is encoded and sent.
BATCH_SLOTS = 2_048


class Answer:
    """A yes or no from another thread, for one who waits, whatever signal handlers do meanwhile.

    `SimpleQueue.get(timeout=...)` will not do: where a handler interrupts it and outlasts the time, CPython 3.11 passes
    what is left, a negative number, to a lock, which takes it for "without end".
    """

    __slots__ = ("_given", "_lock")

    def __init__(self) -> None:
        self._given: bool | None = None
        self._lock = allocate_lock()
        self._lock.acquire()

    def give(self, done: bool) -> None:
        """Answer; only the first answer counts."""
        if self._given is None:
            self._given = done
            self._lock.release()

    def wait(self, deadline: float) -> bool | None:
        """Return the answer, or None if there is none by `deadline` (monotonic)."""
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            return None
        self._lock.release()
        return self._given


class Request:
    """A wish to flush or close, and its answer."""

    __slots__ = ("_answer", "deadline", "last")

    def __init__(self, deadline: float, *, last: bool) -> None:
        self.deadline, self.last = deadline, last
        self._answer = Answer()

    def answer(self, done: bool) -> None:
        self._answer.give(done)

    def wait(self) -> bool | None:
        """Return the answer, or None if there is none by the deadline."""
        return self._answer.wait(self.deadline)


def take(queue: deque[Record | None]) -> Sequence[Record]:
    """Take up to 512 records or 1 MB; None only fills the slots of a record that is larger than one."""
    batch: list[Record] = []
    slots = 0
    try:
        while len(batch) < BATCH and slots < BATCH_SLOTS:
            record = queue.popleft()
            if record is not None:
                batch.append(record)
            slots += bool(batch)
    except IndexError:
        return batch
    return batch
