"""A wish to flush or close a sink, and what a sender takes from its queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TypeVar

Record = TypeVar("Record")

BATCH = 512
# Slots of 512 bytes: what a batch holds is held twice more while it is encoded and sent.
BATCH_SLOTS = 2_048


class Request:
    """A wish to flush or close, and its answer; `SimpleQueue` is safe in signal handlers."""

    __slots__ = ("_answers", "deadline", "last")

    def __init__(self, deadline: float, *, last: bool) -> None:
        self.deadline, self.last = deadline, last
        self._answers: SimpleQueue[bool] = SimpleQueue()

    def answer(self, done: bool) -> None:
        self._answers.put(done)

    def wait(self) -> bool | None:
        """Return the answer, or None if there is none by the deadline."""
        try:
            return self._answers.get(timeout=max(0.0, self.deadline - monotonic()))
        except Empty:
            return None


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
