"""Half an hour of faults: a collector that changes its ways at random, and a program that must not mind.

`make soak`, or `python -m tests.faults.soak --seconds 1800 --seed 7`: the same seed switches the same faults at the same times.
Every second the account is compared with what was recorded and what arrived; at the end everything has to be accounted for.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import otel_ml
from otel_ml import exporters
from otel_ml.testing import FaultCollector
from tests.stopwatch import stopwatch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from otel_ml._health import Account

# 200 calls a second for half an hour are 360,000 spans: the collector remembers of each how often it has come.
RATE = 200
# As many predictions are remembered until their labels come; made at the beginning, lest that be taken for a leak.
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
    given = parser.parse_args()
    print(
        f"seed {given.seed}: python -m tests.faults.soak --seconds {given.seconds:.0f} --seed {given.seed}", flush=True
    )
    with tempfile.TemporaryDirectory() as folder, FaultCollector() as collector:
        broken = soak(collector, Path(folder), given.seconds, random.Random(given.seed))
    for sentence in broken:
        print(f"BROKEN: {sentence}")
    print("every promise was kept" if not broken else f"{len(broken)} broken promises")
    return bool(broken)


def soak(collector: FaultCollector, folder: Path, seconds: float, chance: random.Random) -> list[str]:
    """Let another process record while faults come and go here; return what was broken, in sentences."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=program, args=(there, collector.endpoint, str(folder / "spool")), daemon=True)
    process.start()
    ids, broken = Ids(collector, REMEMBERED + int(RATE * (seconds + 2 * WITHIN))), list[str]()
    # Until as many predictions are remembered as may be: that is no leak.
    while not here.poll(1.0):
        ids.read()
    here.recv()
    began = next_fault = time.monotonic()
    memory: list[tuple[float, float]] = []
    while (now := time.monotonic()) < began + seconds:
        if now >= next_fault:
            collector.mode = chance.choice(MODES)  # type: ignore[assignment]  # one of its modes
            next_fault = now + chance.uniform(5.0, 20.0)
            made, _ = asked(here, "account")
            print(f"{now - began:7.0f} s  {made:9,} calls  {megabytes(process):6.1f} MB  now {collector.mode}", flush=True)  # fmt: skip
        made, account = asked(here, "account")
        broken += check(account, made)
        ids.read()
        memory.append((now - began, megabytes(process)))
        time.sleep(1.0)
    collector.mode = "healthy"
    made, _ = asked(here, "end")
    limit = time.monotonic() + WITHIN
    while (account := asked(here, "flush")[1]).queued + account.spooled and time.monotonic() < limit:
        ids.read()
    ids.read()
    arrived = len(ids.seen) - ids.seen.count(0)
    print(f"spans: {account}; arrived {arrived:,}, again {sum(ids.seen) - arrived:,}")
    lost = sum(account.dropped.values())
    if made - REMEMBERED < seconds * RATE / 10:
        broken.append(f"only {made - REMEMBERED} calls were made")
    if account.created != made or account.queued or account.spooled:
        broken.append(f"{made} calls, but the account says {account}")
    if arrived < made - lost:
        broken.append(f"{made - lost} should have arrived, {arrived} did: lost in silence")
    here.send("shutdown")
    took: float = here.recv()
    process.join(WITHIN)
    if took > 2.25:
        broken.append(f"shutdown took {took:.1f} s")
    return broken + growth(memory)


def asked(pipe: Connection[str, tuple[int, Account]], what: str) -> tuple[int, Account]:
    """Return how many calls the program has made, and its account of spans."""
    pipe.send(what)
    return pipe.recv()


def program(pipe: Connection[object, str], endpoint: str, folder: str) -> None:
    """The program that is watched, in a process of its own, so that its memory is its own: records, and answers."""
    telemetry = otel_ml.configure(
        service="soak",
        exporters=[exporters.OTLP(endpoint, timeout=2.0, spool=exporters.Spool(folder))],
        interval=2.0,
        set_global=False,
    )
    made, ending = [0], threading.Event()
    while made[0] < REMEMBERED:
        call(made)
        if made[0] % 1_000 == 0:
            telemetry.flush(5.0)
    pipe.send(None)
    worker = threading.Thread(target=record, args=(made, ending))
    worker.start()
    while (wanted := pipe.recv()) != "shutdown":
        if wanted == "end":
            ending.set()
            worker.join()
        elif wanted == "flush":
            telemetry.flush(2.0)
        # Read before the account: calls go on being made.
        before = made[0]
        pipe.send((before, telemetry.health().exporters[0].signals["spans"]))
    with stopwatch() as took:
        telemetry.shutdown(2.0)
    pipe.send(took.seconds)


def record(made: list[int], ending: threading.Event) -> None:
    """Make calls at a steady rate."""
    while not ending.wait(1 / RATE):
        call(made)


def call(made: list[int]) -> None:
    """Make a call; count it once it is over."""
    with otel_ml.predict("soak") as one:
        one.id = str(made[0])
    made[0] += 1


def check(account: Account, made: int) -> list[str]:
    """Compare the account with what was recorded; calls may be made in between."""
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


def megabytes(process: BaseProcess) -> float:
    """Return what a process holds in memory now."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
