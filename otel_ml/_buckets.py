"""Histogram aggregations that take values in sorted bulk: explicit and exponential buckets."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from opentelemetry.sdk.metrics.export import ExponentialHistogramDataPoint, HistogramDataPoint

Attributes = dict[str, str | bool | int | float]
Point = HistogramDataPoint | ExponentialHistogramDataPoint


class Buckets(Protocol):
    """One aggregation of one series. `scale` is what one exported unit is in appended units (1e9 for ns)."""

    count: int
    start: int

    def add(self, values: Sequence[int | float]) -> None:
        """Count sorted values."""
        ...

    def point(self, attributes: Attributes, now: int) -> Point:
        """Return the point to export."""
        ...

    def reset(self, now: int) -> None:
        """Begin anew at `now`, for delta temporality."""
        ...


class Explicit:
    """Explicit buckets, (lower, upper], as OpenTelemetry has them: one bisect a boundary, not one a value."""

    __slots__ = ("bounds", "count", "counts", "edges", "high", "low", "scale", "start", "total")

    count: int
    counts: list[int]
    total: int | float
    low: int | float
    high: int | float
    start: int

    def __init__(self, bounds: tuple[float, ...], scale: float, start: int) -> None:
        self.bounds, self.scale = bounds, scale
        self.edges = _edges(bounds, scale)
        self.reset(start)

    def add(self, values: Sequence[int | float]) -> None:
        counts, below, n = self.counts, 0, len(values)
        for index, edge in enumerate(self.edges):
            if below == n:
                break
            upto = bisect_right(values, edge, below)
            counts[index] += upto - below
            below = upto
        counts[-1] += n - below
        self.count += n
        self.total += sum(values)
        self.low, self.high = min(self.low, values[0]), max(self.high, values[-1])

    def point(self, attributes: Attributes, now: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self.start,
            time_unix_nano=now,
            count=self.count,
            sum=scaled(self.total, self.scale),
            bucket_counts=tuple(self.counts),
            explicit_bounds=self.bounds,
            min=scaled(self.low, self.scale),
            max=scaled(self.high, self.scale),
        )

    def reset(self, now: int) -> None:
        self.counts = [0] * (len(self.edges) + 1)
        self.count, self.total, self.start = 0, 0, now
        self.low, self.high = math.inf, -math.inf


class Exponential:
    """Base-2 exponential buckets of the OpenTelemetry data model, for values that are not negative.

    The scale is the largest at which all values fit in `max_size` buckets, as the SDK's own aggregation ends up with.
    """

    __slots__ = (
        "count", "counts", "exponent", "high", "low", "max_scale", "max_size", "scale", "start", "total", "zeros",
    )  # fmt: skip

    count: int
    zeros: int
    counts: dict[int, int]
    exponent: int
    total: int | float
    low: int | float
    high: int | float
    start: int

    def __init__(self, max_size: int, max_scale: int, scale: float, start: int) -> None:
        self.max_size, self.max_scale, self.scale = max_size, max_scale, scale
        self.reset(start)

    def add(self, values: Sequence[int | float]) -> None:
        n = len(values)
        self.count += n
        self.total += sum(values)
        self.low, self.high = min(self.low, values[0]), max(self.high, values[-1])
        zeros = bisect_right(values, 0)
        self.zeros += zeros
        if zeros == n:
            return
        self._make_room(values[zeros] / self.scale, values[-1] / self.scale)
        counts, exponent, scale = self.counts, self.exponent, self.scale
        for value in values[zeros:]:
            index = bucket_index(value / scale, exponent)
            counts[index] = counts.get(index, 0) + 1

    def _make_room(self, low: float, high: float) -> None:
        first, last = bucket_index(low, self.exponent), bucket_index(high, self.exponent)
        if self.counts:
            first, last = min((first, *self.counts)), max((last, *self.counts))
        change = 0
        while (last >> change) - (first >> change) >= self.max_size:
            change += 1
        if change:
            merged: dict[int, int] = {}
            for index, count in self.counts.items():
                merged[index >> change] = merged.get(index >> change, 0) + count
            self.counts = merged
            self.exponent -= change

    def point(self, attributes: Attributes, now: int) -> ExponentialHistogramDataPoint:
        from opentelemetry.sdk.metrics.export import Buckets as BucketsPoint

        first = min(self.counts, default=0)
        last = max(self.counts, default=-1)
        dense = tuple(self.counts.get(index, 0) for index in range(first, last + 1)) or (0,)
        return ExponentialHistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self.start,
            time_unix_nano=now,
            count=self.count,
            sum=scaled(self.total, self.scale),
            scale=self.exponent if self.counts else 0,
            zero_count=self.zeros,
            positive=BucketsPoint(offset=first, bucket_counts=dense),
            negative=BucketsPoint(offset=0, bucket_counts=(0,)),
            flags=0,
            min=scaled(self.low, self.scale),
            max=scaled(self.high, self.scale),
        )

    def reset(self, now: int) -> None:
        self.counts = {}
        self.exponent = self.max_scale
        self.count, self.zeros, self.total, self.start = 0, 0, 0, now
        self.low, self.high = math.inf, -math.inf


def bucket_index(value: float, scale: int) -> int:
    """Return the index of the exponential bucket (base^i, base^(i+1)] that holds a positive `value`.

    The mapping is that of the OpenTelemetry data model ("Exponential buckets"): exact powers of two belong to the
    bucket below, and for scales above zero the logarithm decides.
    """
    mantissa, exponent = math.frexp(value)
    if mantissa == 0.5:
        power = exponent - 1
        return (power << scale) - 1 if scale > 0 else (power - 1) >> -scale
    if scale > 0:
        return math.floor(math.log(value) * math.ldexp(1 / math.log(2), scale))
    return (exponent - 1) >> -scale


@lru_cache(maxsize=64)
def _edges(bounds: tuple[float, ...], scale: float) -> tuple[float, ...]:
    # One for all series of an instrument, which may be 2,000.
    return tuple(bound * scale for bound in bounds)


def scaled(value: int | float, scale: float) -> int | float:
    """Return an appended value in exported units; whole numbers stay whole."""
    return value if scale == 1 else value / scale
