"""What calls and runs measured: appended by callers without a lock, folded in bulk, read by every exporter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import time_ns
from typing import Protocol

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Gauge,
    Histogram,
    Metric,
    NumberDataPoint,
    Sum,
)

from otel_ml import _catalog as names
from otel_ml._buckets import Attributes, Buckets, Explicit, Exponential, Point
from otel_ml._catalog import Instrument
from otel_ml._clock import CLOCK

# As many attribute sets an instrument may have before the rest share one: OpenTelemetry's default.
MAX_SERIES = 2_000
FOLD_AT = 2_048
MAX_BACKLOG = 100_000
NANOSECONDS = 1e9

Key = tuple[tuple[str, str | bool | int | float], ...]


class Replay(Protocol):
    """Records values again through a host's instruments."""

    def __call__(self, instrument: Instrument, attributes: Attributes, values: list[int | float], /) -> None: ...

    def behind(self, lost: int, /) -> None:
        """Count values that came faster than they could be replayed."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """How one reader wants its metrics: a temporality by instrument kind, and how histograms are to be aggregated."""

    temporality: dict[str, AggregationTemporality]
    bounds: tuple[float, ...] | None = None
    exponential: tuple[int, int] | None = None

    def delta(self, kind: str) -> bool:
        """Say whether points of this kind cover the time since the last export, not since the start."""
        return self.temporality.get(kind) is AggregationTemporality.DELTA

    def buckets(self, instrument: Instrument, scale: float, start: int) -> Buckets:
        """Make the aggregation this reader wants."""
        if self.exponential is not None:
            return Exponential(*self.exponential, scale, start)
        bounds = self.bounds if self.bounds is not None else instrument.buckets
        return Explicit(bounds, scale, start)


class Series:
    """One attribute set of one instrument. `append` is the only thing callers do; it is atomic."""

    __slots__ = ("append", "attributes", "buckets", "instrument", "latest", "start", "total", "values")

    def __init__(
        self, instrument: Instrument, attributes: Attributes, buckets: tuple[Buckets, ...], start: int
    ) -> None:
        self.instrument, self.attributes, self.buckets, self.start = instrument, attributes, buckets, start
        self.values: list[int | float] = []
        self.append = self.values.append
        self.total: int | float = 0
        self.latest: int | float | None = None

    def take(self, n: int | None = None) -> list[int | float]:
        """Take the first `n` values, or all appended so far; what is appended meanwhile stays for the next time."""
        values = self.values
        n = len(values) if n is None else n
        taken = values[:n]
        del values[:n]
        return taken


class Ledger:
    """All series of one state.

    Callers append; whoever first gets the lock folds. A caller never waits for it (`fold_soon`), so that a signal
    handler that interrupts a fold cannot hang on it. With `replay`, values are also handed on one by one, for
    instruments of a host; then only the worker folds.
    """

    def __init__(self, views: tuple[View, ...], replay: Replay | None = None) -> None:
        self.lock = threading.Lock()
        self.replay = replay
        # Wakes the worker that folds where callers must not.
        self.hurry: Callable[[], None] = _nobody
        self._views = views
        self._families: dict[str, dict[Key, Series]] = {}
        self._bases: dict[tuple[int, int], int | float] = {}
        self._collected: dict[int, int] = {}
        self._before_fold: list[Callable[[], None]] = []
        # Called, without the lock, before a collection or a worker's fold.
        self.before_collection: Callable[[], None] = _nobody

    def series(self, instrument: Instrument, attributes: Attributes) -> Series:
        """Return the series for an attribute set, or the instrument's overflow series once it has 2,000."""
        family = self._families.setdefault(instrument.name, {})
        key: Key = tuple(sorted(attributes.items()))
        found = family.get(key)
        if found is not None:
            return found
        if len(family) >= MAX_SERIES:
            attributes = {names.OVERFLOW: True}
            key = tuple(attributes.items())
            found = family.get(key)
            if found is not None:
                return found
        now = time_ns()
        buckets = self._make_buckets(instrument, now)
        return family.setdefault(key, Series(instrument, attributes, buckets, now))

    def full(self, instrument: Instrument) -> bool:
        """Say whether a new attribute set of this instrument would go to the overflow series."""
        return len(self._families.get(instrument.name, ())) >= MAX_SERIES

    def before_fold(self, hook: Callable[[], None]) -> None:
        """Have `hook` called, with the lock held, before values are folded for a collection."""
        self._before_fold.append(hook)

    def note(self, series: Series, value: int | float) -> None:
        """Append a value off the fast path, and keep what waits to be folded short."""
        series.append(value)
        if len(series.values) > FOLD_AT:
            self.fold_soon(lambda: fold(series, None))

    def fold_soon(self, fold: Callable[[], None]) -> None:
        """Run one fold now if nobody else is folding; otherwise leave it to them. Never waits."""
        if self.replay is not None:
            self.hurry()
            return
        if not self.lock.acquire(blocking=False):
            return
        try:
            fold()
        finally:
            self.lock.release()

    def fold_all(self, timeout: float = 10.0) -> None:
        """Fold everything appended so far; give up after `timeout` seconds (a signal handler may hold the lock's owner)."""
        self.before_collection()
        if not self.lock.acquire(timeout=max(0.0, timeout)):
            return
        try:
            self._fold_all()
        finally:
            self.lock.release()

    def collect(self, reader: int) -> list[Metric]:
        """Fold, and return the metrics as reader number `reader` wants them, ready to export."""
        CLOCK.reanchor()
        self.before_collection()
        view = self._views[reader]
        with self.lock:
            self._fold_all()
            now = time_ns()
            since = self._collected.get(reader)
            self._collected[reader] = now
            metrics = [self._metric(family, reader, view, since, now) for family in list(self._families.values())]
        return [metric for metric in metrics if metric is not None]

    def _fold_all(self) -> None:
        for hook in self._before_fold:
            hook()
        for series in self.each():
            fold(series, self.replay)

    def each(self) -> Iterator[Series]:
        """Iterate over all series there are now."""
        for family in list(self._families.values()):
            yield from list(family.values())

    def _make_buckets(self, instrument: Instrument, now: int) -> tuple[Buckets, ...]:
        if instrument.kind != "histogram":
            return ()
        scale = NANOSECONDS if instrument.unit == "s" else 1
        return tuple(view.buckets(instrument, scale, now) for view in self._views)

    def _metric(self, family: dict[Key, Series], reader: int, view: View, since: int | None, now: int) -> Metric | None:
        series = list(family.values())
        if not series:
            return None
        instrument = series[0].instrument
        delta = view.delta(instrument.kind)
        temporality = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
        data: Sum | Gauge | Histogram | ExponentialHistogram
        if instrument.kind == "histogram":
            points = [p for one in series if (p := _bucket_point(one, reader, delta, since, now)) is not None]
            if not points:
                return None
            kind = ExponentialHistogram if view.exponential is not None else Histogram
            data = kind(points, temporality)  # type: ignore[arg-type]  # all points of one view are of its kind
        else:
            every = (self._number_point(one, reader, delta, since, now) for one in series)
            numbers = [point for point in every if point is not None]
            if not numbers:
                return None
            data = (
                Gauge(numbers)
                if instrument.kind == "gauge"
                else Sum(numbers, temporality, instrument.kind == "counter")
            )
        return Metric(instrument.name, instrument.meaning, instrument.unit, data)

    def _number_point(
        self, series: Series, reader: int, delta: bool, since: int | None, now: int
    ) -> NumberDataPoint | None:
        seconds = series.instrument.unit == "s"
        if series.instrument.kind == "gauge":
            if series.latest is None:
                return None
            return NumberDataPoint(series.attributes, None, now, series.latest)  # type: ignore[arg-type]  # as the SDK's own gauges have it
        value, start = series.total, series.start
        if delta:
            base = self._bases.get((reader, id(series)), 0)
            if value == base and since is not None:
                return None
            self._bases[reader, id(series)] = value
            value, start = value - base, max(start, since or 0)
        # The wall clock may have been set back since.
        return NumberDataPoint(series.attributes, min(start, now), now, value / NANOSECONDS if seconds else value)


def _nobody() -> None:
    """Where callers fold themselves, there is no worker to wake; where no state is, nothing waits to be read."""


def fold(series: Series, replay: Replay | None, n: int | None = None) -> None:
    """Fold one series' appended values (or the first `n`) into its aggregations. The ledger's lock must be held."""
    values = series.take(n)
    if not values:
        return
    if replay is not None:
        # A host's instrument takes 5 us a value: what comes faster than that must not pile up.
        replay.behind(max(0, len(values) - MAX_BACKLOG))
        del values[: max(0, len(values) - MAX_BACKLOG)]
        replay(series.instrument, series.attributes, values)
    if series.instrument.kind == "gauge":
        return
    if series.instrument.kind == "histogram":
        values.sort()
        for buckets in series.buckets:
            buckets.add(values)
    else:
        series.total += sum(values)


def _bucket_point(series: Series, reader: int, delta: bool, since: int | None, now: int) -> Point | None:
    buckets = series.buckets[reader]
    if not buckets.count:
        return None
    if delta and since is not None:
        buckets.start = max(series.start, since)
    # As above.
    buckets.start = min(buckets.start, now)
    point = buckets.point(series.attributes, now)
    if delta:
        buckets.reset(now)
    return point
