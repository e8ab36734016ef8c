"""One training run, as its code sees it: every step logged, epochs, the time spent waiting for data."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import urandom
from time import perf_counter_ns
from typing import TYPE_CHECKING, TypeVar

from otel_ml import _catalog as names
from otel_ml._current import CURRENT
from otel_ml._epochs import Batches, Epoch, Epochs
from otel_ml._journal import Journal
from otel_ml._shield import failed, shielded
from otel_ml._values import as_name, clean, isinstance_by_type, number

if TYPE_CHECKING:
    from otel_ml._buckets import Attributes
    from otel_ml._journal import Logged
    from otel_ml._scope import Scope
    from otel_ml._site import Label
    from otel_ml._state import State
    from otel_ml._values import Value

Batch = TypeVar("Batch")


class Run:
    """A training run: what a `with otel_ml.train(...)` block gives, or `otel_ml.current()` inside a decorated one.

    Every method may be used at any time, configured or not, and none of them raises.
    """

    def __init__(
        self, model: str, version: str | None, params: Mapping[str, object], labels: Mapping[str, Label]
    ) -> None:
        self.model, self.version = model, version
        self.id = urandom(16).hex()
        self._params, self._labels = params, labels
        self._state: State | None = None
        self._scope: Scope | None = None
        self._journal: Journal | None = None
        self._open: Epoch | None = None
        self._steps = itertools.count()
        self._logged = 0
        self._epochs = 0
        self._last = 0
        self._batching = False

    def log(self, values: Mapping[str, Logged] | None = None, /, *, step: int | None = None, **more: Logged) -> None:
        """Keep one step: an event with these values, while the run goes on; every one kept, or counted as dropped.

        Values are numbers, numpy scalars, 0-d tensors, strings or booleans; NaN and infinities are kept and counted.
        A tensor on a device is cloned and read by a worker, so that the device is not waited for. `loss`, `val_loss`,
        `learning_rate` (`lr`), `gradient_norm`, `accuracy`, `precision`, `recall` and `f1` (also `val_...`) set the
        gauge of that name too.

        >>> import otel_ml
        >>> with otel_ml.train("churn") as run:
        ...     run.log(loss=0.3, learning_rate=1e-3)
        """
        try:
            if CURRENT.state is not self._state:
                self._follow()
            journal = self._journal
            if journal is None:
                return
            if values is not None:
                # First of all: what is no mapping is no step.
                more = {**values, **more}
            number = next(self._steps) if step is None else step
            now = perf_counter_ns()
            took = now - self._last if self._last and not self._batching else 0
            self._last = now
            journal.step(number, self._open.index if self._open is not None else None, more, took)
            self._logged += 1
        except Exception:
            failed("log a step")

    def epochs(self, count: int | Iterable[object], *, start: int | None = None) -> Iterator[Epoch]:
        """Iterate over epochs: a number of them, or an iterable that yields one item an epoch.

        Each is a span, current in the loop's body; leaving the loop early ends it with the run.
        """
        items = range(count) if isinstance_by_type(type(count), int) else count  # type: ignore[arg-type]  # an int
        first = number(start)
        return Epochs(self, items, first if type(first) is int else self._epochs)  # type: ignore[arg-type]  # an iterable

    def batches(self, loader: Iterable[Batch]) -> Batches[Batch]:
        """Iterate over a loader outside an epoch; the time spent waiting for data is measured."""
        return Batches(self, loader)

    @contextmanager
    def evaluate(self, split: str = "validation") -> Generator[None, None, None]:
        """Time an evaluation: a span `evaluate {model}` and the phase `evaluation`."""
        with self._part(names.EVALUATE, names.EVALUATION, {names.SPLIT: as_name(split)}):
            yield

    @contextmanager
    def checkpoint(self) -> Generator[None, None, None]:
        """Time the writing of a checkpoint: a span `checkpoint {model}`, a duration and the phase `checkpoint`."""
        began = perf_counter_ns()
        with self._part(names.CHECKPOINT, names.CHECKPOINT_PHASE, {}):
            yield
        with shielded("time a checkpoint"):
            if self._state is not None:
                seconds = (perf_counter_ns() - began) / 1e9
                self._state.measure(names.TRAINING_CHECKPOINT_DURATION, self.model, self.version, seconds)

    def set(self, **attributes: Logged) -> None:
        """Put attributes on the run's span."""
        with shielded("set attributes"):
            if self._scope is not None:
                for key, value in attributes.items():
                    self._scope.set(key, clean(value))

    # ------------------------------------------------------------------------------------------- begin and end
    def begin(self, state: State) -> None:
        """Open the run under a state. Called once, by `train`."""
        self._state = state
        self._scope = scope = state.scope(f"{names.TRAIN} {self.model}", self._facts(names.TRAIN), self)
        scope.set(names.RUN_ID, self.id)
        params: dict[str, Value] = {}
        # A mapping of the user's own making may fail, or hold what is no name; that must not cost the run.
        with shielded("read params"):
            for key, value in self._params.items():
                params[names.HYPERPARAMETER + str(clean(key, 128))] = clean(value, 1024)
        for key, value in {**params, **self._labels}.items():
            scope.set(key, value)
        self._journal = Journal(state, self.model, self.version, self.id, scope.context)
        self._journal.event(names.TRAINING_STARTED, params)

    def attach(self) -> None:
        """Make the run current again (a decorated generator goes on)."""
        if self._scope is not None:
            self._scope.attach()

    def detach(self) -> None:
        """Make current what was before."""
        if self._scope is not None:
            self._scope.pause()

    def finish(self, error: BaseException | None, outcome: str) -> None:
        """End the run, and the epoch that is still open."""
        with shielded("end a run"):
            if self._open is not None:
                self._open.end(error, outcome)
            state, scope, journal = self._state, self._scope, self._journal
            if state is None or scope is None or journal is None:
                return
            seconds = scope.end(error, outcome)
            journal.account(seconds, last=True)
            journal.ended(seconds, error if outcome == names.ERROR else None)
            journal.event(
                names.TRAINING_COMPLETED,
                {
                    names.RUN_OUTCOME: outcome,
                    names.RUN_SECONDS: seconds,
                    names.EPOCHS: self._epochs,
                    names.STEPS: self._logged,
                },
            )

    # ------------------------------------------------------------------------------------------- for epochs
    @property
    def journal(self) -> Journal | None:
        """Where the run's numbers go; None when nothing is observed."""
        return self._journal

    @property
    def state(self) -> State | None:
        """The state the run was begun under."""
        return self._state

    @property
    def began(self) -> int:
        """When the run began, on the monotonic clock in nanoseconds; 0 when nothing is observed."""
        return self._scope.began if self._scope is not None else 0

    @property
    def logged(self) -> int:
        """How many steps have been logged."""
        return self._logged

    def opened(self, epoch: Epoch | None) -> None:
        """Note which epoch is open."""
        if epoch is not None:
            self._epochs = epoch.index + 1
        self._open = epoch

    @property
    def open_epoch(self) -> Epoch | None:
        """The epoch that is open."""
        return self._open

    def batching(self, on: bool) -> None:
        """Note that steps are timed by the loader, not from log to log."""
        self._batching = on

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return (perf_counter_ns() - self._scope.began) / 1e9 if self._scope is not None else 0.0

    @contextmanager
    def _part(self, operation: str, phase: str, facts: dict[str, str]) -> Generator[None, None, None]:
        state, journal, scope = self._state, self._journal, None
        with shielded("begin a part of a run"):
            if state is not None:
                scope = state.scope(f"{operation} {self.model}", {**self._facts(operation), **facts})
                scope.set(names.RUN_ID, self.id)
        if journal is None or scope is None:
            yield
            return
        before = journal.begin_part()
        try:
            yield
        except BaseException as error:
            outcome = state.outcome_of(error) if state is not None else names.ERROR
            journal.end_part(phase, scope.end(error, outcome), before)
            raise
        journal.end_part(phase, scope.end(None, names.SUCCESS), before)

    def _facts(self, operation: str) -> Attributes:
        facts: Attributes = {names.OPERATION: operation, names.MODEL: self.model}
        if self.version is not None:
            facts[names.VERSION] = self.version
        return facts

    def _follow(self) -> None:
        # A forked child, or a program configured anew in mid-run: later steps follow the state that is current.
        state = CURRENT.live()
        if self._state is None or state is None or state is self._state:
            return
        if self._journal is not None:
            self._journal = Journal(state, self.model, self.version, self.id, self._journal.context)
        self._state = state

    def __repr__(self) -> str:
        return f"Run(model={self.model!r}, id={self.id!r})"
