"""What was predicted, remembered until the label comes: bounded, oldest out and counted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

MAX_REMEMBERED = 100_000

Outcome = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Remembered:
    """One prediction's outcome, by which model it was made, when, and in which trace."""

    predicted: Outcome | None
    model: str
    version: str | None
    at: str | None
    context: SpanContext | None


class Outcomes:
    """Predictions by id, waiting for their labels; at most 100,000, and as many ids whose label has come."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        # Re-entrant: a signal handler may remember a prediction while its own thread is remembering one.
        self._lock = threading.RLock()
        self._waiting: OrderedDict[str, Remembered] = OrderedDict()
        self._labelled: OrderedDict[str, None] = OrderedDict()

    def put(self, id: str, remembered: Remembered) -> Remembered | None:
        """Remember a prediction; return the one that had to go for it, if any."""
        with self._lock:
            self._waiting[id] = remembered
            self._waiting.move_to_end(id)
            if len(self._waiting) > self._most:
                return self._waiting.popitem(last=False)[1]
        return None

    def take(self, id: str) -> tuple[Remembered | None, bool]:
        """Return the prediction with this id, once, and whether its label had come before."""
        with self._lock:
            found = self._waiting.pop(id, None)
            before = id in self._labelled
            self._labelled[id] = None
            if len(self._labelled) > self._most:
                self._labelled.popitem(last=False)
        return found, before

    def __len__(self) -> int:
        return len(self._waiting)
