"""What watching costs, beside the same telemetry written by hand: every path of otel_ml, as a ratio of CPU time.

Each row runs in a process of its own, in which both sides take turns; the table shows medians of their rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from figures import FIGURES, Figure
from latency import MODES, RATE, Percentiles
from paths import ROWS

HERE = Path(__file__).parent
# Below this, a loaded machine may make a good figure look bad; a quick run fails only above it.
LEEWAY = 1.25
# Our bounded queue takes 24,576 spans: more calls a round could lose some, and losing is cheaper than sending.
CALLS, QUICK_CALLS = 20_000, 8_000
ROUNDS, QUICK_ROUNDS = 9, 5
LATENCY_CALLS = 3_000
# Seconds that one row may take, so that a hang fails instead of lasting.
LONGEST = 120


@dataclass(frozen=True)
class Line:
    """One line of the result. Ratios and figures are compared with `must` and `aim` alike."""

    title: str
    unit: str
    value: float | None
    must: float | None
    aim: float | None
    beside: str
    trouble: str = ""

    @property
    def verdict(self) -> str:
        """What the value says of what was asked."""
        if self.trouble:
            return "failed"
        if self.value is None or (self.must is None and self.aim is None):
            return ""
        if self.aim is not None and self.value <= self.aim:
            return "met aim"
        if self.must is None:
            return "missed aim"
        return "met must" if self.value <= self.must else "MISSED"

    @property
    def far_off(self) -> bool:
        """Whether what must be met is missed by more than the leeway, or was not measured at all."""
        return bool(self.trouble) or (
            self.must is not None and self.value is not None and self.value > self.must * LEEWAY
        )


def main() -> int:
    """Measure, print, and say by the exit code whether a figure is far off."""
    asked = arguments()
    calls = QUICK_CALLS if asked.quick else CALLS
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    began = monotonic()
    print(
        f"Python {platform.python_version()}, OpenTelemetry SDK {version('opentelemetry-sdk')}, {os.cpu_count()} CPUs"
    )
    print(f"{rounds} rounds of {calls:,} calls; medians of CPU time, senders and flush included\n")

    lines = [
        *show(HEAD_OF_RATIOS, (ratio(name, calls, rounds) for name in chosen(asked.only, ROWS))),
        *show(HEAD_OF_FIGURES, figures(chosen(asked.only, FIGURES), rounds)),
    ]
    waits = [] if asked.quick or asked.only else list(latencies())

    far = [line.title for line in lines if line.far_off]
    print(
        f"\n{monotonic() - began:.0f} s.",
        f"Far off: {', '.join(far)}." if far else "Nothing that must be met is far off.",
    )
    if asked.json is not None:
        found = {
            "rows": [{**asdict(line), "verdict": line.verdict} for line in lines],
            "latency": list(map(asdict, waits)),
        }
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if far else 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What watching costs, beside the same telemetry written by hand.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds, and no latencies: about a minute"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join([*ROWS, *FIGURES])}")
    return parser.parse_args()


def chosen(only: str | None, known: dict[str, Any]) -> list[str]:
    """Return the names to measure."""
    return [name for name in known if only is None or name in only.split(",")]


# ------------------------------------------------------------------------------------------------ measuring
def ratio(name: str, calls: int, rounds: int) -> Line:
    """Measure one path against its baseline."""
    row = ROWS[name]
    found, trouble = child("paths.py", name, str(calls), str(rounds))
    if trouble:
        return Line(row.title, "ratio", None, row.must, row.aim, "", trouble)
    beside = f"{found['ours']:>9,.0f}{found['by_hand']:>11,.0f}"
    return Line(row.title, "ratio", found["ratio"], row.must, row.aim, beside)


def figures(names: list[str], rounds: int) -> Iterator[Line]:
    """Measure what is no ratio."""
    for name in names:
        found, trouble = child("figures.py", name, str(rounds))
        if trouble:
            yield Line(name, "", None, None, None, "", trouble)
            continue
        for one in (Figure(**figure) for figure in found):
            yield Line(one.title, one.unit, one.value, one.must, one.aim, one.beside)


def latencies() -> Iterator[Percentiles]:
    """Measure single calls while the back end is well, and while it is not."""
    print(f"\n{f'wall time a call, µs, {RATE} calls a second':<42}{'p50':>9}{'p99':>9}{'max':>9}")
    healthy: Percentiles | None = None
    for mode in MODES:
        found, trouble = child("latency.py", mode, str(LATENCY_CALLS))
        if trouble:
            print(f"{f'collector {mode}':<42}{trouble}")
            continue
        one = Percentiles(**found)
        healthy = one if mode == MODES[0] else healthy
        verdict = "" if healthy is None else "  as promised" if one.promised(healthy) else "  SLOWED DOWN"
        print(f"{f'collector {mode}':<42}{one.p50:>9.0f}{one.p99:>9.0f}{one.max:>9.0f}{verdict}", flush=True)
        yield one


def child(script: str, *arguments: str) -> tuple[Any, str]:
    """Run a script of this folder; return what it printed as JSON, or why there is nothing."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])),
    }
    for name in list(environment):
        if name.startswith("OTEL_"):
            del environment[name]
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / script), *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=LONGEST,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"not done after {LONGEST} s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return json.loads(done.stdout.splitlines()[-1]), ""


# ------------------------------------------------------------------------------------------------ printing
HEAD_OF_RATIOS = f"{'CPU a call':<42}{'ours ns':>9}{'by hand ns':>11}{'ratio':>8}{'must':>7}{'aim':>7}"
HEAD_OF_FIGURES = f"\n{'other figures':<54}{'':>8}{'value':>8}{'must':>7}{'aim':>7}"


def show(head: str, lines: Iterator[Line]) -> Iterator[Line]:
    """Print lines as they come."""
    for index, line in enumerate(lines):
        if not index:
            print(head)
        print(layout(line), flush=True)
        yield line


def layout(line: Line) -> str:
    """Return a line as text."""
    if line.trouble:
        return f"{line.title:<42}{line.trouble}"
    asked = f"{number(line.must):>7}{number(line.aim):>7}  {line.verdict}"
    if line.unit == "ratio":
        return f"{line.title:<42}{line.beside}{line.value:>8.3f}{asked}"
    beside = f"  ({line.beside})" if line.beside else ""
    return f"{line.title:<54}{line.unit:>8}{number(line.value):>8}{asked}{beside}"


def number(value: float | None) -> str:
    """Return a number with as many digits as mean something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
