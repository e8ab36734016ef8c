"""The series of predictions: what one model's calls add up to, from two appends a call."""

from __future__ import annotations

from otel_ml import _catalog as names
from otel_ml._buckets import Attributes
from otel_ml._ledger import FOLD_AT, Ledger, Series, fold

Labels = tuple[tuple[str, str | bool | int | float], ...]


class CallSeries:
    """Calls of one model that share labels and outcome. `note` takes a duration in ns, `size` a number of rows.

    Samples, batch sizes and errors are read off the sizes when they are folded, so that a call costs two appends.
    """

    __slots__ = ("_closed", "_ledger", "batch", "durations", "errors", "note", "samples", "size", "sizes")

    def __init__(self, ledger: Ledger, identity: Attributes, operation: str, labels: Labels, error: str | None) -> None:
        self._ledger = ledger
        self._closed = 0
        shared = {**identity, **dict(labels)}
        kind = {} if error is None else {names.ERROR_TYPE: error}
        self.durations = ledger.series(names.PREDICTION_DURATION, {names.OPERATION: operation, **shared, **kind})
        self.samples = ledger.series(names.PREDICTION_SAMPLES, {**shared, **kind})
        self.batch = ledger.series(names.PREDICTION_BATCH_SIZE, shared)
        self.errors: Series | None = None if error is None else ledger.series(names.PREDICTION_ERRORS, identity)
        self.sizes: list[int] = []
        self.note, self.size = self.durations.append, self.sizes.append

    def fold_soon(self) -> None:
        """Fold in the calling thread if nobody else is folding; never waits."""
        self._ledger.fold_soon(self._fold)

    def closed(self) -> int:
        """Move the sizes noted so far to their series; return how many calls have ended in all. Needs the lock."""
        sizes = self.sizes
        n = len(sizes)
        if n:
            taken = sizes[:n]
            del sizes[:n]
            self._closed += n
            self.batch.values.extend(taken)
            self.samples.append(sum(taken))
            if self.errors is not None:
                self.errors.append(n)
        return self._closed

    def _fold(self) -> None:
        self.closed()
        fold(self.durations, None)
        fold(self.batch, None)


class ModelSeries:
    """All series of one model and version. `opened` is appended to when a call begins."""

    __slots__ = ("_active", "_identity", "_ledger", "_opened", "_operation", "_series", "_started", "opened")

    def __init__(self, ledger: Ledger, identity: Attributes, operation: str) -> None:
        self._ledger, self._identity, self._operation = ledger, identity, operation
        self._opened: list[None] = []
        self.opened = self._opened.append
        self._started = 0
        self._series: dict[tuple[Labels, str | None], CallSeries] = {}
        self._active = ledger.series(names.PREDICTION_ACTIVE, identity)
        # An error rate needs the zero: a model that never failed has a series too.
        ledger.series(names.PREDICTION_ERRORS, identity)
        ledger.before_fold(self._before_fold)

    def of(self, labels: Labels, error: str | None = None) -> CallSeries:
        """Return the series for some labels and, for a failed call, the type of its error."""
        found = self._series.get((labels, error))
        if found is not None:
            return found
        if self._ledger.full(names.PREDICTION_DURATION):
            labels, error = ((names.OVERFLOW, True),), None if error is None else names.OTHER
            found = self._series.get((labels, error))
            if found is not None:
                return found
        made = CallSeries(self._ledger, self._identity, self._operation, labels, error)
        return self._series.setdefault((labels, error), made)

    def began(self) -> None:
        """Note that a call began, and keep the list short."""
        self.opened(None)
        if len(self._opened) > FOLD_AT:
            self._ledger.fold_soon(self._count_opened)

    def _count_opened(self) -> None:
        n = len(self._opened)
        del self._opened[:n]
        self._started += n

    def _before_fold(self) -> None:
        # Ends are counted before beginnings, so that a call that ends in between cannot make the number negative.
        closed = sum(series.closed() for series in list(self._series.values()))
        self._count_opened()
        change = self._started - closed - int(self._active.total) - sum(map(int, self._active.values))
        if change:
            self._active.append(change)
