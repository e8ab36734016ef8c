"""Time what waits, on a machine that has other things to do: what a thread that only beats is late by is not ours."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic

# Seconds between two beats, and by which one may be late without being held up: a turn of another thread.
_BEAT, _TURN = 0.005, 0.005


@dataclass
class Stopwatch:
    """How long a block took: `elapsed`, and `seconds`, which leaves out those for which this process was held up."""

    elapsed: float = 0.0
    seconds: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time the block."""
    took = Stopwatch()
    with beating() as pulse:
        began = monotonic()
        yield took
        took.elapsed, took.seconds = monotonic() - began, pulse.since(began)


class Pulse:
    """Knows when this process was held up: its beats were late then."""

    def __init__(self) -> None:
        self._beats: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def since(self, began: float) -> float:
        """Return the seconds since then, but for those for which the process was held up."""
        ended = monotonic()
        beats = [began, *[beat for beat in list(self._beats) if began < beat < ended], ended]
        return ended - began - sum(max(0.0, later - earlier - _BEAT - _TURN) for earlier, later in pairwise(beats))

    def _beat(self) -> None:
        while not self._over.wait(_BEAT):
            self._beats.append(monotonic())

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more."""
        self._over.set()
        self._thread.join()


@contextmanager
def beating() -> Iterator[Pulse]:
    """Beat for as long as the block runs."""
    pulse = Pulse()
    pulse.start()
    try:
        yield pulse
    finally:
        pulse.stop()
