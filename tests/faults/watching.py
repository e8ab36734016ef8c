"""Record spans and events while another thread asks what became of them, all the time, and compare with the receiver."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import otel_ml
from otel_ml import Telemetry
from otel_ml._health import Account
from otel_ml.testing import FaultCollector

# What one call of `Watch.record` leaves for each exporter, of each of these signals.
SIGNALS = ("spans", "events")
# Seconds between two looks, and between two turns of threads: much shorter than usual, to be there when things move.
_LOOK, _TURN = 0.001, 0.0001


@otel_ml.predict(model="watched")
def _score(value: float) -> float:
    return value


class Watch:
    """Counts what is recorded, and keeps each account that does not add up."""

    def __init__(self, telemetry: Telemetry, collector: FaultCollector) -> None:
        self._telemetry, self._collector = telemetry, collector
        self._counting = threading.Lock()
        self.begun = self.done = self.looks = 0
        self.wrong: list[str] = []

    def record(self, times: int) -> None:
        """Record a span and an event, so many times; any thread may do so."""
        for _ in range(times):
            with self._counting:
                self.begun += 1
            _score(1.0)
            otel_ml.feedback("id", actual="a", predicted="a", model="watched")
            with self._counting:
                self.done += 1

    def accounts(self) -> dict[str, Account]:
        """Return what became of spans and events."""
        (exporter,) = self._telemetry.health().exporters
        return {signal: exporter.signals[signal] for signal in SIGNALS}

    def look(self) -> None:
        """Ask once. What is recorded meanwhile may be in the account, what was recorded before has to be."""
        least = self.done
        accounts = self.accounts()
        most = self.begun
        arrived = {"spans": len(self._collector.spans), "events": len(self._collector.logs)}
        self.looks += 1
        for signal, account in accounts.items():
            if not least <= account.created <= most:
                self.wrong.append(f"{signal}: {least} to {most} were recorded, but {account}")
            if min(account.delivered, account.queued, account.spooled, *account.dropped.values(), 0) < 0:
                self.wrong.append(f"{signal}: less than none in {account}")
            if account.delivered > arrived[signal]:
                self.wrong.append(f"{signal}: {arrived[signal]} have arrived, but {account}")

    def ended(self, seconds: float = 2.0) -> dict[str, Account]:
        """Return the accounts after a shutdown: a batch that was just being written is on disk a moment later."""
        limit = monotonic() + seconds
        while any(account.queued for account in self.accounts().values()) and monotonic() < limit:
            self._collector.wait_for(lambda _: False, 0.01)
        return self.accounts()

    def settle(self, seconds: float = 20.0) -> None:
        """Flush until nothing is held any more."""
        limit = monotonic() + seconds
        while any(account.queued or account.spooled for account in self.accounts().values()):
            assert monotonic() < limit, self.accounts()
            # A flush that has to wait for a pause to be over comes back at once.
            if not self._telemetry.flush(0.5):
                self._collector.wait_for(lambda _: False, 0.02)


@contextmanager
def watched(telemetry: Telemetry, collector: FaultCollector) -> Iterator[Watch]:
    """Look all the time for as long as the block runs; fail if an account was wrong at any moment."""
    watch, over = Watch(telemetry, collector), threading.Event()

    def keep_looking() -> None:
        while not over.wait(_LOOK):
            watch.look()

    thread = threading.Thread(target=keep_looking, daemon=True)
    turn = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join(10.0)
        sys.setswitchinterval(turn)
    watch.look()
    assert watch.wrong == [], f"{len(watch.wrong)} of {watch.looks} looks, such as {watch.wrong[0]}"
    assert watch.looks > 1
