"""A measure and how sure it is: the value, its confidence interval, and how much stands behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from otel_ml.checks._distributions import normal_quantile

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measure with its confidence interval, from `n` cases; not a number where there was nothing to measure.

    >>> Estimate(0.8, 0.71, 0.87, 100).high
    0.87
    """

    value: float
    low: float
    high: float
    n: float


NONE = Estimate(math.nan, math.nan, math.nan, 0)


def proportion(successes: float, n: float, level: float = LEVEL) -> Estimate:
    """Return a proportion with Wilson's score interval (1927), which stays within 0 and 1 and is good for small `n`.

    >>> one = proportion(8, 10)
    >>> round(one.value, 3), round(one.low, 3), round(one.high, 3)
    (0.8, 0.49, 0.943)
    """
    if not n > 0:
        return NONE
    z = normal_quantile(0.5 + level / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(max(0.0, share * (1 - share) / n + z * z / (4 * n * n)))
    # Rounding must not put the value itself outside.
    return Estimate(share, min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach)), n)


def difference(a: float, n: float, b: float, m: float, level: float = LEVEL) -> Estimate:
    """Return the difference of two proportions, a / n - b / m, with Newcombe's interval (1998, from two of Wilson's).

    >>> one = difference(56, 70, 48, 80)
    >>> round(one.value, 4), round(one.low, 4), round(one.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    one, other = proportion(a, n, level), proportion(b, m, level)
    if math.isnan(one.value) or math.isnan(other.value):
        return NONE
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, max(-1.0, low), min(1.0, high), min(n, m))


def mean(value: float, m2: float, n: float, level: float = LEVEL) -> Estimate:
    """Return a mean with the normal interval, from the sum of squared differences from it (`m2`).

    >>> mean(2.0, 2.0, 3).n
    3
    """
    if not n > 0:
        return NONE
    return around(value, m2 / (n - 1) / n if n > 1 else math.nan, n, level=level)


def around(
    value: float, variance: float, n: float, *, least: float = -math.inf, most: float = math.inf, level: float = LEVEL
) -> Estimate:
    """Return a value with the normal interval of its variance, cut off at what it can be; not known with no variance.

    >>> around(0.99, 0.01, 100, most=1.0).high
    1.0
    """
    if math.isnan(value):
        return NONE
    if not variance >= 0:
        return Estimate(value, math.nan, math.nan, n)
    reach = normal_quantile(0.5 + level / 2) * math.sqrt(variance)
    return Estimate(value, max(min(value, least), value - reach), min(max(value, most), value + reach), n)
