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
# The model and version of a prediction whose label has come, as far as they are known.
Labelled = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Remembered:
    """One prediction's outcome, by which model it was made, when, and in which trace."""

    predicted: Outcome | None
    model: str
    version: str | None
    at: str | None
    context: SpanContext | None


class Outcomes:
    """Predictions by id, waiting for their labels; at most 100,000, and as many ids whose label has come, with its model."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        # Re-entrant: a signal handler may remember a prediction while its own thread is remembering one.
        self._lock = threading.RLock()
        self._waiting: OrderedDict[str, Remembered] = OrderedDict()
        self._labelled: OrderedDict[str, Labelled] = OrderedDict()

    def put(self, id: str, remembered: Remembered) -> Remembered | None:
        """Remember a prediction; return the one that had to go for it, if any."""
        with self._lock:
            self._waiting[id] = remembered
            self._waiting.move_to_end(id)
            if len(self._waiting) > self._most:
                return self._waiting.popitem(last=False)[1]
        return None

    def take(self, id: str, given: Labelled) -> tuple[Remembered | None, Labelled | None]:
        """Return the prediction with this id, once, and if a label for it came before, by which model it was.

        `given` is the model and version that came with the label; they are kept where the prediction is not known.
        """
        with self._lock:
            found = self._waiting.pop(id, None)
            former = self._labelled[id] if id in self._labelled else None  # noqa: SIM401  # see `tests/faults`: no call
            if found is not None:
                self._labelled[id] = found.model, found.version
            elif former is None or former[0] is None:
                self._labelled[id] = given
            if len(self._labelled) > self._most:
                self._labelled.popitem(last=False)
        return found, former

    def __len__(self) -> int:
        return len(self._waiting)
