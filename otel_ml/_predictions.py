"""The series of predictions: what one model's calls add up to, from two appends a call."""

from __future__ import annotations

from collections.abc import Callable

from otel_ml import _catalog as names
from otel_ml._buckets import Attributes
from otel_ml._ledger import Ledger, Series, fold

Labels = tuple[tuple[str, str | bool | int | float], ...]


class CallSeries:
    """Calls of one model that share labels and outcome. `note` takes a duration in ns, `size` a number of rows.

    A call of one row notes no size, and one of several notes it before its duration: so a call that is being noted
    while another thread folds is at worst missing for one fold, and the totals are exact.
    """

    __slots__ = (
        "_began", "_ledger", "_ones", "_several", "batch", "closed", "durations", "errors", "note", "samples", "size",
        "sizes", "values",
    )  # fmt: skip

    def __init__(
        self,
        ledger: Ledger,
        identity: Attributes,
        operation: str,
        labels: Labels,
        error: str | None,
        began: Callable[[], None],
    ) -> None:
        self._ledger, self._began = ledger, began
        shared = {**identity, **dict(labels)}
        kind = {} if error is None else {names.ERROR_TYPE: error}
        self.durations = ledger.series(names.PREDICTION_DURATION, {names.OPERATION: operation, **shared, **kind})
        self.samples = ledger.series(names.PREDICTION_SAMPLES, {**shared, **kind})
        self.batch = ledger.series(names.PREDICTION_BATCH_SIZE, shared)
        self.errors: Series | None = None if error is None else ledger.series(names.PREDICTION_ERRORS, identity)
        self.sizes: list[int] = []
        # Many share the overflow series; each has to know its own calls.
        self.values: list[int | float] = [] if names.OVERFLOW in self.durations.attributes else self.durations.values
        self.note, self.size = self.values.append, self.sizes.append
        # Calls folded so far: all by their durations, those of several rows by their sizes, those of one by the rest.
        self.closed = self._several = self._ones = 0

    def add(self, duration: int, rows: int) -> None:
        """Note one call."""
        if rows != 1:
            self.size(rows)
        self.note(duration)

    def fold_soon(self) -> None:
        """Fold in the calling thread if nobody else is folding; never waits."""
        self._ledger.fold_soon(self.fold)

    def fold(self) -> None:
        """Fold durations, sizes, samples and errors. The ledger's lock must be held."""
        replay = self._ledger.replay
        n = len(self.values)
        several = self.sizes[: len(self.sizes)]
        del self.sizes[: len(several)]
        if self.values is not self.durations.values:
            self.durations.values.extend(self.values[:n])
            del self.values[:n]
        fold(self.durations, replay, n)
        self.closed += n
        self._several += len(several)
        ones = max(0, self.closed - self._several - self._ones)
        self._ones += ones
        if n or several:
            self.batch.values.extend(several + [1] * ones)
            self.samples.append(sum(several) + ones)
            fold(self.batch, replay)
            fold(self.samples, replay)
            if self.errors is not None:
                self.errors.append(n)
        self._began()


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
        ledger.series(names.PREDICTION_ERRORS, identity).append(0)
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
        made = CallSeries(self._ledger, self._identity, self._operation, labels, error, self._count_opened)
        return self._series.setdefault((labels, error), made)

    def _count_opened(self) -> None:
        n = len(self._opened)
        del self._opened[:n]
        self._started += n

    def _before_fold(self) -> None:
        # Ends are counted before beginnings, so that a call that ends in between cannot make the number negative.
        closed = 0
        for series in list(self._series.values()):
            series.fold()
            closed += series.closed
        self._count_opened()
        change = self._started - closed - int(self._active.total) - sum(map(int, self._active.values))
        if change:
            self._active.append(change)
