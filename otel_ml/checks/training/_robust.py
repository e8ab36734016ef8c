"""What rules look at losses with: medians and trends that a few odd values do not move."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from otel_ml.checks._distributions import normal_cdf

if TYPE_CHECKING:
    from otel_ml._finding import Finding
    from otel_ml.checks._said import Said
    from otel_ml.checks._watch import EpochEnd, Step

# A median absolute deviation times this is a standard deviation, where values are normal.
SCALE = 1.4826

# Names that people give to measures of which more is better; `val_accuracy` has the measure `accuracy`.
HIGHER_IS_BETTER = ("accuracy", "acc", "f1", "precision", "recall", "auc", "roc_auc", "r2", "balanced_accuracy", "mcc")
TRAIN, VALIDATION = ("", "train_"), ("val_", "validation_")


class Looks:
    """A watch made of what a rule needs: functions for steps, epochs, the time, and the end."""

    def __init__(
        self,
        *,
        step: Callable[[Step], Iterable[Said]] | None = None,
        epoch: Callable[[EpochEnd], Iterable[Said]] | None = None,
        passed: Callable[[float], Iterable[Said]] | None = None,
        ended: Callable[[float], Iterable[Said]] | None = None,
    ) -> None:
        self.step = step if step is not None else _nothing
        self.epoch = epoch if epoch is not None else _nothing
        self.passed = passed if passed is not None else _nothing
        self.ended = ended if ended is not None else _nothing


class Gate:
    """Lets a finding through when it begins to hold, and once more when it has not held for some looks on end."""

    def __init__(self, clears_after: int) -> None:
        self._clears_after = clears_after
        self._without = 0
        self.open = False

    def look(self, holds: bool, tell: Callable[[bool], Finding]) -> Iterator[Finding]:
        """Look once; `tell` makes the finding, which begins to hold or is over."""
        if holds:
            self._without = 0
            if not self.open:
                self.open = True
                yield tell(True)
        elif self.open:
            self._without += 1
            if self._without >= self._clears_after:
                self.open, self._without = False, 0
                yield tell(False)


class Recent:
    """The last values of something."""

    def __init__(self, most: int) -> None:
        self.values: deque[float] = deque(maxlen=most)

    def add(self, value: float) -> None:
        """Add a value; the oldest goes."""
        self.values.append(value)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def median(self) -> float:
        """The middle value; not a number where there is none."""
        return median(self.values) if self.values else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation, from the median absolute deviation."""
        middle = self.median
        return SCALE * median(abs(one - middle) for one in self.values) if self.values else math.nan


def decreasing(values: Sequence[float]) -> float:
    """Return the p-value of Mann and Kendall's test that values do not decrease: small where they surely do.

    The normal approximation without a correction for ties (Mann 1945, Kendall 1975).

    >>> decreasing([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]) < 0.01 < 0.5 <= decreasing([1.0, 1.0, 1.0, 1.0])
    True
    """
    n = len(values)
    if n < 4:
        return 1.0
    rises = sum((later > one) - (later < one) for at, one in enumerate(values) for later in values[at + 1 :])
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return normal_cdf((rises + 1 if rises < 0 else max(0, rises - 1)) / deviation)


def noise_of(values: Sequence[float]) -> float:
    """Return the standard deviation of what is no trend in values: from their differences, so that a curve adds little."""
    differences = [later - one for one, later in pairwise(values)]
    if len(differences) < 2:
        return math.nan
    middle = median(differences)
    return SCALE * median(abs(one - middle) for one in differences) / math.sqrt(2.0)


def found(values: Mapping[str, float], prefixes: Sequence[str], names: Sequence[str]) -> tuple[str, float] | None:
    """Return the first value that goes by one of these names, and its name."""
    for name in names:
        for prefix in prefixes:
            value = values.get(prefix + name)
            if value is not None and math.isfinite(value):
                return prefix + name, value
    return None


def _nothing(_: object) -> Iterable[Said]:
    return ()
