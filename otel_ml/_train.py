"""`train`: watch a training run, as a decorator or as a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast, overload

from otel_ml import _catalog as names
from otel_ml._arguments import checked, decorable, name_of
from otel_ml._current import CURRENT
from otel_ml._runs import Run
from otel_ml._settings import disabled
from otel_ml._shield import failed
from otel_ml._site import UNSEEN, Idle
from otel_ml._wrap import wrap
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_ml._site import Label
    from otel_ml._state import State

F = TypeVar("F", bound="Callable[..., object] | staticmethod[..., object] | classmethod[object, ..., object]")


@overload
def train(model: F, /) -> F: ...
@overload
def train(
    model: str | None = None,
    /,
    *,
    version: str | None = None,
    params: Mapping[str, object] | None = None,
    labels: Mapping[str, Label] | None = None,
) -> Train: ...
@overload
def train(
    *,
    model: str,
    version: str | None = None,
    params: Mapping[str, object] | None = None,
    labels: Mapping[str, Label] | None = None,
) -> Train: ...
def train(
    model: F | str | None = None,
    *,
    version: str | None = None,
    params: Mapping[str, object] | None = None,
    labels: Mapping[str, Label] | None = None,
) -> F | Train:
    """Watch a training run: a span, an event for every step, epochs, and where the time went.

    Decorates a function (inside it, `otel_ml.current()` is the `Run`), or makes a `with` block that gives the `Run`.

    Args:
        model: The model's name; for a bare `@otel_ml.train`, the function's.
        version: The version that this run makes.
        params: Hyperparameters, noted on the span and on the event that says the run has begun.
        labels: Put on the span; few values.

    Raises:
        ConfigurationError: An argument cannot be used; while decorating, never later.

    >>> with train("churn", version="3.3", params={"lr": 1e-3}) as run:
    ...     for epoch in run.epochs(2):
    ...         for batch in epoch.batches([[[1.0], [2.0]], [[3.0]]]):
    ...             run.log(loss=0.5)
    ...         epoch.log(val_loss=0.6)
    """
    if model is not None and not isinstance(model, str):
        if not callable(model) and not isinstance(model, staticmethod | classmethod):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may pass anything
            raise ConfigurationError(
                f'train was given {type(model).__name__!r}. Write @otel_ml.train or with otel_ml.train("churn") as run:'
            )
        return Train(None, None, {}, {})(model)
    checked(model, version, None, None, None, labels, True)
    if params is not None and not isinstance(params, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may pass anything
        raise ConfigurationError(f'params must be a mapping, not {type(params).__name__}. Write params={{"lr": 1e-3}}.')
    return Train(model, version, {} if params is None else params, labels or {})


class Train:
    """What `train(...)` gives: a decorator, and a `with` block that gives a `Run`."""

    __slots__ = ("_options", "_runs")

    def __init__(
        self, model: str | None, version: str | None, params: Mapping[str, object], labels: Mapping[str, Label]
    ) -> None:
        self._options = (model, version, params, labels)
        self._runs: list[Run] = []

    def __call__(self, function: F) -> F:
        """Decorate a function, method or other callable."""
        if isinstance(function, staticmethod | classmethod):
            method = cast("staticmethod[..., object]", function)  # both hold a function
            return cast("F", type(method)(self(method.__func__)))
        decorable(function, names.TRAIN)
        if disabled():
            return function
        model, version, params, labels = self._options
        return cast("F", wrap(function, _Site(model or name_of(function), version, params, labels)))

    def __enter__(self) -> Run:
        model, version, params, labels = self._options
        if model is None:
            raise ConfigurationError('A with block needs the model\'s name. Write with otel_ml.train("churn") as run:')
        run = Run(model, version, params, labels)
        self._runs.append(run)
        try:
            state = CURRENT.live() if CURRENT.state is not None else CURRENT.find_host()
            if state is not None:
                state.start()
                run.begin(state)
        except Exception:
            failed("begin a run")
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runs.pop().finish(error, outcome(error))


def outcome(error: BaseException | None) -> str:
    """Return `success`, `cancelled` or `error` for what ended a run."""
    state = CURRENT.live() if error is not None else None
    if error is None or state is None:
        return names.SUCCESS if error is None else names.ERROR
    return state.outcome_of(error)


class _Site:
    """The options of a decorated function, and a cache of what they come to under the current state."""

    __slots__ = ("_options", "path")

    def __init__(
        self, model: str, version: str | None, params: Mapping[str, object], labels: Mapping[str, Label]
    ) -> None:
        self._options = (model, version, params, labels)
        self.path: _Path | Idle = UNSEEN

    def follow(self) -> _Path | Idle:
        """Return how runs are observed under the current state. A run is rare: it looks around each time."""
        state = CURRENT.live() if CURRENT.state is not None else CURRENT.find_host()
        if state is None:
            self.path = Idle(self, 0)
        else:
            state.start()
            self.path = _Path(state, self._options)
        return self.path

    def __reduce__(self) -> tuple[type[_Site], tuple[object, ...]]:
        """Pickle the options without the path, which holds locks and belongs to this process."""
        return _Site, self._options


class _Path:
    """Opens and closes runs where `predict` opens and closes frames."""

    idle = 0
    __slots__ = ("_options", "state")

    def __init__(
        self, state: State, options: tuple[str, str | None, Mapping[str, object], Mapping[str, Label]]
    ) -> None:
        self.state, self._options = state, options

    def open(self, args: object, kwargs: object) -> Run | None:
        """Begin a run."""
        run = Run(*self._options)
        try:
            run.begin(self.state)
        except Exception:
            failed("begin a run")
        return run

    def enter(self, run: Run) -> None:
        """Make the run current."""
        run.attach()

    def leave(self, run: Run) -> None:
        """Make current what was before."""
        run.detach()

    def close(self, run: Run, result: object) -> None:
        """End a run that went well."""
        run.finish(None, names.SUCCESS)

    def finish(self, run: Run, result: object) -> None:
        """End a run that went well."""
        run.finish(None, names.SUCCESS)

    def settle(self, run: Run, result: object, ended_as: str = names.SUCCESS) -> None:
        """End a run whose context is restored already."""
        run.finish(None, ended_as)

    def fail(self, run: Run, error: BaseException) -> None:
        """End a run that failed or was cancelled."""
        run.finish(error, outcome(error))
