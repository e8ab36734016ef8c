"""Rules about what a model learns: overfitting, overconfidence, the gap between training and validation, underfitting."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from otel_ml import _catalog as names
from otel_ml._finding import Finding
from otel_ml.checks._said import Reading, Said
from otel_ml.checks._watch import EpochEnd
from otel_ml.checks.training._robust import HIGHER_IS_BETTER, TRAIN, VALIDATION, Gate, Looks, found, noise_of
from otel_ml.errors import ConfigurationError

_SAMPLES = ("samples", "rows", "count")


@dataclass(frozen=True)
class Overfit:
    """The model gets worse on validation data while it goes on getting better on training data.

    The median of the last 5 epochs of the validation measure (`val_accuracy`, `val_f1`, ...) lies below the best such
    median by more than chance explains, in 6 of the last 10 epochs, while the median of the training loss lies below what it
    was at the best epoch. Chance is two standard errors of a share over `n_val` rows (also logged as `val_samples`), at
    least `margin`; without a number of rows it is estimated from how the measure jumps from epoch to epoch. Where only
    losses are logged, the validation loss has to be 5 % above its best.

    `confirmed=True` asks for 8 of 10 epochs at three standard errors: later, and safer.
    """

    metric: str | None = None
    n_val: int | None = None
    margin: float = 0.01
    confirmed: bool = False

    def watch(self) -> Looks:
        """Begin to watch one run."""
        return Looks(epoch=_Overfit(self).epoch)

    def __post_init__(self) -> None:
        if self.n_val is not None and not self.n_val >= 1:
            raise ConfigurationError(
                f"n_val={self.n_val!r} is no number of rows. Write for example Overfit(n_val=1_000)."
            )


class _Overfit:
    def __init__(self, rule: Overfit) -> None:
        self._rule = rule
        self._z, self._needs = (3.0, 8) if rule.confirmed else (2.0, 6)
        self._measured: list[float] = []
        self._losses: list[float] = []
        self._best = (-math.inf, math.inf, -1)
        self._worse: deque[bool] = deque(maxlen=10)
        self._gate = Gate(3)

    def epoch(self, epoch: EpochEnd) -> Iterator[Said]:
        """Look at one epoch."""
        measured, loss = measure_of(epoch.values, self._rule.metric, VALIDATION), train_loss(epoch.values)
        if measured is None or loss is None:
            return
        name, value = measured
        self._measured.append(value)
        self._losses.append(loss)
        if len(self._measured) < 5:
            return
        now, train = median(self._measured[-5:]), median(self._losses[-5:])
        if now > self._best[0]:
            self._best = now, train, epoch.index
        best, train_then, when = self._best
        allowed = self._allowed(epoch.values, best)
        self._worse.append(best - now > allowed and train < train_then)
        count = sum(self._worse)
        holds = count >= self._needs if not self._gate.open else count > 2
        rule = "overfit_confirmed" if self._rule.confirmed else "overfit"
        evidence = {
            "best": best, "best_epoch": when, "now": now, "epoch": epoch.index, "fall": best - now, "allowed": allowed,
            "epochs": count, "window": 10, "train_loss": train, "train_loss_at_best": train_then,
        }  # fmt: skip
        yield from self._gate.look(
            holds,
            lambda began: Finding(
                rule,
                "warning",
                f"{name} has fallen from {best:.4g} at epoch {when} to {now:.4g}, by more than chance explains "
                f"({allowed:.3g}), while the training loss still falls: the model overfits."
                if began
                else f"{name} is back at {now:.4g}.",
                f"Take the model of epoch {when}, stop earlier, regularise more, or train with more data; look for wrong labels."
                if began
                else "",
                name,
                evidence,
                began,
            ),
        )

    def _allowed(self, values: Mapping[str, float], best: float) -> float:
        rows = self._rule.n_val or rows_of(values)
        if rows is not None and 0.0 <= best <= 1.0:
            return max(self._rule.margin, self._z * math.sqrt(best * (1.0 - best) / rows))
        scale = 1.0 if 0.0 <= best <= 1.0 else 2.5 * abs(best)
        # A share jumps less from epoch to epoch than from sample to sample: the rows are the same each time.
        return max(2.0 * self._rule.margin * scale, self._z * noise_of(self._measured))


@dataclass(frozen=True)
class Overconfident:
    """The validation loss rises, and yet as many answers are right: the model grows too sure of them.

    The validation loss is above 1.25 times its best in 8 of 10 epochs, while the validation measure is within `margin` of
    its best. For information: it is a matter of calibration, not of accuracy.
    """

    metric: str | None = None
    factor: float = 1.25
    margin: float = 0.01

    def watch(self) -> Looks:
        """Begin to watch one run."""
        gate, above, recent = Gate(3), deque[bool](maxlen=10), deque[float](maxlen=5)
        best_loss, best = math.inf, -math.inf

        def epoch(epoch: EpochEnd) -> Iterator[Finding]:
            nonlocal best_loss, best
            loss = found(epoch.values, VALIDATION, ("loss",))
            measured = measure_of(epoch.values, self.metric, VALIDATION, losses=False)
            if loss is None or measured is None:
                return
            recent.append(measured[1])
            now = median(recent)
            best_loss, best = min(best_loss, loss[1]), max(best, now)
            above.append(best_loss > 0 and loss[1] > self.factor * best_loss and best - now <= self.margin)
            evidence = {"loss": loss[1], "best_loss": best_loss, "measure": now, "best": best, "epoch": epoch.index}
            yield from gate.look(
                sum(above) >= 8 if not gate.open else sum(above) > 2,
                lambda began: Finding(
                    "overconfident",
                    "info",
                    f"{loss[0]} has risen from {best_loss:.4g} to {loss[1]:.4g}, but {measured[0]} has not fallen ({now:.4g})."
                    if began
                    else f"{loss[0]} is back at {loss[1]:.4g}.",
                    "Where probabilities matter, calibrate them, smooth labels, or stop earlier." if began else "",
                    loss[0],
                    evidence,
                    began,
                ),
            )

        return Looks(epoch=epoch)


@dataclass(frozen=True)
class GeneralizationGap:
    """How much better the model is on training data than on validation data: always a metric, and told above `above`.

    Told where the measure's 95 % interval lies above `sure`; with `n_val` (or `val_samples` logged) that interval is the one
    of a share, without it the gap of the last 5 epochs is taken as it is.
    """

    metric: str | None = None
    n_val: int | None = None
    above: float = 0.1
    sure: float = 0.05

    def watch(self) -> Looks:
        """Begin to watch one run."""
        gate, gaps = Gate(3), deque[float](maxlen=5)

        def epoch(epoch: EpochEnd) -> Iterator[Said]:
            here = measure_of(epoch.values, self.metric, VALIDATION, losses=False)
            there = measure_of(epoch.values, self.metric, TRAIN, losses=False)
            if here is None or there is None:
                return
            gaps.append(there[1] - here[1])
            gap = median(gaps)
            rows = self.n_val or rows_of(epoch.values)
            doubt = 1.96 * math.sqrt(here[1] * (1 - here[1]) / rows) if rows and 0 <= here[1] <= 1 else 0.0
            yield Reading(names.TRAINING_GENERALIZATION_GAP, gap)
            evidence = {"gap": gap, "low": gap - doubt, "train": there[1], "validation": here[1], "epoch": epoch.index}
            yield from gate.look(
                len(gaps) == 5 and gap > self.above and gap - doubt > self.sure,
                lambda began: Finding(
                    "generalization_gap",
                    "info",
                    f"{there[0]} is {there[1]:.4g} and {here[0]} {here[1]:.4g}: {gap:.3g} apart."
                    if began
                    else f"{there[0]} and {here[0]} are only {gap:.3g} apart.",
                    "More data or more regularisation brings them together; a gap that stays while both rise does no harm."
                    if began
                    else "",
                    here[0],
                    evidence,
                    began,
                ),
            )

        return Looks(epoch=epoch)


@dataclass(frozen=True)
class Underfit:
    """The model has stopped learning, and is hardly better than the `baseline` (always the largest class, the mean, ...).

    The training measure is less than `margin` above it, and the last 10 epochs have brought less than a tenth of `margin`.
    """

    baseline: float
    metric: str | None = None
    margin: float = 0.05

    def watch(self) -> Looks:
        """Begin to watch one run."""
        gate, recent = Gate(1), deque[float](maxlen=10)

        def epoch(epoch: EpochEnd) -> Iterator[Finding]:
            measured = measure_of(epoch.values, self.metric, TRAIN, losses=False)
            if measured is None:
                return
            recent.append(measured[1])
            now = median(list(recent)[-5:])
            flat = len(recent) == 10 and now - median(list(recent)[:5]) < self.margin / 10
            evidence = {"value": now, "baseline": self.baseline, "epoch": epoch.index, "window": 10}
            yield from gate.look(
                (flat or gate.open) and now < self.baseline + self.margin,
                lambda began: Finding(
                    "underfit",
                    "warning",
                    f"{measured[0]} has stayed at {now:.4g} for 10 epochs; without a model it would be {self.baseline:.4g}."
                    if began
                    else f"{measured[0]} is {now:.4g} by now.",
                    "Give the model more capacity or better features, regularise less, or raise the learning rate."
                    if began
                    else "",
                    measured[0],
                    evidence,
                    began,
                ),
            )

        return Looks(epoch=epoch)


def measure_of(
    values: Mapping[str, float], metric: str | None, prefixes: tuple[str, ...], *, losses: bool = True
) -> tuple[str, float] | None:
    """Return a measure of which more is better, and its name; where only a loss is known, its negative."""
    if metric is not None:
        bare = next((metric[len(one) :] for one in ("val_", "validation_", "train_") if metric.startswith(one)), metric)
        value = found(values, prefixes, (bare,))
        return value if value is None or bare in HIGHER_IS_BETTER else (value[0], -value[1])
    value = found(values, prefixes, HIGHER_IS_BETTER)
    if value is None and losses:
        loss = found(values, prefixes, ("loss",))
        return None if loss is None else (loss[0], -loss[1])
    return value


def rows_of(values: Mapping[str, float]) -> int | None:
    """Return how many rows of validation were logged."""
    logged = found(values, VALIDATION, _SAMPLES)
    return int(logged[1]) if logged is not None and logged[1] >= 1.0 else None


def train_loss(values: Mapping[str, float]) -> float | None:
    """Return the training loss of an epoch; where none is known, the negative of a measure of which more is better."""
    loss = found(values, TRAIN, ("loss",))
    if loss is not None:
        return loss[1]
    measured = found(values, TRAIN, HIGHER_IS_BETTER)
    return None if measured is None else -measured[1]
