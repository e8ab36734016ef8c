"""What a function was given, or gave back, as columns: copied in its caller, taken apart later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from otel_ml._values import package_of, simple_name
from otel_ml.checks._watch import Rows

if TYPE_CHECKING:
    import numpy.typing as npt

    Column = npt.NDArray[Any]

# Bytes that a row of Python objects is taken for.
_ROW_BYTES = 256
_PLAIN = (str, bool, int, float)


class Snapshot:
    """A copy of a batch: a matrix, columns by name, or values in a line. `rows` of it, about `nbytes` large."""

    __slots__ = ("_what", "nbytes", "rows")

    def __init__(self, what: object, rows: int, nbytes: int) -> None:
        self._what, self.rows, self.nbytes = what, rows, nbytes

    def rows_at(self, at: float) -> Rows:
        """Return it as rows that went in: a line of numbers is one row, as `otel_ml._rows` counts it."""
        columns = columns_of(self._what)
        count = min((len(one) for one in columns.values()), default=0)
        return Rows({name: one[:count] for name, one in columns.items()}, count, at)

    def values(self) -> Column | None:
        """Return it as values that came out, one for each row, or a matrix with a column for each class; None if it is neither."""
        what = self._what
        if isinstance(what, np.ndarray):
            return cast("Column", what)
        if isinstance(what, list):
            return _array(cast("list[object]", what))
        if package_of(type(what)) in ("pandas", "polars") and hasattr(what, "to_numpy"):
            return cast("Column", cast("Any", what).to_numpy())
        return None


def snapshot(batch: object) -> Snapshot | None:
    """Copy a batch, in its caller; None for what is no table, no line of values and no value."""
    kind = type(batch)
    if kind is np.ndarray:
        given = cast("Column", batch)
        # A structured array, or one of more than two dimensions, has no columns.
        return None if given.ndim > 2 or given.dtype.names else Snapshot(given.copy(), _rows(given), given.nbytes)
    if kind in _PLAIN or issubclass(kind, np.generic):
        return Snapshot([batch], 1, _ROW_BYTES)
    if kind is dict:
        return _of_mapping(cast("dict[object, object]", batch))
    if kind is list or kind is tuple:
        return _of_list(cast("Sequence[object]", batch))
    return _of_a_package(batch)


def _rows(given: Column) -> int:
    return int(given.shape[0]) if given.ndim else 1


def _of_mapping(batch: dict[object, object]) -> Snapshot | None:
    columns = {str(name): _copied(values) for name, values in batch.items()}
    rows = max((_length(one) for one in columns.values()), default=0)
    return Snapshot(columns, rows, _ROW_BYTES + 16 * rows * len(columns)) if columns else None


def _length(values: object) -> int:
    return len(cast("Sequence[object]", values)) if isinstance(values, list | np.ndarray) else 1


def _of_list(batch: Sequence[object]) -> Snapshot | None:
    if not batch:
        return None
    first = batch[0]
    if isinstance(first, dict):
        return Snapshot([dict(cast("dict[object, object]", one)) for one in batch if isinstance(one, dict)], len(batch), _ROW_BYTES * len(batch))  # fmt: skip
    if isinstance(first, list | tuple):
        return Snapshot([list(cast("Sequence[object]", one)) for one in batch if isinstance(one, list | tuple)], len(batch), _ROW_BYTES * len(batch))  # fmt: skip
    if isinstance(first, np.ndarray):
        return Snapshot([np.array(one) for one in batch], len(batch), sum(getattr(one, "nbytes", 8) for one in batch))
    return Snapshot(list(batch), len(batch), 64 * len(batch))


def _of_a_package(batch: object) -> Snapshot | None:
    package, given = package_of(type(batch)), cast("Any", batch)
    if package == "pandas" and simple_name(type(batch)) in ("DataFrame", "Series"):
        # From pandas 3 on, whoever writes into a frame copies what others hold of it.
        copy = given.copy(deep=not _copies_on_write(given))
        size = int(given.shape[0]) * (int(given.shape[1]) if len(given.shape) > 1 else 1)
        return Snapshot(copy, int(given.shape[0]), 8 * size)
    if package == "polars" and hasattr(given, "to_numpy"):
        # Its frames and series do not change.
        return Snapshot(given, len(given), int(given.estimated_size()))
    if package == "torch" and hasattr(given, "detach") and given.device.type == "cpu" and given.dim() <= 2:
        copy = given.detach().clone().numpy()
        return Snapshot(copy, _rows(copy), copy.nbytes)
    return None


_writes: dict[str, bool] = {}


def _copies_on_write(frame: Any) -> bool:
    found = _writes.get("pandas")
    if found is None:
        import sys

        version = str(getattr(sys.modules.get("pandas"), "__version__", "0"))
        found = _writes["pandas"] = version.partition(".")[0].isdigit() and int(version.partition(".")[0]) >= 3
    return found


def _copied(values: object) -> object:
    if isinstance(values, np.ndarray):
        return np.atleast_1d(cast("Column", values)).copy()
    if isinstance(values, list | tuple):
        return list(cast("Sequence[object]", values))
    if package_of(type(values)) in ("pandas", "polars") and hasattr(values, "to_numpy"):
        return np.array(cast("Any", values).to_numpy())
    return values


# --------------------------------------------------------------------------------------------- in the worker
def columns_of(what: object) -> dict[str, Column]:
    """Return the columns of a table by name; those of an array are called "0", "1", ..."""
    if isinstance(what, np.ndarray):
        given = cast("Column", what)
        matrix = given.reshape(1, -1) if given.ndim < 2 else given
        return {str(at): matrix[:, at] for at in range(matrix.shape[1])}
    if isinstance(what, dict):
        return {str(name): _column(values) for name, values in cast("dict[object, object]", what).items()}
    if isinstance(what, list):
        return _columns_of_list(cast("list[object]", what))
    if package_of(type(what)) in ("pandas", "polars") and hasattr(what, "columns"):
        frame = cast("Any", what)
        return {str(name): cast("Column", frame[name].to_numpy()) for name in list(frame.columns)}
    return {}


def _columns_of_list(what: list[object]) -> dict[str, Column]:
    first = what[0] if what else None
    if isinstance(first, dict):
        records = [cast("dict[object, object]", one) for one in what]
        keys = dict.fromkeys(key for one in records for key in one)
        return {str(key): _array([one.get(key) for one in records]) for key in keys}
    if isinstance(first, list):
        members = [cast("list[object]", one) for one in what]
        width = max(len(one) for one in members)
        return {str(at): _array([one[at] if at < len(one) else None for one in members]) for at in range(width)}
    if isinstance(first, np.ndarray):
        return columns_of(np.array(what))
    # A line of numbers is one row; of anything else, one column.
    if all(isinstance(one, int | float) for one in what):
        return {str(at): _array([one]) for at, one in enumerate(what)}
    return {"0": _array(what)}


def _column(values: object) -> Column:
    if isinstance(values, np.ndarray):
        given = cast("Column", values)
        return given if given.ndim else given.reshape(1)
    return _array(cast("list[object]", values) if isinstance(values, list) else [values])


def _array(values: list[object]) -> Column:
    """Return values as an array: of numbers where all are, missing ones as NaN; else of objects."""
    kinds = {type(one) for one in values}
    if kinds <= {float, int, type(None)} and kinds & {float, int}:
        try:
            return np.array([np.nan if one is None else one for one in values], dtype=np.float64)
        except OverflowError:
            pass
    if kinds == {bool}:
        return np.array(values, dtype=bool)
    if kinds and all(issubclass(one, np.generic) for one in kinds) and len(kinds) == 1:
        return np.array(values)
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def outcome(copy: Snapshot) -> tuple[Column | None, Column | None]:
    """Return what was predicted for each row and, where that is a score for each class, the score of the second of two."""
    values = copy.values()
    if values is None or values.ndim == 0 or values.ndim > 2:
        return None, None
    if values.ndim == 1:
        return values, values if values.dtype.kind == "f" else None
    if values.shape[1] == 1:
        return values[:, 0], values[:, 0] if values.dtype.kind == "f" else None
    if values.dtype.kind != "f":
        return None, None
    return values.argmax(axis=1), values[:, 1] if values.shape[1] == 2 else None
