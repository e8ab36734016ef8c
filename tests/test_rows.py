"""How many samples a batch holds, for every kind of batch, and without running anything of the user's."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from otel_ml._rows import rows
from tests.test_values import RAN, hostile, hostile_objects


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([], 0),
        ((), 0),
        ([1.0, 2.0, 3.0], 1),
        ([True, False], 1),
        ([1 + 2j], 1),
        ([[1.0, 2.0], [3.0, 4.0]], 2),
        (["a", "b", "c"], 3),
        ([None, None], 2),
        ([{"age": 1}, {"age": 2}], 2),
        ([np.float32(1), np.float32(2)], 1),
        ([np.int64(1), np.int64(2)], 1),
        ([np.zeros(3), np.zeros(3)], 2),
        ([np.str_("a"), np.str_("b")], 2),
        ("text", 1),
        (b"bytes", 1),
        (None, 1),
        (7, 1),
        ({"age": [1, 2]}, 1),
        ({1, 2}, 1),
        (iter([1, 2]), 1),
        (range(5), 1),
    ],
)
def test_plain_batches(batch: Any, expected: int) -> None:
    """One sample a member, unless the members are numbers; anything else is one sample."""
    assert rows(batch) == expected


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (np.zeros((5, 3)), 5),
        (np.zeros((4, 3, 2)), 4),
        (np.zeros(3), 1),
        (np.zeros(()), 1),
        (np.zeros((0, 3)), 0),
        (np.array(["a", "b"]), 2),
        (np.array(["a", "b"], dtype=object), 2),
        (np.array(["2020-01-01"] * 3, dtype="datetime64[D]"), 3),
        (np.zeros(3, dtype=[("age", "i4")]), 3),
        (np.zeros(3, dtype=bool), 1),
        (np.ma.masked_array(np.zeros((6, 2))), 6),
        (np.asmatrix(np.zeros((6, 2))), 6),
        (np.rec.array(np.zeros(3, dtype=[("age", "i4")])), 3),
        (np.float64(3), 1),
        (sparse.csr_matrix((7, 3)), 7),
        (sparse.coo_array((7, 3)), 7),
        (sparse.coo_array(np.arange(3)), 1),
        (pd.DataFrame({"a": range(8)}), 8),
        (pd.DataFrame(), 0),
        (pd.Series([1.0, 2.0]), 1),
        (pd.Series(["a", "b"]), 2),
        (pd.Series([1, 2], dtype="Int64"), 1),
        (pd.Series(["a", "b"], dtype="category"), 2),
        (pd.Index([1, 2, 3]), 1),
    ],
)
def test_arrays_and_frames(batch: Any, expected: int) -> None:
    """Two dimensions: a sample a row. One: a sample, unless its members are no numbers."""
    assert rows(batch) == expected


def test_a_file_mapped_into_memory(tmp_path: Path) -> None:
    """A memory map counts as the array it is."""
    mapped = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(9, 2))

    assert rows(mapped) == 9


@pytest.mark.parametrize("index", range(10))
def test_hostile_objects_are_one_sample(index: int) -> None:
    """Nothing of an unknown class is run, whether it is the batch or the batch's first member."""
    RAN.clear()
    value = hostile_objects()[index]

    assert rows(value) == 1
    assert rows([value, value]) == 2
    assert rows((value,)) == 1
    assert rows(hostile(np.ndarray, (2, 2))) == 1
    assert not RAN


def test_a_known_class_that_fails_is_one_sample() -> None:
    """What a library raises when asked for its shape does not come out."""
    lying = type("ndarray", (), {"__module__": "numpy", "shape": property(lambda self: 1 / 0)})

    assert rows(lying()) == 1
    assert rows(lying()) == 1


def test_classes_that_come_and_go() -> None:
    """A class that takes the place of one that is gone is not counted as that one."""
    for n in range(600):
        pretend = type("DataFrame", (), {"__module__": "polars", "height": 5})
        plain = type("Plain", (), {})

        assert rows(pretend()) == 5, n
        assert rows(plain()) == 1, n
