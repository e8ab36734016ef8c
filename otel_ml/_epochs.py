"""Epochs and batches: iterators that time their bodies and the wait for data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from otel_ml import _catalog as names
from otel_ml._rows import rows
from otel_ml._shield import shielded

if TYPE_CHECKING:
    from otel_ml._buckets import Attributes
    from otel_ml._journal import Logged
    from otel_ml._runs import Run
    from otel_ml._scope import Scope

Batch = TypeVar("Batch")


class Epoch:
    """One epoch of a run: its values become one event when it ends."""

    def __init__(self, run: Run, index: int, item: object) -> None:
        self.index, self.item = index, item
        self._run = run
        self._values: dict[str, Logged] = {}
        self._first = run.logged
        self._scope: Scope | None = None

    def log(self, values: Mapping[str, Logged] | None = None, /, **more: Logged) -> None:
        """Keep values of the whole epoch (`val_loss`, `val_accuracy`, ...): one event, when the epoch ends.

        Logged again, a value replaces the former one.
        """
        with shielded("log an epoch"):
            merged = {**(values or {}), **more}
            self._values.update(merged)
            if self._run.journal is not None:
                self._run.journal.gauge(merged)

    def batches(self, loader: Iterable[Batch]) -> Batches[Batch]:
        """Iterate over a loader; the time spent waiting for data is measured, rows and steps are counted."""
        return Batches(self._run, loader)

    def evaluate(self, split: str = "validation") -> AbstractContextManager[None]:
        """Time an evaluation within the epoch."""
        return self._run.evaluate(split)

    def checkpoint(self) -> AbstractContextManager[None]:
        """Time the writing of a checkpoint within the epoch."""
        return self._run.checkpoint()

    def begin(self) -> None:
        """Open the epoch's span and make it current."""
        run = self._run
        if run.state is None:
            return
        facts: Attributes = {names.OPERATION: names.EPOCH_SPAN, names.MODEL: run.model}
        if run.version is not None:
            facts[names.VERSION] = run.version
        self._scope = run.state.scope(f"{names.EPOCH_SPAN} {run.model}", facts)
        self._scope.set(names.RUN_ID, run.id)
        self._scope.set(names.EPOCH, self.index)

    def end(self, error: BaseException | None = None, outcome: str = names.SUCCESS) -> None:
        """Close the epoch's span and emit its event."""
        run, scope = self._run, self._scope
        run.opened(None)
        if scope is None or run.journal is None:
            return
        seconds = scope.end(error, outcome)
        run.journal.epoch(self.index, seconds, run.logged - self._first, self._values, outcome)
        run.journal.account(run.elapsed())

    def __repr__(self) -> str:
        return f"Epoch(index={self.index})"


class Epochs(Iterator[Epoch]):
    """Attaches an epoch in `__next__` and ends it in the next one; what is left open, the run ends."""

    def __init__(self, run: Run, items: Iterable[object], start: int) -> None:
        self._run, self._items, self._index = run, iter(items), start
        self._open: Epoch | None = None

    def __next__(self) -> Epoch:
        former, self._open = self._open, None
        if former is not None and self._run.open_epoch is former:
            with shielded("end an epoch"):
                former.end()
        item = next(self._items)
        if self._run.open_epoch is not None:
            # Another loop was left by `break`: its epoch lasted until this one.
            with shielded("end an epoch"):
                self._run.open_epoch.end()
        epoch = Epoch(self._run, self._index, item)
        self._index += 1
        self._open = epoch
        with shielded("begin an epoch"):
            self._run.opened(epoch)
            epoch.begin()
        return epoch


class Batches(Iterator[Batch], Generic[Batch]):
    """Times the wait for each batch, and what is done with it until the next is asked for."""

    def __init__(self, run: Run, loader: Iterable[Batch]) -> None:
        self._run, self._loader = run, iter(loader)
        self._handed = 0

    def __next__(self) -> Batch:
        asked = perf_counter_ns()
        journal = self._run.journal
        if self._handed and journal is not None:
            journal.stepped(asked - self._handed)
        self._handed = 0
        try:
            batch = next(self._loader)
        except BaseException:
            self._run.batching(False)
            raise
        handed = perf_counter_ns()
        if journal is not None:
            with shielded("measure a batch"):
                journal.spent(names.DATA_LOADING, (handed - asked) / 1e9)
                journal.samples(samples(batch))
            self._run.batching(True)
        self._handed = perf_counter_ns()
        return batch


def samples(batch: object) -> int:
    """Return the rows of a training batch: of its first member where it is a pair such as (features, targets)."""
    kind = type(batch)
    if (kind is tuple or kind is list) and batch:
        first = cast("Sequence[object]", batch)[0]
        # A list of lists holds rows, a list of arrays is a pair. By identity: a metaclass may define `__eq__`.
        rowlike = (int, float, bool, str) if kind is tuple else (int, float, bool, str, list, tuple, dict)
        if not any(type(first) is plain for plain in rowlike):
            return rows(first)
    if kind is dict and batch:
        return rows(next(iter(cast("dict[object, object]", batch).values())))
    return rows(batch)
