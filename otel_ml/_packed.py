"""The records of one signal on their way to an exporter that takes them encoded: kept on disk, sent, divided, settled."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from otel_ml._backlog import Backlog
from otel_ml._delivery import Delivery, Packed, Packs, Parcel
from otel_ml._outbox import MAX_DELTAS, converted, has_deltas, superseded
from otel_ml._pauses import Pauses
from otel_ml._tally import Tally

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

    from otel_ml._shelf import Load
    from otel_ml._spool import Spool

# A request that is refused as a whole is divided at most so often: enough for two bad records among 512 to be found.
MAX_DIVISIONS = 64
# After a batch of which no part was accepted, as many are not divided.
IN_VAIN = 16

Parcels = Sequence[Parcel]


class _Sending:
    """What is on its way: the requests that are still to be tried, and what was refused so far."""

    __slots__ = ("accepted", "count", "divisions", "load", "rejected", "requests")

    def __init__(self, parcels: Parcels, load: Load | None) -> None:
        self.requests: list[Parcels] = [parcels]
        self.load = load
        self.count = sum(parcel.count for parcel in parcels)
        self.rejected: Counter[str] = Counter()
        self.divisions, self.accepted = MAX_DIVISIONS, False


class PackedOutbox:
    """Encodes what it takes at once, keeps it on disk where there is a spool, and sends what is oldest first.

    One bad record, or one too many for the server, costs itself: a request that is refused as a whole is divided.
    """

    def __init__(
        self, part: Packs, tally: Tally, convert: Callable[..., object] | None, spool: Spool | None = None
    ) -> None:
        self._part, self._convert = part, convert
        self.tally, self.pauses = tally, Pauses()
        # What could not be written to disk, or is not to be; one batch, but for metrics.
        self._memory: deque[tuple[list[Parcel], int]] = deque()
        self._sending: list[_Sending] = []
        # Between the one who takes, the one who sends, and the one who ends the program; held for no exchange.
        self._moving = threading.Lock()
        self._backlog = Backlog(spool, part.destination, tally) if spool is not None and spool.root() else None
        # Batches for which nothing is divided, since that was in vain: a server that refuses everything is asked once.
        self._undivided = 0

    @property
    def keeps(self) -> bool:
        """Whether what is taken outlives the process."""
        return self._backlog is not None

    @property
    def waiting(self) -> bool:
        """Whether something has been taken and not been settled."""
        return bool(self._memory or self._sending or self.tally.spooled)

    def look(self, *, now: bool = False) -> None:
        """Take over what processes that have ended left on disk for the same destination."""
        if self._backlog is not None:
            self._backlog.look(now=now)

    def doubt(self) -> None:
        """Keep in memory for a while: the disk seems to hang."""
        if self._backlog is not None:
            self._backlog.doubt()

    def take(self, queue: deque[object | None]) -> bool:
        """Take a batch and write it to disk; False if there is none, or what was taken before has no place yet."""
        with self._moving:
            self._to_disk()
            if self._memory or (self._sending and self._backlog is None):
                return False
            records = self.tally.take(queue)
            batch = records if self._convert is None else converted(records, self._convert, self.tally)
            if batch:
                self._put(self._part.pack(batch))  # type: ignore[arg-type]  # put in by signal, so it fits the part
            return bool(records)

    def put_metrics(self, collected: MetricsData) -> None:
        """Take a collection. What is kept on disk stays; in memory the next cumulative collection takes its place."""
        packed = self._part.pack(collected)
        size = sum(parcel.count for parcel in packed.parcels) + packed.rejected
        with self._moving:
            self._to_disk()
            stands_for = 0
            if not has_deltas(collected):
                self._recall()
                stands_for = superseded(self.tally, self._memory, size)
            self.tally.add(held=size - stands_for)
            self._put(packed)
            while len(self._memory) > MAX_DELTAS:
                lost = self._memory.popleft()[1]
                self.tally.drop("queue_full", lost, held=lost)

    def send(self, deadline: float) -> bool:
        """Try what is oldest; True if it is settled, for better or worse."""
        with self._moving:
            sending = self._next()
        if sending is None:
            return False
        while sending.requests:
            request = sending.requests[-1]
            delivery = self._deliver(request, deadline)
            if delivery.retry_after is not None:
                self.pauses.failed(delivery.retry_after)
                return False
            self.pauses.succeeded()
            with self._moving:
                if sending not in self._sending:
                    # It was taken back while this request was under way: the program ends.
                    return True
                sending.requests.pop()
                self._note(sending, request, delivery)
        self._settle(sending)
        return True

    def abandon(self, until: float) -> None:
        """Leave to the disk what it takes, count the rest as dropped, and let others have what is on disk."""
        if not self._moving.acquire(timeout=max(0.0, until - monotonic())):
            # A disk that hangs; what is held is shown as queued.
            return
        try:
            self._recall()
            self._to_disk()
            while self._memory:
                lost = self._memory.popleft()[1]
                self.tally.drop("shutdown", lost, held=lost)
            if self._backlog is not None:
                self._backlog.close(until)
        finally:
            self._moving.release()

    # ------------------------------------------------------------------- with `_moving` held, but for `_deliver`
    def _put(self, packed: Packed) -> None:
        self.tally.drop("encoding", packed.rejected, held=packed.rejected)
        if packed.parcels:
            self._hold(list(packed.parcels))
        self._to_disk()

    def _hold(self, parcels: list[Parcel]) -> None:
        self._memory.append((parcels, sum(parcel.count for parcel in parcels)))

    def _to_disk(self) -> None:
        while self._backlog is not None and self._memory:
            parcels, _ = self._memory.popleft()
            while parcels and self._backlog.put(parcels[0]):
                parcels.pop(0)
            if parcels:
                self._memory.appendleft((parcels, sum(parcel.count for parcel in parcels)))
                return

    def _next(self) -> _Sending | None:
        if self._sending:
            return self._sending[0]
        load = self._backlog.load() if self._backlog is not None else None
        if load is not None:
            sending = _Sending(load.parcels, load)
        elif self._memory:
            # All of one batch, or of the collections that wait, in one request.
            sending = _Sending([parcel for parcels, _ in self._memory for parcel in parcels], None)
            self._memory.clear()
        else:
            return None
        self._sending.append(sending)
        return sending

    def _settle(self, sending: _Sending) -> None:
        with self._moving:
            if sending not in self._sending:
                return
            self._sending.clear()
            if sending.accepted:
                self._undivided = 0
            elif sending.divisions < MAX_DIVISIONS:
                self._undivided = IN_VAIN
            else:
                self._undivided = max(0, self._undivided - 1)
            if sending.load is not None and self._backlog is not None:
                self._backlog.settle(sending.load, sending.rejected)
            else:
                self.tally.settle(sending.count, sending.rejected)

    def _recall(self) -> None:
        """Take back what is on its way: no answer has come for it."""
        while self._sending:
            sending = self._sending.pop()
            if sending.load is not None and self._backlog is not None:
                self._backlog.release(sending.load)
                continue
            left = [parcel for request in reversed(sending.requests) for parcel in request]
            self.tally.settle(sending.count - sum(parcel.count for parcel in left), sending.rejected)
            self._memory.appendleft((left, sum(parcel.count for parcel in left)))

    def _deliver(self, request: Parcels, deadline: float) -> Delivery:
        try:
            return self._part.send(request, deadline)
        except BaseException as error:  # also SystemExit, which would end the sender for ever
            return Delivery(sum(parcel.count for parcel in request), f"exporter_raised_{type(error).__name__}")

    def _note(self, sending: _Sending, request: Parcels, delivery: Delivery) -> None:
        records = sum(len(parcel.records) for parcel in request)
        if delivery.divisible and records > 1 and sending.divisions and not self._undivided:
            sending.divisions -= 1
            sending.requests += reversed(halves(request, records))
            return
        sending.accepted = sending.accepted or not delivery.divisible
        if delivery.rejected:
            sending.rejected[delivery.reason or "rejected"] += delivery.rejected


def halves(parcels: Parcels, records: int) -> tuple[Parcels, Parcels]:
    """Return the first half of the records, and the second."""
    first: list[Parcel] = []
    second: list[Parcel] = []
    left = records // 2
    for parcel in parcels:
        cut = max(0, min(left, len(parcel.records)))
        left -= cut
        for into, start, end in ((first, 0, cut), (second, cut, len(parcel.records))):
            if start < end:
                into.append(Parcel(parcel.header, parcel.records[start:end], parcel.counts[start:end]))
    return first, second
