"""`predict`: watch a call of the model, as a decorator or as a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast, overload

from otel_ml import _catalog as names
from otel_ml._arguments import checked, decorable, defaults, name_of, parameters
from otel_ml._call import Call
from otel_ml._current import CURRENT
from otel_ml._runs import Run
from otel_ml._settings import disabled
from otel_ml._site import Idle, Label, Output, Part, Site
from otel_ml._unobserved import unobserved
from otel_ml._wrap import wrap
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_ml._observe import Path
    from otel_ml._span import Frame

F = TypeVar("F", bound="Callable[..., object] | staticmethod[..., object] | classmethod[object, ..., object]")

MAX_SITES = 2_000


@overload
def predict(model: F, /) -> F: ...
@overload
def predict(
    model: str | None = None,
    /,
    *,
    version: str | None = None,
    id: Part | None = None,
    output: Output | None = None,
    at: Part | None = None,
    labels: Mapping[str, Label] | None = None,
    spans: bool = True,
) -> Predict: ...
@overload
def predict(
    *,
    model: str,
    version: str | None = None,
    id: Part | None = None,
    output: Output | None = None,
    at: Part | None = None,
    labels: Mapping[str, Label] | None = None,
    spans: bool = True,
) -> Predict: ...
def predict(
    model: F | str | None = None,
    *,
    version: str | None = None,
    id: Part | None = None,
    output: Output | None = None,
    at: Part | None = None,
    labels: Mapping[str, Label] | None = None,
    spans: bool = True,
) -> F | Predict:
    """Watch a call of the model: a span, its duration, rows and errors.

    Decorates functions, methods, coroutines, generators and async generators, whose type it keeps; or makes a `with`
    block that gives a `Call`. Where telemetry goes is said by `configure()`, before or after.

    Args:
        model: The model's name; for a bare `@otel_ml.predict`, the function's.
        version: The model's version.
        id: The argument that identifies the prediction, or a function of the arguments; labels join on it.
        output: Says which class, score or value of the result to remember for its label.
        at: The argument (or a function of the arguments) that holds the prediction's own time.
        labels: Put on the span and on the metrics; few values.
        spans: False: metrics only.

    Raises:
        ConfigurationError: An argument cannot be used; while decorating, never later.

    >>> @predict
    ... def classify(text):
    ...     return "spam" if "win" in text else "ham"
    >>> classify("win a car")
    'spam'
    >>> with predict("churn", version="3.2") as call:
    ...     call.inputs([[1.0, 2.0], [3.0, 4.0]])
    """
    if model is not None and not isinstance(model, str):
        if not callable(model) and not isinstance(model, staticmethod | classmethod):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may pass anything
            raise ConfigurationError(
                f'predict was given {type(model).__name__!r}. Write @otel_ml.predict or @otel_ml.predict(model="churn").'
            )
        return Predict(None, None, None, None, None, None, True)(model)
    site = known_site(model, version, output, labels, spans) if id is None and at is None else None
    if site is None:
        checked(model, version, id, output, at, labels, spans)
    return Predict(model, version, id, output, at, labels, spans, site)


class Predict:
    """What `predict(...)` gives: a decorator, and a `with` block that gives a `Call`."""

    __slots__ = ("_entered", "_options", "_site")

    def __init__(
        self,
        model: str | None,
        version: str | None,
        id: Part | None,
        output: Output | None,
        at: Part | None,
        labels: Mapping[str, Label] | None,
        spans: bool,
        site: Site | None = None,
    ) -> None:
        self._options, self._site = (model, version, id, output, at, labels, spans), site
        self._entered: list[tuple[Path, Frame] | None] = []

    def __call__(self, function: F) -> F:
        """Decorate a function, method or other callable."""
        if isinstance(function, staticmethod | classmethod):
            method = cast("staticmethod[..., object]", function)  # both hold a function
            return cast("F", type(method)(self(method.__func__)))
        decorable(function, names.PREDICT)
        if disabled():
            return function
        model, version, id, output, at, labels, spans = self._options
        positions, skip = parameters(function)
        for name, part in (("id", id), ("at", at)):
            if isinstance(part, str) and part not in positions and "**" not in positions:
                raise ConfigurationError(
                    f"{name}={part!r} names no argument of {name_of(function)}. "
                    f"Use one of {', '.join(positions) or 'its arguments'}, or a function of the arguments."
                )
        site = Site(
            model or name_of(function), version, names.PREDICT, dict(labels or {}), spans, called,
            id=id, output=output, at=at, skip=skip, positions=positions, defaults=defaults(function, id, at),
        )  # fmt: skip
        return cast("F", wrap(function, site))

    def __enter__(self) -> Call:
        model, version, id, output, at, labels, spans = self._options
        site = self._site if self._site is not None else block_site(model, version, id, at, labels, spans)
        path = site.path
        if path.state is not CURRENT.state or path.idle == 1:
            path = site.follow()
        frame = path.open((), {})
        if isinstance(path, Idle) or frame is None:
            self._entered.append(None)
            return Call(None, None)
        self._entered.append((path, frame))
        call = frame.call = Call(path, frame)
        if output is not None:
            call.output, call.loud = output, True
        return call

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._leave()
        if entered is None:
            return
        path, frame = entered
        if error is None:
            path.finish(frame, None)
        else:
            path.fail(frame, error)

    def _leave(self) -> tuple[Path, Frame] | None:
        entered = self._entered
        if len(entered) > 1:
            # One object in several `with` blocks at once (threads, tasks): the current one tells which is ending.
            state = CURRENT.state
            frame = state.current_frame() if state is not None else None
            for index, one in enumerate(entered):
                if one is not None and one[1] is frame:
                    return entered.pop(index)
        return entered.pop() if entered else None


def called(path: Path, frame: Frame) -> Call:
    """Make the `Call` of a frame that has none yet."""
    call = frame.call
    if call is None:
        call = frame.call = Call(path, frame)
    return call


@overload
def current() -> Call | Run: ...
@overload
def current(kind: type[Call], /) -> Call: ...
@overload
def current(kind: type[Run], /) -> Run: ...
def current(kind: type[Call] | type[Run] | None = None, /) -> Call | Run:
    """Return the `Call` or `Run` around this line, also inside a decorated function.

    Where nothing is observed, what it returns takes everything a call or a run takes, and does nothing: code that uses
    it works whether or not telemetry is configured. Type checkers know which of the two it is when it is named:
    `current(otel_ml.Run).log(loss=0.3)`.

    >>> current().label(variant="a")
    """
    state = CURRENT.state
    found = state.current_frame() if state is not None else None
    if isinstance(found, Run):
        return found if kind is not Call else Call(None, None)
    if found is None or kind is Run:
        return unobserved(kind)
    frame = cast("Frame", found)
    return called(frame.path, frame)


_sites: dict[tuple[object, ...], Site] = {}


def block_site(
    model: str | None, version: str | None, id: object, at: object, labels: Mapping[str, Label] | None, spans: bool
) -> Site:
    """Make the site of a `with` block: one for all blocks of a model, version and labels; after 2,000 one for the rest."""
    if model is None:
        raise ConfigurationError('A with block needs the model\'s name. Write with otel_ml.predict("churn") as call:')
    if id is not None or at is not None:
        raise ConfigurationError(
            "id= and at= read a decorated function's arguments. In a with block, set call.id and call.at."
        )
    if len(_sites) >= MAX_SITES:
        # Their models and span classes are shared from here on too: a site each would only take memory.
        model, version, labels = names.OTHER, None, None
    site = Site(model, version, names.PREDICT, dict(labels or {}), spans, called)
    return _sites.setdefault(_key(model, version, labels, spans), site)


def known_site(
    model: object, version: object, output: object, labels: Mapping[str, Label] | None, spans: object
) -> Site | None:
    """Return the site of former blocks with the same options, which were checked then."""
    try:
        usable = type(spans) is bool and (output is None or callable(output))
        return _sites.get(_key(model, version, labels, spans)) if usable else None
    except Exception:  # whatever cannot be looked up is told about when it is checked
        return None


def _key(model: object, version: object, labels: Mapping[str, Label] | None, spans: object) -> tuple[object, ...]:
    return (model, version, spans, tuple(sorted(labels.items())) if labels else None)
