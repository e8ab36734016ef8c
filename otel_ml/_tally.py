"""One signal's account at one exporter, right at every moment: what moves from one place to another never counts twice."""

from __future__ import annotations

from _thread import RLock
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TypeVar

from otel_ml._health import Account
from otel_ml._request import take
from otel_ml._shield import tell

Record = TypeVar("Record")

# The longest that a reader waits for a move to be over. A signal handler may have interrupted the one who moves.
_PATIENCE = 0.05


class Tally:
    """Counts records in memory (`held`), on disk (`spooled`), delivered and dropped. Moves are short and do no I/O."""

    __slots__ = ("_lock", "_told", "delivered", "dropped", "held", "of_others", "signal", "spooled")

    def __init__(self, signal: str) -> None:
        self.signal = signal
        # Of what was dropped, what other processes had left behind.
        self.delivered = self.held = self.spooled = self.of_others = 0
        self.dropped: Counter[str] = Counter()
        # A finalizer that the garbage collector runs in the middle of a move may ask for the account, or end everything.
        self._lock = RLock()
        self._told: dict[str, int] = {}

    @property
    def lost(self) -> int:
        """Records of this process that never arrive; superseded points have done so by the totals that came after them."""
        return sum(self.dropped.values()) - self.dropped["superseded"] - self.of_others

    def take(self, queue: deque[Record | None]) -> Sequence[Record]:
        """Take a batch from a queue; its records are held from now on."""
        with self._lock:
            batch = take(queue)
            self.held += len(batch)
        return batch

    def add(self, held: int = 0, spooled: int = 0) -> None:
        """Count records that nobody has counted yet: a collection of metrics, or what an earlier process left."""
        with self._lock:
            self.held += held
            self.spooled += spooled

    def spool(self, count: int) -> None:
        """Move records from memory to disk."""
        with self._lock:
            self.held -= count
            self.spooled += count

    def settle(
        self, count: int, rejected: Mapping[str, int], *, spooled: bool = False, of_others: bool = False
    ) -> None:
        """Move records to their end: those `rejected`, by reason, are dropped, the others delivered."""
        with self._lock:
            self.of_others += sum(rejected.values()) if of_others else 0
            if spooled:
                self.spooled -= count
            else:
                self.held -= count
            self.delivered += count - sum(rejected.values())
            self.dropped.update({reason: lost for reason, lost in rejected.items() if lost})

    def drop(self, reason: str, count: int, *, held: int = 0, spooled: int = 0, of_others: bool = False) -> None:
        """Count records that will not be delivered; `held` and `spooled` say how many were counted there."""
        if count <= 0 and not held and not spooled:
            return
        with self._lock:
            self.held -= held
            self.spooled -= spooled
            self.of_others += count if of_others else 0
            if count > 0:
                self.dropped[reason] += count

    def account(self, queue: deque[Record | None] | None) -> Account:
        """Return the account as it is at this moment, with what still lies in the queue."""
        locked = self._lock.acquire(timeout=_PATIENCE)
        try:
            queued = self.held + (sum(one is not None for one in list(queue)) if queue is not None else 0)
            return Account(self.delivered, queued, dict(self.dropped), self.spooled)
        finally:
            if locked:
                self._lock.release()

    def tell_losses(self) -> None:
        """Say what was dropped since the last time, once a minute for each reason."""
        for reason, count in dict(self.dropped).items():
            if count != self._told.get(reason):
                self._told[reason] = count
                tell(
                    f"dropped:{self.signal}:{reason}",
                    f"otel_ml dropped {self.signal} ({reason}; {count} so far). "
                    "otel_ml.health() counts them and `otel-ml doctor` says what to do.",
                )
