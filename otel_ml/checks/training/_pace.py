"""Rules about how fast a run goes: gradients that explode stop it, data that does not come holds it up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from otel_ml._finding import Finding, Severity
from otel_ml.checks._watch import EpochEnd, Step
from otel_ml.checks.training._robust import Gate, Looks, Recent, found


@dataclass(frozen=True)
class ExplodingGradient:
    """The norm of the gradient, logged as `grad_norm` or `gradient_norm`, is ten times what is usual, for `steps` steps.

    Usual is the median of the last `window` steps; on the scale of logarithms it has to be 6 spreads away as well.
    """

    window: int = 100
    factor: float = 10.0
    steps: int = 3

    def watch(self) -> Looks:
        """Begin to watch one run."""
        recent, gate, over = Recent(self.window), Gate(20), 0

        def step(step: Step) -> Iterator[Finding]:
            nonlocal over
            norm = found(step.values, ("",), ("grad_norm", "gradient_norm"))
            if norm is None or norm[1] <= 0.0:
                return
            name, value = norm
            logarithm = math.log(value)
            far = len(recent) >= 20 and logarithm > recent.median + max(math.log(self.factor), 6.0 * recent.spread)
            over = over + 1 if far else 0
            usual = math.exp(recent.median) if len(recent) else math.nan
            if not far or over > self.window:
                recent.add(logarithm)
            evidence = {"norm": value, "usual": usual, "steps": over, "step": step.index, "window": self.window}
            yield from gate.look(
                over >= self.steps,
                lambda began: Finding(
                    "exploding_gradient",
                    "warning",
                    f"{name} is {value:.3g} at step {step.index}; {usual:.3g} is usual."
                    if began
                    else f"{name} is back at {value:.3g}.",
                    "Clip gradients, lower the learning rate, and look at the batches of these steps." if began else "",
                    name,
                    evidence,
                    began,
                ),
            )

        return Looks(step=step)


@dataclass(frozen=True)
class DataLoaderStall:
    """Training waits for data: more than `share` of an epoch's time, in two epochs on end of a second or more.

    What is measured is `for batch in epoch.batches(loader)`. Above `critical` of the time it is critical.
    """

    share: float = 0.2
    critical: float = 0.5

    def watch(self) -> Looks:
        """Begin to watch one run."""
        gate, over = Gate(2), 0

        def epoch(epoch: EpochEnd) -> Iterator[Finding]:
            nonlocal over
            if epoch.duration < 1.0:
                return
            waited = epoch.phases.get("data_loading", 0.0)
            share = waited / epoch.duration
            over = over + 1 if share > self.share else 0
            severity: Severity = "critical" if share > self.critical else "warning"
            evidence = {"share": share, "waited": waited, "duration": epoch.duration, "epoch": epoch.index}
            yield from gate.look(
                over >= 2,
                lambda began: Finding(
                    "data_loader_stall",
                    severity,
                    f"{share:.0%} of epoch {epoch.index} ({waited:.1f} of {epoch.duration:.1f} s) was spent waiting for data."
                    if began
                    else f"Only {share:.0%} of epoch {epoch.index} was spent waiting for data.",
                    "Load with more workers, prefetch, cache or decode ahead, and keep the data closer."
                    if began
                    else "",
                    None,
                    evidence,
                    began,
                ),
            )

        return Looks(epoch=epoch)


@dataclass(frozen=True)
class Stalled:
    """No step has been logged for ten times the usual time between two, and at least `least` seconds.

    After `hard` seconds it is told whatever is usual. It is over with the next step.
    """

    least: float = 60.0
    hard: float = 1_800.0

    def watch(self) -> Looks:
        """Begin to watch one run."""
        gaps, gate = Recent(100), Gate(1)
        last, logged = 0.0, -1

        def look(holds: bool, waited: float) -> Iterator[Finding]:
            usual = gaps.median
            yield from gate.look(
                holds,
                lambda began: Finding(
                    "stalled",
                    "critical" if waited > self.hard else "warning",
                    f"No step has come for {waited:.0f} s since step {logged}."
                    if began
                    else f"Steps come again, from step {logged} on.",
                    "Look whether the program waits for data, for another worker, or for a device (py-spy dump shows where)."
                    if began
                    else "",
                    None,
                    {"seconds": waited, "usual": usual if math.isfinite(usual) else 0.0, "step": logged},
                    began,
                ),
            )

        def step(step: Step) -> Iterator[Finding]:
            nonlocal last, logged
            if logged >= 0:
                gaps.add(max(0.0, step.seconds - last))
            last, logged = step.seconds, step.index
            yield from look(False, 0.0)

        def passed(seconds: float) -> Iterator[Finding]:
            waited = seconds - last
            usual = 10.0 * gaps.median if len(gaps) else math.inf
            yield from look(waited > self.hard or waited > max(self.least, usual), waited) if not gate.open else ()

        return Looks(step=step, passed=passed)
