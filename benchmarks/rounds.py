"""Measure two sides of a row in turns, in one process: CPU a call, with all that its telemetry costs in any thread."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import process_time_ns

Run = Callable[[int], object]


class LossError(Exception):
    """Not every call's telemetry arrived, so that what was measured is not what it cost."""


@dataclass(frozen=True)
class Side:
    """One way to do it: `run` makes so many calls, `flush` sends what they left behind.

    `arrived` says how much of each signal has come out at the other end since the beginning: one of each per call.
    """

    run: Run
    flush: Callable[[], object]
    arrived: Callable[[], Mapping[str, int]]


@dataclass(frozen=True)
class Taken:
    """What the rounds of one row came to: medians of CPU nanoseconds a call, and of the rounds' ratios."""

    by_hand: float
    ours: float
    ratio: float
    spread: tuple[float, float]


def compare(by_hand: Side, ours: Side, calls: int, rounds: int) -> Taken:
    """Measure both sides in turns; the first round of each warms up and is left out."""
    made = 0
    taken: list[tuple[float, float]] = []
    for turn in range(rounds + 1):
        # Each side goes first every other time, so that a machine that slows down favours neither.
        order = (by_hand, ours) if turn % 2 else (ours, by_hand)
        cost = {id(side): spend(side.run, side.flush, calls) for side in order}
        made += calls
        for side in order:
            check(side, made)
        taken.append((cost[id(by_hand)], cost[id(ours)]))
    kept = taken[1:]
    ratios = [mine / theirs for theirs, mine in kept]
    return Taken(
        median(theirs for theirs, _ in kept),
        median(mine for _, mine in kept),
        median(ratios),
        (min(ratios), max(ratios)),
    )


def spend(run: Run, flush: Callable[[], object], calls: int) -> float:
    """Return the CPU nanoseconds a call of this process, flush and worker threads included."""
    gc.collect()
    began = process_time_ns()
    run(calls)
    flush()
    return (process_time_ns() - began) / calls


def check(side: Side, made: int) -> None:
    """Raise `LossError` unless the telemetry of every call has arrived."""
    for signal, arrived in side.arrived().items():
        if arrived != made:
            raise LossError(f"{made:,} calls were made, but {arrived:,} {signal} arrived")


def looped(function: Callable[[int], object]) -> Run:
    """Return what calls `function` so many times."""

    def run(calls: int) -> None:
        for x in range(calls):
            function(x)

    return run
