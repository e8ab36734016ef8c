"""Half an hour of faults: a collector that changes its ways at random, and a program that must not mind.

`make soak`, or `python -m tests.faults.soak --seconds 1800 --seed 7`: the same seed switches the same faults at the same times.
Every second the account is compared with what was recorded and what arrived; at the end everything has to be accounted for.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import otel_ml
from otel_ml import exporters
from otel_ml.testing import FaultCollector
from tests.stopwatch import stopwatch

# 200 calls a second for half an hour are 360,000 spans: the collector remembers of each how often it has come.
RATE = 200
# As many predictions are remembered until their labels come; from the beginning, lest that be taken for a leak.
REMEMBERED = 100_000
MODES: tuple[str | int, ...] = (
    "healthy", "healthy", "refused", "silent", "drip", "reset", "no_reply", "redirect", "partial_success", "huge", "bomb",
    400, 401, 408, 413, 429, 500, 502, 503, 504,
)  # fmt: skip
# Megabytes an hour that memory may grow by after the first tenth, and a margin for what a short run cannot tell apart.
SLOPE, MARGIN = 1.0, 8.0
WITHIN = 30.0


class Ids:
    """How often each prediction has arrived. Forgets requests as it reads them, so that the collector does not grow."""

    def __init__(self, collector: FaultCollector, most: int) -> None:
        # A byte each: what the test itself remembers is not to look as if the program grew.
        self.collector, self.seen = collector, bytearray(most)

    def read(self) -> None:
        """Count what has arrived since the last time."""
        requests = self.collector.requests[:]
        for request in requests:
            if request.accepted:
                for span in request.spans:
                    for attribute in span.attributes:
                        if attribute.key == "ml.prediction.id":
                            number = int(attribute.value.string_value)
                            self.seen[number] = min(255, self.seen[number] + 1)
        del self.collector.requests[: len(requests)]


def main() -> int:
    """Run, print a line a second on a terminal and one a fault otherwise, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1_800.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    asked = parser.parse_args()
    print(
        f"seed {asked.seed}: python -m tests.faults.soak --seconds {asked.seconds:.0f} --seed {asked.seed}", flush=True
    )
    with tempfile.TemporaryDirectory() as folder, FaultCollector() as collector:
        broken = soak(collector, Path(folder), asked.seconds, random.Random(asked.seed))
    for sentence in broken:
        print(f"BROKEN: {sentence}")
    print("every promise was kept" if not broken else f"{len(broken)} broken promises")
    return bool(broken)


def soak(collector: FaultCollector, folder: Path, seconds: float, chance: random.Random) -> list[str]:
    """Record while faults come and go; return what was broken, in sentences."""
    telemetry = otel_ml.configure(
        service="soak",
        exporters=[exporters.OTLP(collector.endpoint, timeout=2.0, spool=exporters.Spool(folder / "spool"))],
        interval=2.0,
        set_global=False,
    )
    broken: list[str] = []
    for number in range(REMEMBERED):
        with otel_ml.predict("soak", spans=False) as call:
            call.id = f"remembered-{number}"
    ids, made, ending = Ids(collector, int(RATE * (seconds + WITHIN))), [0], threading.Event()
    worker = threading.Thread(target=record, args=(made, ending))
    worker.start()
    began = next_fault = time.monotonic()
    memory: list[tuple[float, float]] = []
    while (now := time.monotonic()) < began + seconds:
        if now >= next_fault:
            collector.mode = chance.choice(MODES)  # type: ignore[assignment]  # one of its modes
            next_fault = now + chance.uniform(5.0, 20.0)
            print(f"{now - began:7.0f} s  {made[0]:9,} calls  {megabytes():6.1f} MB  now {collector.mode}", flush=True)
        broken += check(telemetry, made[0])
        ids.read()
        memory.append((now - began, megabytes()))
        ending.wait(1.0)
    ending.set()
    worker.join()
    collector.mode = "healthy"
    limit = time.monotonic() + WITHIN
    while not telemetry.flush(2.0) and time.monotonic() < limit:
        ids.read()
    ids.read()
    account = telemetry.health().exporters[0].signals["spans"]
    arrived = len(ids.seen) - ids.seen.count(0)
    print(f"spans: {account}; arrived {arrived:,}, again {sum(ids.seen) - arrived:,}")
    lost = sum(account.dropped.values())
    if made[0] < seconds * RATE / 10:
        broken.append(f"only {made[0]} calls were made")
    if account.created != made[0] or account.queued or account.spooled:
        broken.append(f"{made[0]} calls, but the account says {account}")
    if arrived < made[0] - lost:
        broken.append(f"{made[0] - lost} should have arrived, {arrived} did: lost in silence")
    with stopwatch() as took:
        telemetry.shutdown(2.0)
    if took.seconds > 2.25:
        broken.append(f"shutdown took {took.seconds:.1f} s")
    return broken + growth(memory)


def record(made: list[int], ending: threading.Event) -> None:
    """Make calls at a steady rate; count them once they are over."""
    while not ending.wait(1 / RATE):
        with otel_ml.predict("soak") as call:
            call.id = str(made[0])
        made[0] += 1


def check(telemetry: otel_ml.Telemetry, made: int) -> list[str]:
    """Compare the account with what was recorded; calls may be made in between."""
    account = telemetry.health().exporters[0].signals["spans"]
    held = account.delivered + account.queued + account.spooled + sum(account.dropped.values())
    if account.created != held or not made <= account.created <= made + RATE:
        return [f"{made} calls, but the account says {account}"]
    return []


def growth(memory: list[tuple[float, float]]) -> list[str]:
    """Say whether memory grows: the slope of a line through all but the first tenth."""
    kept = memory[len(memory) // 10 :]
    if len(kept) < 10:
        return []
    mean_t, mean_m = (sum(column) / len(kept) for column in zip(*kept, strict=True))
    slope = sum((t - mean_t) * (m - mean_m) for t, m in kept) / sum((t - mean_t) ** 2 for t, _ in kept)
    hours = (kept[-1][0] - kept[0][0]) / 3_600
    print(f"memory: {kept[0][1]:.1f} MB to {kept[-1][1]:.1f} MB, {slope * 3_600:+.1f} MB/h")
    return [f"memory grows by {slope * 3_600:.1f} MB/h"] if slope * 3_600 * hours > SLOPE * hours + MARGIN else []


def megabytes() -> float:
    """Return what the process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
