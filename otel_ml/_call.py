"""One observed call, as its code sees it: what went in and came out, labels, stages, and the id that labels join on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from os import urandom
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from otel_ml import _catalog as names
from otel_ml._arguments import OWN
from otel_ml._rows import rows
from otel_ml._shield import failed, shielded
from otel_ml._values import as_name, clean, describe, isinstance_by_type, number, package_of

if TYPE_CHECKING:
    from datetime import date, datetime

    from otel_ml._observe import Path
    from otel_ml._site import Label
    from otel_ml._span import Frame

    When = str | date | datetime | float | int

Attribute = str | bool | int | float | bytes | Sequence["Attribute"] | None


class Call:
    """The call around the code that asks for it: `otel_ml.current()`, or what a `with otel_ml.predict(...)` gives.

    Every method may be used at any time, configured or not, and none of them raises.
    """

    # Defaults live on the class: most calls need none of them, and a `with` block makes a Call each time.
    _id: str | None = None
    _ids: list[str] | None = None
    _at: str | None = None
    _result: object = None
    _outcome: str | None = None
    _remember = False
    # What `label` added, in the form the series are keyed by; None as long as there is nothing.
    labels: tuple[tuple[str, Label], ...] | None = None
    # Whether closing the call has to look at it.
    loud = False
    # What a `with` block was given to read the outcome with: often a new lambda each time, so it is not the site's.
    output: Callable[..., object] | None = None
    noted: Mapping[str, object] = MappingProxyType({})

    def __init__(self, path: Path | None, frame: Frame | None) -> None:
        self._path, self._frame = path, frame
        self._recorded = path is not None and type(frame) is path.span_class

    @property
    def id(self) -> str:
        """Joins this prediction to its label later. Made when first read, unless it was set or named by `id=`.

        Reading or setting it is what asks for this prediction's outcome to be remembered; it may be read after the
        block has ended.
        """
        if self._id is None:
            self._id = urandom(16).hex()
            self._asked()
        return self._id

    @id.setter
    def id(self, value: str | int) -> None:
        self._id = text(value)
        self._asked()

    def ids(self, values: Iterable[str | int]) -> list[str]:
        """Give one id to each row of the batch, and have each row's outcome remembered; return them as text."""
        made: list[str] = []
        with shielded("read ids"):
            made.extend(text(value) for value in values)
        self._ids = made
        self._asked()
        return made

    @property
    def at(self) -> str | None:
        """The prediction's own time (ISO 8601), where it was given; windows go by it, never by the clock of a replay."""
        return self._at

    @at.setter
    def at(self, value: When) -> None:
        with shielded("read a time"):
            self._at = moment(value)
            self._on_span(names.PREDICTION_TIME, self._at)

    def inputs(self, batch: object) -> None:
        """Say what goes in: its rows are counted, its class, shape and dtype noted on the span; never its content."""
        with shielded("read inputs"):
            if self._frame is not None:
                self._frame.rows = count = rows(batch)
                self._on_span(names.BATCH_SIZE, count)
                if self._path is not None and self._path.look is not None:
                    self._path.look.inputs(self._frame, batch)
            self._shape(batch, names.INPUT_TYPE, names.INPUT_SHAPE, names.INPUT_DTYPE)

    def outputs(self, result: object) -> None:
        """Say what came out; remembered if an id is read or set, and otherwise only its class, shape and dtype noted."""
        with shielded("read outputs"):
            self._result = result
            self._shape(result, names.OUTPUT_TYPE, names.OUTPUT_SHAPE, names.OUTPUT_DTYPE)
            if self._outcome is not None:
                # The block has ended: what was asked for is remembered now.
                self._keep(result)

    def set(self, **attributes: Attribute) -> None:
        """Put attributes on the span only: any number of values, for looking at single calls."""
        try:
            put = self._frame.set_attribute if self._recorded else self._on_span  # type: ignore[union-attr]  # a span
            for key, value in attributes.items():
                put(key, value)
        except Exception:
            failed("set attributes")

    def label(self, **labels: Label) -> None:
        """Put labels on the span and on this call's metrics: few values each, since every set is a series.

        What a call says of itself, such as `ml.model.name`, is left as it is.
        """
        with shielded("set labels"):
            path = self._path
            if path is None:
                return
            kept = {key: clean(value, 256) for key, value in labels.items() if key and key not in OWN}
            self.loud = True
            known = dict(self.labels if self.labels is not None else path.labels)
            known.update({k: v for k, v in kept.items() if isinstance(v, str | bool | int | float)})
            self.labels = tuple(sorted(known.items()))
            for key, value in kept.items():
                self._on_span(key, value)

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        """Time a part of the call (`queue`, `preprocess`, `inference`, `postprocess`, ...): a child span and a metric."""
        stage = None
        with shielded("begin a stage"):
            if self._path is not None and self._frame is not None:
                stage = self._path.stage(self._frame, as_name(name))
        if stage is None:
            yield
            return
        try:
            yield
        except BaseException as error:
            stage.end(error)
            raise
        stage.end(None)

    # ------------------------------------------------------------------------------------------- for the path
    @property
    def result(self) -> object:
        """What came out, as far as it is known."""
        return self._result

    def arguments(self, id: object, at: object) -> None:
        """Note an id and a time read from the arguments."""
        if id is not None:
            if isinstance_by_type(type(id), str) or isinstance_by_type(type(id), int):
                self.id = id  # type: ignore[assignment]  # a str or int
            else:
                self.ids(items(id))  # type: ignore[arg-type]  # text() takes whatever an id may be
        if at is not None:
            self.at = at  # type: ignore[assignment]  # moment() refuses what is no time

    def ended(self, result: object) -> None:
        """Called instead of `ending` when nothing was asked of the call."""
        self._outcome, self._result = names.SUCCESS, result if self._result is None else self._result

    def ending(self, result: object, outcome: str) -> None:
        """Called once, when the call ends: remember what was asked for."""
        self._outcome = outcome
        if outcome not in (names.SUCCESS, names.PARTIAL):
            return
        if self._result is None:
            self._result = result
        if self._remember or self.output is not None or (self._path is not None and self._path.site.output is not None):
            # Reading a result that cannot be read must not cost the call itself.
            with shielded("remember a prediction"):
                self._keep(self._result)

    def _asked(self) -> None:
        with shielded("remember a prediction"):
            self._remember = self.loud = True
            if self._id is not None:
                self._on_span(names.PREDICTION_ID, self._id)
            if self._outcome is not None:
                self._keep(self._result)

    def _keep(self, result: object) -> None:
        path, frame = self._path, self._frame
        if path is None or frame is None:
            return
        output = self.output if self.output is not None else path.site.output
        if output is not None:
            result = output(result)
            if self._ids is None:
                self._show(outcome_of(result))
        context = getattr(frame, "get_span_context", lambda: None)()
        if self._ids is not None:
            outcomes = items(result)
            for one, outcome in zip(self._ids, outcomes, strict=False):
                path.state.remember(path.site, one, outcome_of(outcome), self._at, context)
        elif self._id is not None:
            path.state.remember(path.site, self._id, outcome_of(result), self._at, context)

    def _show(self, value: str | bool | int | float | None) -> None:
        """Put the outcome that `output=` asked for on the span, with an id if the call has none: a class or number."""
        if value is None:
            return
        if self._id is None:
            self._id = urandom(16).hex()
            self._on_span(names.PREDICTION_ID, self._id)
        if type(value) is float:
            self._on_span(names.PREDICTED_VALUE, value)
        else:
            self._on_span(names.CLASS_NAME, str(value))

    def _on_span(self, key: str, value: object) -> None:
        frame = self._frame
        if frame is None:
            return
        if not self._recorded:
            # Kept for the span that a slow or failing unsampled call gets afterwards.
            self.noted = {**self.noted, key: clean(value, 1024)}
            return
        frame.set_attribute(key, value)  # type: ignore[union-attr,arg-type]  # a span, which cleans what it is given

    def _shape(self, value: object, kind: str, shape: str, dtype: str) -> None:
        self._on_span(kind, describe(value).strip("<>").partition(" ")[0])
        if package_of(type(value)) in _SHAPED:
            if hasattr(value, "shape"):
                self._on_span(shape, tuple(int(n) for n in cast("Any", value).shape))
            if hasattr(value, "dtype"):
                self._on_span(dtype, str(cast("Any", value).dtype))

    def __repr__(self) -> str:
        model = self._path.site.model if self._path is not None else None
        return f"Call(model={model!r})"


# Ids may have more than 64 bits; above 4,300 digits Python refuses to write a number.
_LONGEST_ID = 10**256
_SHAPED = frozenset({"numpy", "torch", "tensorflow", "jax", "jaxlib", "cupy", "pandas", "polars", "scipy"})


def outcome_of(value: object) -> str | bool | int | float | None:
    """Return a class or a number as it is remembered; None for what is neither."""
    kind = type(value)
    if kind is list or kind is tuple:
        members = cast("Sequence[object]", value)
        value = members[0] if len(members) == 1 else value
    # numpy's strings are subclasses of str; what is neither text nor number is neither a class nor a value.
    if isinstance_by_type(type(value), str):
        return as_name(value)
    return number(value)


def items(values: object) -> list[object]:
    """Return the members of a batch of ids or outcomes: a list, tuple, array, series or tensor; else the one value."""
    for base in (list, tuple):
        if isinstance_by_type(type(values), base):
            # Through the base's own method: a subclass may have overridden `__iter__`.
            return list(base.__iter__(values))  # type: ignore[arg-type]  # its class derives from base
    if package_of(type(values)) in _SHAPED and hasattr(values, "tolist"):
        listed: object = cast("Any", values).tolist()
        return cast("list[object]", listed) if isinstance(listed, list) else [listed]
    return [values]


def text(value: object) -> str:
    """Return an id as text; ids are strings or whole numbers."""
    if type(value) is int and abs(value) < _LONGEST_ID:
        return str(value)
    found = clean(value, 256)
    return found if isinstance(found, str) else str(found)[:256]


def moment(value: object) -> str:
    """Return a time as ISO 8601: from text, a date, a datetime, a numpy or pandas time, or seconds since 1970 (UTC)."""
    from datetime import UTC, date, datetime

    if isinstance_by_type(type(value), str):
        return as_name(value)[:64]
    if isinstance_by_type(type(value), date):
        return as_name(value.isoformat())[:64]  # type: ignore[attr-defined]  # a date or datetime
    seconds = number(value)
    if seconds is not None:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat()
    if package_of(type(value)) == "numpy":
        return str(value)
    raise TypeError("not a time")
