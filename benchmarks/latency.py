"""What a watched call takes while its back end is well, gone or silent; `python latency.py MODE CALLS` measures one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter, perf_counter_ns, sleep

from byhand import score

import otel_ml
from otel_ml.exporters import OTLP

# Calls a second: slow enough to see each call alone, often enough that senders are at work meanwhile.
RATE = 500
MODES = ("healthy", "refused", "silent")


@dataclass(frozen=True)
class Percentiles:
    """Wall-clock microseconds a call."""

    mode: str
    p50: float
    p99: float
    max: float

    def promised(self, healthy: Percentiles) -> bool:
        """Whether a back end in this mode does not slow the call: within 100 µs of a healthy one, and never by much."""
        return self.p99 <= min(healthy.p99 + 100, 250) and self.max <= 50_000


def main(mode: str, calls: int) -> None:
    """Measure one mode, and print it as JSON."""
    with collector(mode) as endpoint:
        telemetry = otel_ml.configure(exporters=[OTLP(endpoint)])
        taken = sorted(paced(calls))
        telemetry.shutdown(timeout=1.0)
    print(json.dumps(asdict(Percentiles(mode, taken[calls // 2], taken[calls * 99 // 100], taken[-1]))))


def paced(calls: int) -> Iterator[float]:
    """Make so many calls at the rate, and yield the microseconds that each took."""
    watched = otel_ml.predict(model="churn", version="3.2")(score)
    due = perf_counter()
    for x in range(calls):
        due += 1 / RATE
        sleep(max(0.0, due - perf_counter()))
        began = perf_counter_ns()
        watched(x)
        yield (perf_counter_ns() - began) / 1e3


@contextmanager
def collector(mode: str) -> Generator[str]:
    """Run a collector in a process of its own, which would otherwise hold the interpreter's lock now and then."""
    process = subprocess.Popen(
        [sys.executable, __file__, "collector", mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        # It ends when its standard input does.
        process.communicate(timeout=30.0)


def serve(mode: str) -> None:
    """Be the collector until standard input ends."""
    from otel_ml.testing import FaultCollector

    with FaultCollector(mode) as one:  # type: ignore[arg-type]  # one of MODES
        print(one.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "collector":
        serve(sys.argv[2])
    else:
        main(sys.argv[1], int(sys.argv[2]))
