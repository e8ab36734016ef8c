"""Probabilities and quantiles of the distributions that decisions rest on, without scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300


def normal_cdf(x: float) -> float:
    """Return the probability that a standard normal variable is at most `x`.

    >>> round(normal_cdf(1.959963984540054), 12)
    0.975
    """
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """Return where a standard normal variable is below with probability `p`; infinite at 0 and 1.

    >>> round(normal_quantile(0.975), 6)
    1.959964
    """
    return -math.inf if p <= 0.0 else math.inf if p >= 1.0 else _NORMAL.inv_cdf(p)


def chi2_sf(x: float, k: float) -> float:
    """Return the probability that a chi-squared variable with `k` degrees of freedom exceeds `x`.

    The regularised upper incomplete gamma function, by its series below k + 1 and its continued fraction above
    (Abramowitz and Stegun 6.5.29 and 6.5.31).

    >>> round(chi2_sf(3.841458820694124, 1), 12)
    0.05
    """
    if not x > 0.0 or k <= 0.0:
        return 1.0
    a, z = k / 2.0, x / 2.0
    scale = math.exp(a * math.log(z) - z - math.lgamma(a))
    if z < a + 1.0:
        term = total = 1.0 / a
        n = a
        while abs(term) > abs(total) * 1e-17:
            n += 1.0
            term *= z / n
            total += term
        return max(0.0, 1.0 - total * scale)
    # Lentz's method.
    b = z + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    h = d
    for i in range(1, 10_000):
        step = -i * (i - a)
        b += 2.0
        d = 1.0 / (step * d + b or _TINY)
        c = b + step / c or _TINY
        h *= d * c
        if abs(d * c - 1.0) < 1e-16:
            break
    return min(1.0, scale * h)


def chi2_quantile(p: float, k: float) -> float:
    """Return where a chi-squared variable with `k` degrees of freedom is below with probability `p`.

    >>> round(chi2_quantile(0.99, 9), 9)
    21.665994333
    """
    if p <= 0.0:
        return 0.0
    if p >= 1.0:
        return math.inf
    low, high = 0.0, k + 10.0
    while chi2_sf(high, k) > 1.0 - p:
        low, high = high, high * 2.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if chi2_sf(middle, k) > 1.0 - p else (low, middle)
    return (low + high) / 2.0


def kolmogorov_sf(x: float) -> float:
    """Return the probability that the limit of Kolmogorov's statistic, sqrt(n m / (n + m)) D, exceeds `x`.

    >>> round(kolmogorov_sf(1.3580986393225507), 9)
    0.05
    """
    if x < 0.2:
        # Smaller than any double.
        return 1.0
    if x < 1.2:
        # The series in exp(-pi^2 / 8 x^2) converges fast where the other does not.
        base = math.pi**2 / (8.0 * x * x)
        total = sum(math.exp(-((2 * k - 1) ** 2) * base) for k in range(1, 20))
        return min(1.0, max(0.0, 1.0 - math.sqrt(2.0 * math.pi) / x * total))
    return min(
        1.0, max(0.0, 2.0 * math.fsum((1.0 if k % 2 else -1.0) * math.exp(-2.0 * k * k * x * x) for k in range(1, 20)))
    )


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, so that comparing each with q bounds the false discovery rate by q.

    Benjamini and Hochberg 1995, as adjusted p-values. Not a number stays so, and counts for nothing.

    >>> [round(one, 3) for one in benjamini_hochberg([0.01, 0.02, 0.03, 0.5])]
    [0.04, 0.04, 0.04, 0.5]
    """
    known = sorted((value, at) for at, value in enumerate(p) if not math.isnan(value))
    corrected = [math.nan] * len(p)
    least = 1.0
    for rank in range(len(known), 0, -1):
        value, at = known[rank - 1]
        least = min(least, value * len(known) / rank)
        corrected[at] = least
    return corrected
