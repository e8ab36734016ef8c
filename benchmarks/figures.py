"""Figures that are no ratio to a hand-written baseline; `python figures.py NAME ROUNDS` measures one and prints JSON."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import sleep

from byhand import ByHand, NullEvents, NullMetrics, NullSpans, score
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from rounds import LossError, looped, spend

import otel_ml


@dataclass(frozen=True)
class Figure:
    """One number in a unit, and what it is to be compared with, if there is anything."""

    title: str
    unit: str
    value: float
    must: float | None = None
    aim: float | None = None
    beside: str = ""


def main(name: str, rounds: int) -> None:
    """Measure one group of figures, and print it as JSON."""
    print(json.dumps([asdict(figure) for figure in FIGURES[name](rounds)]))


# ------------------------------------------------------------------------------------------------ without telemetry
def unconfigured(rounds: int) -> list[Figure]:
    """What a decorated function costs where nobody called `configure`, above a wrapper that does nothing."""

    def bare(*args: int, **kwargs: int) -> object:
        return score(*args, **kwargs)

    watched, calls = looped(otel_ml.predict(model="churn")(score)), 200_000
    plain = looped(bare)
    pairs = [(spend(plain, nothing, calls), spend(watched, nothing, calls)) for _ in range(rounds + 1)][1:]
    above = median(mine - theirs for theirs, mine in pairs)
    return [
        Figure(
            "not configured, above a bare wrapper", "ns", above, 60, 30, f"wrapper {median(p[0] for p in pairs):.0f}"
        )
    ]


def disabled(_rounds: int) -> list[Figure]:
    """Whether `OTEL_SDK_DISABLED` makes the decorator give the function itself."""
    script = (
        "import otel_ml\n"
        "def f(x): return x\n"
        "assert otel_ml.predict(f) is f and otel_ml.predict(model='m', version='1')(f) is f\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OTEL_SDK_DISABLED": "true"}, check=False)
    return [Figure("OTEL_SDK_DISABLED, other than the function itself", "functions", float(done.returncode != 0), 0, 0)]


def imported(rounds: int) -> list[Figure]:
    """What `import otel_ml` costs in a fresh interpreter, beside OpenTelemetry's API."""
    ours = [import_ms("otel_ml") for _ in range(rounds)]
    theirs = [import_ms("opentelemetry.trace, opentelemetry.metrics") for _ in range(rounds)]
    api = f"OpenTelemetry's API {median(theirs):.0f}"
    return [Figure("import otel_ml", "ms", median(ours), None, 15, api)]


def import_ms(modules: str) -> float:
    """Return the CPU milliseconds that an import takes in an interpreter of its own."""
    script = f"from time import process_time_ns as now\nbegan = now()\nimport {modules}\nprint(now() - began)"
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout) / 1e6


# ------------------------------------------------------------------------------------------------ threads
def threads(rounds: int) -> list[Figure]:
    """What a sampled call costs with several threads at it, against one."""
    spans, watched = NullSpans(), otel_ml.predict(model="churn", version="3.2")(score)
    telemetry = otel_ml.configure(exporters=[spans, NullMetrics(), NullEvents()])
    # In bursts that the bounded queue takes whole.
    burst, bursts, counts = 20_000, 3, (1, 2, 4, 8)
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(rounds + 1):
        for count in counts if turn % 2 else counts[::-1]:
            run = in_threads(looped(watched), count)
            spent = [spend(run, lambda: telemetry.flush(60.0), burst) for _ in range(bursts)]
            if turn:
                taken[count].append(sum(spent) / bursts)
    if spans.seen != burst * bursts * len(counts) * (rounds + 1) or not telemetry.health().ok:
        raise LossError(f"{spans.seen:,} spans arrived; {telemetry.health()}")
    alone = taken[1]
    found: list[Figure] = []
    for count in counts[1:]:
        ratio = median(many / one for many, one in zip(taken[count], alone, strict=True))
        must, aim = (1.3, 1.2) if count == 8 else (None, None)
        beside = f"{median(taken[count]):,.0f} of {median(alone):,.0f} ns"
        found.append(Figure(f"{count} threads against 1, CPU a call", "x", ratio, must, aim, beside))
    return found


def in_threads(run: Callable[[int], object], count: int) -> Callable[[int], object]:
    """Return what shares the calls among `count` threads, all of which begin at once."""

    def runs(calls: int) -> None:
        together = threading.Barrier(count)

        def share() -> None:
            together.wait()
            run(calls // count)

        started = [threading.Thread(target=share) for _ in range(count)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    return runs


# ------------------------------------------------------------------------------------------------ memory
def memory(_rounds: int) -> list[Figure]:
    """What a span holds while it waits for a back end that does not answer."""
    calls, stuck, also_stuck = 10_000, Stuck(), Stuck()
    telemetry = otel_ml.configure(exporters=[stuck])
    held = held_by(looped(otel_ml.predict(model="churn", version="3.2")(score)), calls)
    queued = telemetry.health().exporters[0].signals["spans"].queued
    stuck.go_on.set()
    telemetry.shutdown()
    if queued < calls:
        raise LossError(f"{calls:,} calls were made, but {queued:,} spans were queued")

    baseline = ByHand(spans=also_stuck)
    theirs = held_by(looped(baseline.call()), calls)
    also_stuck.go_on.set()
    baseline.close()
    return [Figure("held by a queued span", "bytes", held, 1_000, 500, f"by hand {theirs:,.0f}")]


def held_by(run: Callable[[int], object], calls: int) -> float:
    """Return the bytes that a call leaves behind."""
    # The first calls make what is made once, and wake the senders, which are stuck from then on.
    run(3_000)
    sleep(0.2)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run(calls)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / calls


class Stuck(NullSpans):
    """A back end that does not answer until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go_on.wait(60.0)
        return super().export(spans)


def nothing() -> None:
    """Flush where there is nothing to flush."""


FIGURES: dict[str, Callable[[int], list[Figure]]] = {
    "unconfigured": unconfigured,
    "disabled": disabled,
    "threads": threads,
    "memory": memory,
    "import": imported,
}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
