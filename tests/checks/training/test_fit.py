"""Overfitting and its kin: on real runs that go well and that overfit, and on curves that were made."""

from itertools import product
from typing import Any

import pytest

from otel_ml import ConfigurationError, Finding
from otel_ml.checks import EpochEnd, training
from tests.checks.training.runs import NOISE, Data, Family, Run, run

pytest.importorskip("sklearn")

KINDS: list[tuple[Data, Family]] = [
    ("digits", "network"), ("digits", "boosting"), ("made", "network"), ("made", "boosting"),
]  # fmt: skip


def told(rule: Any, epochs: Any) -> list[Finding]:
    """Return the findings of a rule that looks at epochs."""
    watch = rule.watch()
    return [one for epoch in epochs for one in watch.epoch(epoch) if isinstance(one, Finding)]


def curve(**values: list[float]) -> list[EpochEnd]:
    """Return epochs with these values."""
    columns = list(zip(*values.values(), strict=True))
    return [EpochEnd(at, float(at), 1.0, dict(zip(values, row, strict=True))) for at, row in enumerate(columns)]


def judge(rule: Any, runs: list[Run]) -> tuple[int, int, int, int]:
    """Return false alarms, healthy runs, runs found, and runs that overfit."""
    healthy = [one for one in runs if one.fall <= 0.012]
    ill = [one for one in runs if one.fall >= 0.03]
    return (
        sum(bool(told(rule, one.epochs)) for one in healthy), len(healthy),
        sum(bool(told(rule, one.epochs)) for one in ill), len(ill),
    )  # fmt: skip


class TestRealRuns:
    """Seeds 0 to 2 were looked at while the rule was made; these were not."""

    def test_a_few(self) -> None:
        """Two networks that are well, and two that overfit."""
        runs = [run(data, "network", noise, 100) for data in ("digits", "made") for noise in (0.0, 0.4)]  # type: ignore[arg-type]  # names of data sets

        assert judge(training.Overfit(n_val=600), runs) == (0, 2, 2, 2)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "rule", [training.Overfit(n_val=600), training.Overfit()], ids=["rows known", "rows unknown"]
    )
    def test_no_false_alarm_and_nine_of_ten_found(self, rule: training.Overfit) -> None:
        """24 runs on right labels, 24 on labels that are partly wrong; two data sets, two families of models."""
        runs = [
            run(data, family, noise, seed)
            for (data, family), seed in product(KINDS, range(100, 106))
            for noise in (0.0, NOISE[family])
        ]
        false, healthy, found, ill = judge(rule, runs)
        print(f"false alarms {false} of {healthy}, found {found} of {ill}")

        assert healthy >= 20
        assert ill >= 20
        assert false == 0
        assert found >= 0.9 * ill

    @pytest.mark.slow
    def test_what_is_confirmed_is_no_false_alarm_either(self) -> None:
        """The stricter level finds fewer runs, and none that is well."""
        runs = [run(data, "network", noise, seed) for data, seed in product(("digits", "made"), range(100, 106)) for noise in (0.0, 0.4)]  # type: ignore[arg-type]  # names of data sets  # fmt: skip
        false, _, found, ill = judge(training.Overfit(n_val=600, confirmed=True), runs)

        assert false == 0
        assert found >= 0.7 * ill

    def test_other_rules_are_quiet_on_runs_that_are_well(self) -> None:
        """None of the default rules has anything critical to say."""
        for data in ("digits", "made"):
            for rule in training.defaults():
                found = told(rule, run(data, "network", 0.0, 100).epochs)  # type: ignore[arg-type]  # a name of a data set
                assert [one.rule for one in found if one.severity == "critical"] == []


UP = [min(0.9, 0.5 + 0.05 * at) for at in range(40)]
DOWN = [1.0 / (1 + at) for at in range(40)]


class TestMadeCurves:
    def test_it_opens_once_and_clears_once(self) -> None:
        """Accuracy falls for 20 epochs and comes back: two findings."""
        accuracy = UP[:15] + [0.8] * 20 + [0.9] * 25
        found = told(
            training.Overfit(n_val=500), curve(loss=[1.0 / (1 + at) for at in range(60)], val_accuracy=accuracy)
        )

        assert [(one.rule, one.open, one.subject) for one in found] == [
            ("overfit", True, "val_accuracy"), ("overfit", False, "val_accuracy"),
        ]  # fmt: skip
        assert found[0].evidence["best_epoch"] in range(8, 16)
        assert "0.8" in found[0].message

    def test_a_fall_that_chance_explains_is_none(self) -> None:
        """Three points of a hundred are nothing among 100 rows, and much among 10,000."""
        accuracy = UP[:15] + [0.87] * 25
        epochs = curve(loss=DOWN, val_accuracy=accuracy)

        assert told(training.Overfit(n_val=100), epochs) == []
        assert len(told(training.Overfit(n_val=10_000), epochs)) == 1

    def test_rows_may_be_logged(self) -> None:
        """`val_samples` says how many rows there are."""
        epochs = curve(loss=DOWN, val_accuracy=UP[:15] + [0.87] * 25, val_samples=[100.0] * 40)

        assert told(training.Overfit(), epochs) == []

    def test_a_model_that_gets_worse_at_everything_does_not_overfit(self) -> None:
        """Where the training loss rises as well, it is something else."""
        loss = DOWN[:15] + [2.0] * 25

        assert told(training.Overfit(n_val=1_000), curve(loss=loss, val_accuracy=UP[:15] + [0.5] * 25)) == []

    def test_losses_alone_will_do(self) -> None:
        """A validation loss that rises by a half while the training loss falls."""
        epochs = curve(loss=DOWN, val_loss=[1.0 / (1 + at) + 0.2 for at in range(20)] + [0.4] * 20)

        assert [one.subject for one in told(training.Overfit(), epochs)] == ["val_loss"]

    def test_overconfidence_is_told_apart(self) -> None:
        """The validation loss doubles and accuracy stays: for information, and no overfitting."""
        epochs = curve(loss=DOWN, val_accuracy=UP, val_loss=[0.3] * 15 + [0.6] * 25)

        assert told(training.Overfit(n_val=500), epochs) == []
        assert [(one.rule, one.severity) for one in told(training.Overconfident(), epochs)] == [
            ("overconfident", "info")
        ]

    def test_the_gap_is_told_where_it_is_sure(self) -> None:
        """Fifteen points apart: sure among 1,000 rows, not among 50."""
        epochs = curve(accuracy=[0.95] * 10, val_accuracy=[0.8] * 10)

        assert [one.rule for one in told(training.GeneralizationGap(n_val=1_000), epochs)] == ["generalization_gap"]
        assert told(training.GeneralizationGap(n_val=50), epochs) == []

    def test_underfitting_is_told_against_a_baseline(self) -> None:
        """A model that stays at what the largest class would give."""
        stuck, learns = curve(accuracy=[0.52] * 30), curve(accuracy=[min(0.9, 0.5 + 0.02 * at) for at in range(30)])

        assert [one.rule for one in told(training.Underfit(baseline=0.5), stuck)] == ["underfit"]
        assert told(training.Underfit(baseline=0.5), learns) == []

    @pytest.mark.parametrize(
        "rule", [*training.defaults(), training.GeneralizationGap(), training.Underfit(0.5)], ids=repr
    )
    def test_values_that_are_no_numbers_are_passed_over(self, rule: Any) -> None:
        """NaN, infinities, and nothing at all."""
        odd = [float("nan"), float("inf"), -float("inf"), 0.0] * 10
        told(rule, curve(loss=odd, val_loss=odd, val_accuracy=odd, accuracy=odd, val_samples=odd))
        told(rule, [EpochEnd(0, 0.0, 0.0, {})] * 3)

    @pytest.mark.parametrize("rows", [0, -5])
    def test_a_number_of_rows_that_is_none(self, rows: int) -> None:
        """It is refused at once."""
        with pytest.raises(ConfigurationError, match="n_val"):
            training.Overfit(n_val=rows)
