"""Windows of predictions by the time they were made: what each has to show, and when it is time to say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Generic, TypeVar

from otel_ml.errors import ConfigurationError

S = TypeVar("S")


class Window(Generic[S]):
    """Predictions made from `start` until `end` (seconds since 1970), what their labels add up to, and what was said of it.

    `awaited` predictions were made whose labels were to come, `labels` have come. `revision` is -1 until it has been
    closed, then 0, then one more whenever late labels have changed it.
    """

    __slots__ = ("awaited", "changed", "end", "labels", "revision", "said_at", "start", "state")

    def __init__(self, start: float, end: float, state: S) -> None:
        self.start, self.end, self.state = start, end, state
        self.awaited = self.labels = 0
        self.revision = -1
        self.changed = False
        self.said_at = -math.inf

    @property
    def coverage(self) -> float | None:
        """The share of its predictions whose label has come; None where nobody told how many there were."""
        return min(1.0, self.labels / self.awaited) if self.awaited else None


class Windows(Generic[S]):
    """The last windows of one length, by the predictions' own time; older labels are not counted in any."""

    # Seconds of wall time between two revisions of one window: labels trickle in.
    REVISE_EVERY = 60.0

    def __init__(self, length: float, most: int, make: Callable[[], S]) -> None:
        self._length, self._most, self._make = length, most, make
        self._windows: dict[int, Window[S]] = {}
        self._latest = -math.inf
        # Labels of predictions that are older than the oldest window kept.
        self.too_old = 0

    def at(self, time: float) -> Window[S] | None:
        """Return the window of a prediction made then; None if that is too long ago, or no time."""
        if not math.isfinite(time):
            return None
        number = math.floor(time / self._length)
        found = self._windows.get(number)
        if found is None:
            if len(self._windows) >= self._most and number < min(self._windows):
                self.too_old += 1
                return None
            found = self._windows[number] = Window(number * self._length, (number + 1) * self._length, self._make())
            if len(self._windows) > self._most:
                del self._windows[min(self._windows)]
        self._latest = max(self._latest, time)
        return found

    def due(self, now: float) -> Iterator[Window[S]]:
        """Give the windows that are to be told of, oldest first: closed ones that have changed; at the end, all of them.

        A window is over when a prediction of a later one has been seen, or, where what is seen is of this time, when the
        clock has passed its end: a replay of last year goes by its own time.
        """
        last = now == math.inf
        live = abs(now - self._latest) < max(3_600.0, 2 * self._length)
        until = max(self._latest, now) if live else self._latest
        for number in sorted(self._windows):
            window = self._windows[number]
            over = last or window.end <= until
            if window.changed and over and (last or window.revision < 0 or now - window.said_at >= self.REVISE_EVERY):
                window.changed = False
                window.revision += 1
                window.said_at = now
                yield window


def length_of(window: object, example: str) -> float:
    """Return a window's length in seconds; raise `ConfigurationError` for what is none."""
    seconds = window.total_seconds() if isinstance(window, timedelta) else window
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigurationError(f"window={window!r} is no length of time. Write {example}.")
    return float(seconds)


def named_length(seconds: float) -> str:
    """Return a window's length as people say it.

    >>> named_length(3600.0), named_length(86400.0), named_length(90.0), named_length(0.5)
    ('1h', '1d', '90s', '0.5s')
    """
    for unit, size in (("d", 86_400.0), ("h", 3_600.0)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:g}s"
