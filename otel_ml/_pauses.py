"""When to try again: a pause that doubles with every failure, never shorter than the other side asks for."""

from __future__ import annotations

from random import SystemRandom
from time import monotonic

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
# After so many failures in a row nobody who flushes is kept waiting for the next try.
HOPELESS = 4
# Not `random`: numbers drawn from it would change what a user's seeded program draws.
_jitter = SystemRandom()


class Pauses:
    """The pauses of one way out. Times are on `time.monotonic()`."""

    __slots__ = ("_asked", "_failures", "not_before")

    def __init__(self) -> None:
        self._failures, self.not_before, self._asked = 0, 0.0, 0.0

    def ready(self, force: bool) -> bool:
        """Say whether it is time to try; `force` tries at once where not much has failed and nobody asked for a pause."""
        now = monotonic()
        return now >= self.not_before or (force and self._failures < 2 and now >= self._asked)

    def forgive(self) -> None:
        """Have one try made now, because somebody asked for it; but not before the other side wants to be asked."""
        self.not_before = min(self.not_before, self._asked)
        self._failures = min(self._failures, HOPELESS - 1)

    def hopeful(self, deadline: float) -> bool:
        """Say whether it is worth waiting for the next try until `deadline`."""
        return self._failures < HOPELESS and self.not_before < deadline

    def failed(self, retry_after: float) -> None:
        """Take note of a failure; the other side asks for a pause of `retry_after` seconds."""
        self._failures += 1
        # Many processes lose the same collector at the same moment, and must not all come back at the same moment.
        pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 16), LONGEST_PAUSE) * _jitter.uniform(0.8, 1.2)
        now = monotonic()
        self._asked = now + retry_after
        self.not_before = now + max(pause, retry_after)

    def succeeded(self) -> None:
        """Take note that the other side answers."""
        self._failures, self.not_before, self._asked = 0, 0.0, 0.0
