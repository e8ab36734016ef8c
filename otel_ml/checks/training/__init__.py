"""Rules for training runs: what goes wrong in them, told with the numbers behind it."""

from otel_ml.checks.training._fit import GeneralizationGap, Overconfident, Overfit, Underfit
from otel_ml.checks.training._loss import Divergence, LossSpike, Nonfinite, Plateau
from otel_ml.checks.training._pace import DataLoaderStall, ExplodingGradient, Stalled

__all__ = [
    "DataLoaderStall",
    "Divergence",
    "ExplodingGradient",
    "GeneralizationGap",
    "LossSpike",
    "Nonfinite",
    "Overconfident",
    "Overfit",
    "Plateau",
    "Stalled",
    "Underfit",
    "defaults",
]

Rule = (
    DataLoaderStall | Divergence | ExplodingGradient | LossSpike | Nonfinite | Overconfident | Overfit | Stalled
)  # fmt: skip


def defaults() -> tuple[Rule, ...]:
    """Return the rules that need nothing but what most people log, and are quiet on runs that go well.

    >>> Overfit() in defaults()
    True
    """
    return (
        Nonfinite(), LossSpike(), Divergence(), ExplodingGradient(), Overfit(), Overconfident(), DataLoaderStall(),
        Stalled(),
    )  # fmt: skip
