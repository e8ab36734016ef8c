"""What checks are shown, and how: values of what happened, in order, by one thread at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt

    from otel_ml.checks._said import Said


@dataclass(frozen=True)
class Rows:
    """Rows that a model predicted from: a column for each feature, all of one length; `at` is when, in seconds since 1970.

    `predicted` and `score` are what came out, where it is known. Columns are copies: nobody changes them any more.
    `matrix` has the same columns in their order, one row for each row, where all of them are numbers of one kind.
    """

    columns: Mapping[str, npt.NDArray[object]]  # type: ignore[type-var]  # of whatever dtype
    count: int
    at: float
    predicted: npt.NDArray[object] | None = None  # type: ignore[type-var]  # likewise
    score: npt.NDArray[object] | None = None  # type: ignore[type-var]  # likewise
    matrix: npt.NDArray[object] | None = None  # type: ignore[type-var]  # likewise


@dataclass(frozen=True)
class Labels:
    """What really happened, beside what was predicted: lists of one length. `at` is when each prediction was made.

    `segment` says for each which segment or group it belongs to, by the name of what divides them.
    """

    actual: list[str | int | float | bool | None]
    predicted: list[str | int | float | bool | None]
    score: list[float | None]
    at: list[float]
    segment: Mapping[str, list[str | None]] = field(default_factory=lambda: MappingProxyType({}))


class Watch(Protocol):
    """One check at work for one model and version."""

    def rows(self, rows: Rows) -> Iterable[Said]:
        """Take rows that were predicted."""
        ...

    def labels(self, labels: Labels) -> Iterable[Said]:
        """Take labels that have come."""
        ...

    def passed(self, now: float) -> Iterable[Said]:
        """Take note of the time, in seconds since 1970: windows that are over are closed."""
        ...


@dataclass(frozen=True)
class Step:
    """One `run.log`: its number in the run, its epoch, seconds since the run began, and the finite and other values."""

    index: int
    epoch: int | None
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class EpochEnd:
    """One epoch that has ended: its number, seconds since the run began, how long it took, and what was logged of it.

    `values` holds what was given to `epoch.log` (`val_loss`, `val_accuracy`, `train_accuracy`, ...) and, under `loss`, the
    mean of the steps' losses where the epoch itself logged none. `phases` are its seconds by phase (`data_loading`, ...).
    """

    index: int
    seconds: float
    duration: float
    values: Mapping[str, float]
    phases: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


class TrainingWatch(Protocol):
    """One check at work for one training run."""

    def step(self, step: Step) -> Iterable[Said]:
        """Take a step."""
        ...

    def epoch(self, epoch: EpochEnd) -> Iterable[Said]:
        """Take an epoch that has ended."""
        ...

    def passed(self, seconds: float) -> Iterable[Said]:
        """Take note that so many seconds have gone by since the run began, perhaps without a step."""
        ...

    def ended(self, seconds: float) -> Iterable[Said]:
        """Take note that the run is over: what needs no more steps is decided now."""
        ...
