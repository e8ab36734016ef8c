"""Rules about the loss of steps: no number, spikes, divergence, and a loss that no longer falls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from otel_ml._finding import Finding
from otel_ml.checks._watch import Step
from otel_ml.checks.training._robust import Gate, Looks, Recent, decreasing

# Steps between two looks at a trend, which takes a thousand comparisons.
_EVERY = 10


@dataclass(frozen=True)
class Nonfinite:
    """A value that was logged is NaN or infinite: told at once, for each value once.

    It is over when the value has been finite for `clears_after` steps.
    """

    clears_after: int = 20

    def watch(self) -> Looks:
        """Begin to watch one run."""
        gates: dict[str, Gate] = {}

        def step(step: Step) -> Iterator[Finding]:
            for name, value in step.values.items():
                broken = not math.isfinite(value)
                if not broken and name not in gates:
                    continue
                gate = gates.setdefault(name, Gate(self.clears_after))
                yield from gate.look(broken, lambda began, name=name, value=value: _nonfinite(began, name, value, step))  # type: ignore[misc]  # bound as defaults

        return Looks(step=step)


def _nonfinite(began: bool, name: str, value: float, step: Step) -> Finding:
    message = f"{name} is {value} at step {step.index}." if began else f"{name} is finite again at step {step.index}."
    advice = (
        "Lower the learning rate, clip gradients, look for divisions by zero and logarithms of zero, and for values in "
        "the data that are not finite; with mixed precision, lower the loss scale."
    )
    return Finding(
        "nonfinite",
        "critical",
        message,
        advice if began else "",
        name,
        {"value": str(value), "step": step.index},
        began,
    )


@dataclass(frozen=True)
class LossSpike:
    """The loss has jumped and stays up: above the median of the last `window` steps by 6 spreads and by half of it.

    `steps` in a row, since single batches jump now and then. A spread is 1.4826 times the median absolute deviation. It
    is over when the loss is back for as many steps.
    """

    value: str = "loss"
    window: int = 100
    steps: int = 5
    spreads: float = 6.0

    def watch(self) -> Looks:
        """Begin to watch one run."""
        recent, gate, over = Recent(self.window), Gate(self.steps), 0

        def step(step: Step) -> Iterator[Finding]:
            nonlocal over
            loss = step.values.get(self.value)
            if loss is None or not math.isfinite(loss):
                return
            middle, limit = recent.median, math.inf
            if len(recent) >= min(20, self.window):
                limit = middle + max(self.spreads * recent.spread, 0.5 * abs(middle))
            high = loss > limit
            over = over + 1 if high else 0
            # What is normal is not learnt from what is not; but a level that stays becomes normal in the end.
            if not high or over > self.window:
                recent.add(loss)
            evidence = {"loss": loss, "median": middle, "limit": limit, "steps": over, "step": step.index}
            yield from gate.look(
                over >= self.steps or (gate.open and high),
                lambda began: Finding(
                    "loss_spike",
                    "warning",
                    f"{self.value} rose to {loss:.4g} from {middle:.4g} and stayed there for {over} steps."
                    if began
                    else f"{self.value} is back at {loss:.4g}.",
                    "Look at the batches before the jump; lower the learning rate, clip gradients, or go back to the last "
                    "checkpoint and skip these batches."
                    if began
                    else "",
                    self.value,
                    evidence,
                    began,
                ),
            )

        return Looks(step=step)


@dataclass(frozen=True)
class Divergence:
    """The loss rises for good: its moving average is above twice its best, and the last `window` steps trend upwards.

    The trend is Mann and Kendall's test, p < 0.01. A loss that has come down to little may double without harm, so that it
    has to be above a fifth of what it began with too. It is over below 1.5 times the best.
    """

    value: str = "loss"
    window: int = 50
    factor: float = 2.0

    def watch(self) -> Looks:
        """Begin to watch one run."""
        recent, gate = Recent(self.window), Gate(1)
        first: list[float] = []
        average, best, seen = math.nan, math.inf, 0

        def step(step: Step) -> Iterator[Finding]:
            nonlocal average, best, seen
            loss = step.values.get(self.value)
            if loss is None or not math.isfinite(loss):
                return
            seen += 1
            recent.add(loss)
            if len(first) < 10:
                first.append(loss)
            average = loss if math.isnan(average) else average + (loss - average) * 2.0 / (self.window + 1)
            if seen < self.window or seen % _EVERY:
                return
            best = min(best, average)
            factor = self.factor if not gate.open else 0.75 * self.factor
            level = best + (factor - 1.0) * abs(best)
            high = average > level and average > 0.2 * max(map(abs, first))
            rises = high and (gate.open or decreasing([-one for one in recent.values]) < 0.01)
            evidence = {"average": average, "best": best, "step": step.index, "window": self.window}
            yield from gate.look(
                rises,
                lambda began: Finding(
                    "loss_divergence",
                    "critical",
                    f"{self.value} rises: its average is {average:.4g} at step {step.index}, and was {best:.4g} at best."
                    if began
                    else f"{self.value} has come down again, to {average:.4g} on average.",
                    "Stop, lower the learning rate, and go on from the checkpoint before it began to rise."
                    if began
                    else "",
                    self.value,
                    evidence,
                    began,
                ),
            )

        return Looks(step=step)


@dataclass(frozen=True)
class Plateau:
    """The loss no longer falls: no downward trend over the last `window` steps (Mann and Kendall, p > 0.05), and less than
    0.1 % better than over as many before. For information: a run that has converged is on a plateau too.

    It is over when it falls again.
    """

    value: str = "loss"
    window: int = 100
    improvement: float = 0.001

    def watch(self) -> Looks:
        """Begin to watch one run."""
        recent, gate, seen = Recent(2 * self.window), Gate(1), 0

        def step(step: Step) -> Iterator[Finding]:
            nonlocal seen
            loss = step.values.get(self.value)
            if loss is None or not math.isfinite(loss):
                return
            seen += 1
            recent.add(loss)
            if seen < 3 * self.window or seen % (self.window // 2):
                return
            values = list(recent.values)
            before, now = sum(values[: self.window]) / self.window, sum(values[self.window :]) / self.window
            better = (before - now) / abs(before) if before else 0.0
            # Means of tens, so that the test does not take a thousand times a thousand comparisons.
            size = max(1, self.window // 20)
            means = [sum(values[at : at + size]) / size for at in range(self.window, 2 * self.window, size)]
            p = decreasing(means)
            evidence = {"before": before, "now": now, "p": p, "window": self.window, "step": step.index}
            yield from gate.look(
                better < self.improvement and p > 0.05,
                lambda began: Finding(
                    "loss_plateau",
                    "info",
                    f"{self.value} has stayed at {now:.4g} for {self.window} steps; before it was {before:.4g}."
                    if began
                    else f"{self.value} falls again: {now:.4g}, and {before:.4g} before.",
                    "Stop here if the result is good enough; else lower the learning rate, or give the model more capacity."
                    if began
                    else "",
                    self.value,
                    evidence,
                    began,
                ),
            )

        return Looks(step=step)
