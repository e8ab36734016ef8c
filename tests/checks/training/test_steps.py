"""Rules that look at steps: on real mini-batch losses, and on faults put into them."""

import math
import random
from typing import Any

import numpy as np
import pytest

from otel_ml import Finding
from otel_ml.checks import EpochEnd, Step, training

STEP_RULES = [training.Nonfinite(), training.LossSpike(), training.Divergence(), training.ExplodingGradient()]


def steps(**values: list[float]) -> list[Step]:
    """Return steps with these values, a tenth of a second apart."""
    columns = list(zip(*values.values(), strict=True))
    return [Step(at, None, at / 10, dict(zip(values, row, strict=True))) for at, row in enumerate(columns)]


def told(rule: Any, given: list[Step]) -> list[Finding]:
    """Return the findings of a rule that looks at steps."""
    watch = rule.watch()
    return [one for step in given for one in watch.step(step)]


def losses(seed: int, *, count: int = 600, rate: float = 0.1, batch: int = 32) -> tuple[list[float], list[float]]:
    """Train a softmax regression on three clouds of points, batch by batch; return losses and gradient norms."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 3_000)
    x = rng.normal(size=(3_000, 10)) + 1.5 * rng.normal(size=(3, 10))[y]
    weights, found, norms = np.zeros((10, 3)), list[float](), list[float]()
    for _ in range(count):
        some = rng.integers(0, 3_000, batch)
        scores = x[some] @ weights
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        found.append(float(-np.log(p[np.arange(batch), y[some]]).mean()))
        p[np.arange(batch), y[some]] -= 1.0
        gradient = x[some].T @ p / batch
        norms.append(float(np.linalg.norm(gradient)))
        weights -= rate * gradient
    return found, norms


class TestRealLosses:
    @pytest.mark.parametrize("batch", [4, 32, 256])
    def test_nothing_is_told_of_runs_that_are_well(self, batch: int) -> None:
        """20 runs of 600 batches, also of four rows each."""
        for seed in range(20):
            loss, norm = losses(seed, batch=batch)
            for rule in STEP_RULES:
                assert told(rule, steps(loss=loss, grad_norm=norm)) == []

    def test_a_plateau_is_told_when_it_has_converged(self) -> None:
        """For information; and not while the loss falls."""
        loss, _ = losses(1, count=4_000, batch=256)
        found = told(training.Plateau(), steps(loss=loss))

        assert found
        assert {(one.rule, one.severity) for one in found} == {("loss_plateau", "info")}
        falls = [1.0 - at / 5_000 for at in range(1_000)]
        assert told(training.Plateau(), steps(loss=falls)) == []


class TestFaults:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_is_told_at_once_and_once(self, value: float) -> None:
        """And once more when it is over."""
        loss = [1.0] * 5 + [value] * 10 + [1.0] * 30
        found = told(training.Nonfinite(), steps(loss=loss))

        assert [(one.open, one.evidence["step"]) for one in found] == [(True, 5), (False, 34)]
        assert found[0].severity == "critical"

    def test_a_spike_that_stays_is_told_and_one_batch_is_not(self) -> None:
        """Five batches in a row at three times the loss."""
        loss, _ = losses(3)
        one, several = loss.copy(), loss.copy()
        one[300] = 30.0
        several[300:310] = [3.0] * 10

        assert told(training.LossSpike(), steps(loss=one)) == []
        assert [(one.rule, one.open) for one in told(training.LossSpike(), steps(loss=several))] == [
            ("loss_spike", True), ("loss_spike", False),
        ]  # fmt: skip

    def test_a_loss_that_rises_for_good_is_told(self) -> None:
        """It doubles within 200 steps."""
        loss, _ = losses(4)
        loss += [loss[-1] + 0.01 * at for at in range(300)]
        found = told(training.Divergence(), steps(loss=loss))

        assert [(one.rule, one.severity, one.open) for one in found] == [("loss_divergence", "critical", True)]

    def test_a_gradient_that_explodes_is_told(self) -> None:
        """A hundred times the usual, for five steps."""
        _, norm = losses(5)
        norm[400:405] = [100.0 * one for one in norm[400:405]]

        assert [(one.rule, one.open) for one in told(training.ExplodingGradient(), steps(grad_norm=norm))] == [
            ("exploding_gradient", True), ("exploding_gradient", False),
        ]  # fmt: skip

    @pytest.mark.parametrize("rule", [*STEP_RULES, training.Plateau(), training.Stalled()], ids=repr)
    def test_whatever_is_logged(self, rule: Any) -> None:
        """Constants, zeros, negatives, huge and tiny numbers, and no numbers raise nothing."""
        chance = random.Random(1)
        odd = [0.0, -1.0, 1e300, -1e300, 1e-300, math.nan, math.inf]
        for values in ([0.0] * 500, [-3.0] * 500, [chance.choice(odd) for _ in range(1_000)]):
            told(rule, steps(loss=values, grad_norm=values))
        told(rule, [Step(0, None, 0.0, {})])


class TestPace:
    def epochs(self, share: float, count: int = 4, seconds: float = 2.0) -> list[EpochEnd]:
        """Return epochs of which a share was spent waiting for data."""
        return [EpochEnd(at, at * seconds, seconds, {}, {"data_loading": share * seconds}) for at in range(count)]

    @pytest.mark.parametrize(("share", "severity"), [(0.1, None), (0.3, "warning"), (0.7, "critical")])
    def test_waiting_for_data(self, share: float, severity: str | None) -> None:
        """A fifth of the time is much, half of it is critical."""
        watch = training.DataLoaderStall().watch()
        found = [one for epoch in self.epochs(share) for one in watch.epoch(epoch)]

        assert [one.severity for one in found] == ([] if severity is None else [severity])  # type: ignore[union-attr]  # findings

    def test_short_epochs_say_nothing(self) -> None:
        """Epochs of less than a second are mostly overhead."""
        watch = training.DataLoaderStall().watch()

        assert [one for epoch in self.epochs(0.9, seconds=0.5) for one in watch.epoch(epoch)] == []

    def test_a_run_that_stands_still(self) -> None:
        """Told after a minute or ten times the usual, once; and that it goes on."""
        watch = training.Stalled().watch()
        for step in steps(loss=[1.0] * 100):
            assert list(watch.step(step)) == []
        assert list(watch.passed(60.0)) == []
        (found,) = watch.passed(75.0)
        assert list(watch.passed(90.0)) == []
        (over,) = watch.step(Step(100, None, 95.0, {}))

        assert (found.rule, found.open, over.open) == ("stalled", True, False)  # type: ignore[union-attr]  # findings

    def test_slow_steps_are_no_stall(self) -> None:
        """Steps of two minutes have twenty minutes."""
        watch = training.Stalled().watch()
        for at in range(10):
            assert list(watch.step(Step(at, None, at * 120.0, {}))) == []

        assert list(watch.passed(9 * 120.0 + 1_000.0)) == []
        assert len(list(watch.passed(9 * 120.0 + 1_500.0))) == 1
