"""What was predicted, remembered until the label comes: bounded, oldest out and counted."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_ml import _catalog as names

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

MAX_REMEMBERED = 100_000
# Seconds after which no label is waited for any more: as long as the local store keeps anything.
MAX_CLASS_NAMES, MAX_MODELS = 20, 2_000
MAX_AGE = 7 * 86_400.0

Outcome = str | bool | int | float
# The model and version of a prediction whose label has come, as far as they are known.
Labelled = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Remembered:
    """One prediction's outcome, by which model it was made, when by its own time, and in which trace; `made` is when it came."""

    predicted: Outcome | None
    model: str
    version: str | None
    at: str | None
    context: SpanContext | None
    made: float = 0.0


class ClassNames:
    """Of each model, the first 20 classes by name; others share one. For models beyond 2,000, all do."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def bounded(self, model: str, name: str | None) -> str:
        """Return a class's name, or `_OTHER`."""
        known = self._known.get(model)
        if known is None and len(self._known) < MAX_MODELS:
            known = self._known.setdefault(model, set())
        if name is None or known is None or (name not in known and len(known) >= MAX_CLASS_NAMES):
            return names.OTHER
        known.add(name)
        return name


class Outcomes:
    """Predictions by id, waiting for their labels; at most 100,000, and as many ids whose label has come, with its model.

    None waits for longer than a week. `waiting` counts them by model and version.
    """

    def __init__(self, most: int = MAX_REMEMBERED, age: float = MAX_AGE) -> None:
        self._most, self._age = most, age
        self.waiting: Counter[Labelled] = Counter()
        # Re-entrant: a signal handler may remember a prediction while its own thread is remembering one.
        self._lock = threading.RLock()
        self._waiting: OrderedDict[str, Remembered] = OrderedDict()
        self._labelled: OrderedDict[str, Labelled] = OrderedDict()

    def put(self, id: str, remembered: Remembered) -> list[Remembered]:
        """Remember a prediction; return those that had to go: the oldest for want of room, and what is too old."""
        gone: list[Remembered] = []
        with self._lock:
            former = self._waiting.pop(id, None)
            if former is not None:
                self._count(former, -1)
            self._waiting[id] = remembered
            self._count(remembered, 1)
            while len(self._waiting) > self._most or self._oldest().made < remembered.made - self._age:
                gone.append(self._waiting.popitem(last=False)[1])
                self._count(gone[-1], -1)
        return gone

    def _oldest(self) -> Remembered:
        return self._waiting[next(iter(self._waiting))]

    def _count(self, one: Remembered, by: int) -> None:
        self.waiting[one.model, one.version] += by

    def take(self, id: str, given: Labelled) -> tuple[Remembered | None, Labelled | None]:
        """Return the prediction with this id, once, and if a label for it came before, by which model it was.

        `given` is the model and version that came with the label; they are kept where the prediction is not known.
        """
        with self._lock:
            found = self._waiting.pop(id, None)
            if found is not None:
                self._count(found, -1)
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
