"""How many samples a batch holds, told from its type and shape alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otel_ml._values import package_of, simple_name

if TYPE_CHECKING:
    from typing import Protocol

    class _Array(Protocol):
        """What arrays, tensors and sparse matrices of the known packages have."""

        shape: tuple[int, ...]
        dtype: object


type_of = type


def rows(batch: object) -> int:
    """Return the number of samples in `batch`; 1 for whatever is not known to hold several.

    Two-dimensional arrays, tensors and sparse matrices, data frames and tables hold one sample a row. A list or tuple
    holds one a member, unless its members are numbers: then it is one feature vector, as is a one-dimensional array of
    numbers. Strings, mappings and other objects are one sample. No method of an unknown class is called.

    >>> rows([[1.0, 2.0], [3.0, 4.0]]), rows([1.0, 2.0]), rows(["a", "b", "c"]), rows("text"), rows({"age": 41})
    (2, 1, 3, 1, 1)
    """
    try:
        return COUNTERS[id(type_of(batch))](batch)
    except Exception:
        return _first_of_its_kind(batch)


def _first_of_its_kind(batch: object) -> int:
    kind = type_of(batch)
    # By identity, not by hash: a metaclass may define `__hash__` and `__eq__`.
    if id(kind) in COUNTERS:
        return 1
    count = _BY_CLASS.get((package_of(kind), simple_name(kind))) or _BY_PACKAGE.get(package_of(kind), one)
    if len(_KEPT) < _MAX_KINDS:
        # Kept, because the id of a class that is gone may be given to another one.
        _KEPT.append(kind)
        COUNTERS[id(kind)] = count
    try:
        return count(batch)
    except Exception:
        return 1


def one(_: object) -> int:
    return 1


def _members(batch: list[object] | tuple[object, ...]) -> int:
    if not batch:
        return 0
    kind = type_of(batch[0])
    if id(kind) in _NUMBERS:
        return 1
    if id(kind) not in _NO_NUMBERS and package_of(kind) == "numpy" and simple_name(kind).startswith(_NUMPY_NUMBERS):
        return 1
    return len(batch)


def _array(batch: _Array) -> int:
    shape = batch.shape
    if len(shape) >= 2:
        return int(shape[0])
    return 1 if len(shape) == 0 or _holds_numbers(batch.dtype) else int(shape[0])


def _holds_numbers(dtype: object) -> bool:
    # numpy's dtype has a one-letter kind; the dtypes of other array packages hold nothing but numbers.
    return getattr(dtype, "kind", "f") in "biufc"


def _frame(batch: object) -> int:
    # pandas; its `.shape` costs four times as much.
    return len(batch.index)  # type: ignore[attr-defined]  # only called for data frames


def _column(batch: _Array) -> int:
    return 1 if _holds_numbers(batch.dtype) else _frame(batch)


def _height(batch: object) -> int:
    return int(batch.height)  # type: ignore[attr-defined]  # only called for polars


def _num_rows(batch: object) -> int:
    return int(batch.num_rows)  # type: ignore[attr-defined]  # only called for pyarrow


_NUMBERS = frozenset(map(id, (int, float, bool, complex)))
_NO_NUMBERS = frozenset(map(id, (str, bytes, list, tuple, dict, type(None))))
_NUMPY_NUMBERS = ("float", "int", "uint", "bool", "complex", "longdouble", "clongdouble", "longlong", "ulonglong")
_MAX_KINDS = 256
_KEPT: list[type] = [list, tuple]
COUNTERS: dict[int, Callable[..., int]] = {id(list): _members, id(tuple): _members}
_BY_CLASS: dict[tuple[str, str], Callable[..., int]] = {
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _column,
    ("numpy", "ndarray"): _array,
    ("numpy", "matrix"): _array,
    ("numpy", "memmap"): _array,
    ("numpy", "recarray"): _array,
    ("numpy", "MaskedArray"): _array,
    ("polars", "DataFrame"): _height,
    ("pyarrow", "Table"): _num_rows,
    ("pyarrow", "RecordBatch"): _num_rows,
}
_BY_PACKAGE: dict[str, Callable[..., int]] = {
    "scipy": _array,
    "torch": _array,
    "tensorflow": _array,
    "jax": _array,
    "jaxlib": _array,
    "cupy": _array,
}
