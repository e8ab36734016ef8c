"""What `predict` and `train` are given: checked while decorating, and what a function's own arguments are called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import cast

from otel_ml import _catalog as names
from otel_ml._values import isinstance_by_type
from otel_ml.errors import ConfigurationError


def checked(
    model: object, version: object, id: object, output: object, at: object, labels: object, spans: object
) -> None:
    """Raise `ConfigurationError` for what cannot be used."""
    for name, value in (("model", model), ("version", version)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ConfigurationError(f'{name}={value!r} is no name. Write for example {name}="3.2".')
    for name, value in (("id", id), ("at", at)):
        if value is not None and not isinstance(value, str) and not callable(value):
            raise ConfigurationError(
                f"{name} must be an argument's name or a function of the arguments, not {type(value).__name__}. "
                f'Write {name}="transaction_id".'
            )
    if output is not None and not callable(output):
        raise ConfigurationError(
            f'output must be a function of the result, not {type(output).__name__}. Write output=lambda r: r["label"].'
        )
    if labels is not None and not (
        isinstance(labels, Mapping)
        and all(
            type(key) is str and key.strip() and type(value) in (str, bool, int, float)
            for key, value in cast("Mapping[object, object]", labels).items()
        )
    ):
        raise ConfigurationError(
            'labels must map names to strings, numbers or booleans. Write labels={"variant": "a"}.'
        )
    taken = OWN.intersection(cast("Mapping[str, object]", labels or ()))
    if taken:
        raise ConfigurationError(
            f"labels has {min(taken)!r}, which otel_ml sets itself. "
            'Give the label a name of its own: labels={"variant": "a"}.'
        )
    if type(spans) is not bool:
        raise ConfigurationError(f"spans must be True or False, not {type(spans).__name__}. Write spans=False.")


# What calls and runs say of themselves: a label of that name would pass a call off as another model's.
OWN = frozenset(
    {
        names.OPERATION, names.MODEL, names.VERSION, names.ERROR_TYPE, names.OVERFLOW, names.BATCH_SIZE, names.OUTCOME,
        names.PREDICTION_ID, names.SAMPLING_REASON, names.RUN_ID, names.RUN_OUTCOME,
    }
)  # fmt: skip


def decorable(function: object, verb: str) -> None:
    """Raise `ConfigurationError` for what is not called, and for a class: calling it makes an object."""
    # By type: an object may say that its class is another.
    if isinstance_by_type(type(function), type):
        raise ConfigurationError(
            f"{verb} cannot decorate a class ({name_of(cast('type', function))}). "
            f"Put @otel_ml.{verb} above its method that {_DOES[verb]}."
        )
    if not callable(function):
        raise ConfigurationError(
            f"{verb} cannot decorate {type(function).__name__!r}. Put @otel_ml.{verb} above a function."
        )


_DOES = {names.PREDICT: "predicts", names.TRAIN: "trains"}

# The first argument of a method is not data.
_RECEIVERS = frozenset({"self", "cls", "mcs"})
# CPython's CO_VARKEYWORDS, as `inspect` has it.
_VARIADIC_KEYWORDS = 0x08


# Where a keyword-only argument stands among the positional ones.
_NOWHERE = 1 << 30


def parameters(function: Callable[..., object]) -> tuple[dict[str, int], int]:
    """Return a function's argument positions, and how many of the first are not data (`self`, `cls`)."""
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__
        named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        positions = {name: index if index < code.co_argcount else _NOWHERE for index, name in enumerate(named)}
        if code.co_flags & _VARIADIC_KEYWORDS:
            positions["**"] = len(named)
        return positions, int(bool(code.co_argcount) and named[0] in _RECEIVERS)
    import inspect

    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return {"**": -1}, 0
    positions = {one.name: index for index, one in enumerate(found) if one.kind is not one.KEYWORD_ONLY}
    positions.update({one.name: _NOWHERE for one in found if one.kind is one.KEYWORD_ONLY})
    if any(one.kind is one.VAR_KEYWORD for one in found):
        positions["**"] = len(found)
    skip = 1 if found and found[0].name in _RECEIVERS and inspect.isfunction(function) else 0
    return positions, skip


def defaults(function: Callable[..., object], *parts: object) -> dict[str, object]:
    """Return the values that the arguments named by `id=` and `at=` have when a call leaves them out."""
    named = [part for part in parts if isinstance(part, str)]
    found = _all_defaults(function) if named else {}
    return {name: found[name] for name in named if name in found}


def _all_defaults(function: Callable[..., object]) -> dict[str, object]:
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        values = function.__defaults__ or ()
        code = function.__code__
        last = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
        return {**dict(zip(last, values, strict=True)), **(function.__kwdefaults__ or {})}
    import inspect

    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {one.name: one.default for one in found if one.default is not one.empty}


def name_of(function: Callable[..., object]) -> str:
    """Return the name a model gets from a function, a partial or a callable object."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return str(getattr(function, "__name__", None) or type(function).__name__)
