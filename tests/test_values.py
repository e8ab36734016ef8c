"""What becomes of the values users pass: nothing of theirs is run, nothing raises, and nothing grows without bound."""

import enum
import math
import threading
from collections import OrderedDict, defaultdict, namedtuple
from importlib.metadata import version
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from scipy import sparse

from otel_ml import _values
from otel_ml._values import clean, describe, is_scalar, isinstance_by_type, number, on_device, package_of, qualified

RAN: list[str] = []


def trap(name: str) -> Any:
    """Return a method that notes that it ran, and fails."""

    def method(*args: Any, **kwargs: Any) -> Any:
        RAN.append(name)
        raise RuntimeError(name)

    return method


SPECIAL = [
    "__str__", "__repr__", "__len__", "__iter__", "__eq__", "__hash__", "__bool__", "__float__", "__int__", "__index__",
    "__getattr__", "__getattribute__", "__format__", "__contains__", "__getitem__", "__call__", "__array__", "__complex__",
    "__instancecheck__", "__subclasscheck__", "__reduce__", "__fspath__", "items", "keys", "item", "shape", "dtype",
]  # fmt: skip


def hostile(base: type, *args: Any) -> Any:
    """Return an instance of a class each of whose methods fails, and whose metaclass fails too."""
    meta_body: dict[str, Any] = {name: trap(f"meta {name}") for name in ("__eq__", "__hash__", "__repr__", "__str__")}
    meta_body |= {name: property(trap(f"meta {name}")) for name in ("__module__", "__name__", "__mro__")}
    meta_body |= {"__instancecheck__": trap("meta isinstance"), "__subclasscheck__": trap("meta issubclass")}
    body: dict[str, Any] = {name: trap(name) for name in SPECIAL}
    body["__class__"] = property(trap("__class__"))
    meta = type("Meta", (type,), meta_body)
    made = base.__new__(type.__call__(meta, "Hostile", (base,), body), *args)
    RAN.clear()
    return made


def hostile_objects() -> list[Any]:
    """One of every kind that could be mistaken for something else."""
    values = (("text", str), (1.5, float), (7, int), (b"raw", bytes), ((1, 2), tuple), (frozenset({1}), frozenset))
    made = [hostile(object), *(hostile(base, value) for value, base in values)]
    a_list, a_dict, a_set = hostile(list), hostile(dict), hostile(set)
    list.extend(a_list, [1, 2])
    dict.update(a_dict, {"a": 1})
    set.update(a_set, {1})
    return [*made, a_list, a_dict, a_set]


@pytest.fixture(autouse=True)
def nothing_ran() -> Any:
    """No test may have run anything of a hostile object by its end."""
    RAN.clear()
    yield
    assert not RAN


class TestHostile:
    @pytest.mark.parametrize("index", range(10))
    def test_nothing_of_the_users_is_run(self, index: int) -> None:
        """No method, property or metaclass of an unknown class is run by any of the functions."""
        value = hostile_objects()[index]
        kind = type(value)

        clean(value)
        clean([value, {"key": value}])
        number(value)
        is_scalar(value)
        on_device(value)
        describe(value)
        qualified(kind)
        package_of(kind)
        isinstance_by_type(kind, str)

    def test_subclasses_keep_their_plain_content(self) -> None:
        """A subclass of a plain type is read through the plain type."""
        cleaned = [clean(value) for value in hostile_objects()[1:]]

        assert cleaned == ["text", 1.5, 7, b"raw", (1, 2), (1,), (1, 2), {"a": 1}, (1,)]
        assert [type(value) for value in cleaned[:4]] == [str, float, int, bytes]

    def test_an_unhashable_class_is_described(self) -> None:
        """A metaclass that defines `__eq__` alone makes a class that cannot be looked up in a set."""

        class Meta(type):
            __hash__ = None

            def __eq__(cls, other: object) -> bool:
                RAN.append("meta __eq__")
                return True

        class Odd(metaclass=Meta):
            pass

        assert clean(Odd()) == f"<{__name__}.TestHostile.test_an_unhashable_class_is_described.<locals>.Odd>"
        assert number(Odd()) is None

    def test_a_class_without_a_module_has_a_name_all_the_same(self) -> None:
        """What `__module__` is not a string is `_OTHER`; nothing raises."""
        odd = type("Odd", (), {"__module__": 7})

        assert qualified(odd) == "_OTHER"
        assert package_of(odd) == ""

    def test_keys_that_are_not_text_are_left_out(self) -> None:
        """A key's `__str__` is never run."""
        assert clean({1: "one", "a": "b", "": "empty", (1,): 2}) == {"a": "b"}


class TestBounds:
    def test_shared_lists_do_not_multiply(self) -> None:
        """A list of ten times the same list of ten times ... stays within the limit of items."""
        value: Any = ["leaf"]
        for _ in range(7):
            value = [value] * 100

        def leaves(one: Any) -> int:
            return sum(map(leaves, one)) + len(one) if isinstance(one, tuple) else 0

        assert leaves(clean(value)) <= _values.MAX_ITEMS

    def test_a_circle_ends(self) -> None:
        """What contains itself is cut at the deepest level."""
        circle: list[Any] = []
        circle.append(circle)
        around: dict[str, Any] = {}
        around["again"] = around

        assert "<list>" in repr(clean(circle))
        assert "<dict>" in repr(clean(around))

    @pytest.mark.parametrize("endless", [range(10**18), range(2**70), list(range(10**6)), set(range(10**5))])
    def test_what_is_long_is_cut(self, endless: Any) -> None:
        """Never more than 1,000 items, however long the original; a range is not written out first."""
        assert len(clean(endless)) == 1_000

    def test_a_set_may_change_meanwhile(self) -> None:
        """Another thread that changes a container does not make it fail."""
        shared: set[int] = set(range(100))
        mapping: dict[str, int] = {str(n): n for n in range(100)}
        stop = threading.Event()

        def change() -> None:
            for n in count():
                shared.symmetric_difference_update({n % 300})
                mapping.pop(str(n % 300), None) if n % 2 else mapping.update({str(n % 300): n})
                if stop.is_set():
                    return

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(2_000):
                clean(shared)
                clean(mapping)
        finally:
            stop.set()
            thread.join()

    def test_texts_are_cut_to_a_length(self) -> None:
        """`length` cuts strings at every level, and nothing else."""
        assert clean({"a": ["x" * 50, 10**10]}, 5) == {"a": ("xxxxx", 10**10)}

    def test_the_description_of_a_wide_record_is_short(self) -> None:
        """A dtype of a thousand fields is not written out."""
        wide = np.zeros(1, dtype=[(f"field_{n}", "f8") for n in range(1000)])

        assert len(describe(wide)) < 300


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.float64(1.5), 1.5),
            (np.float32(0.5), 0.5),
            (np.float16(0.5), 0.5),
            (np.longdouble(2), 2.0),
            (np.int64(7), 7),
            (np.uint8(255), 255),
            (np.bool_(True), True),
            (np.array(3.5), 3.5),
            (np.array(4), 4),
            (True, True),
            (enum.IntEnum("Colour", "RED").RED, 1),
        ],
    )  # fmt: skip
    def test_scalars_become_python_numbers(self, value: Any, expected: Any) -> None:
        """Scalars and 0-d arrays of numpy are read at once, and are exactly Python's types then."""
        assert number(value) == expected
        assert type(number(value)) is type(expected)
        assert clean(value) == expected

    @pytest.mark.parametrize(
        "value",
        [
            "1",
            None,
            b"1",
            [1],
            np.zeros(3),
            np.array("text"),
            np.array({}, dtype=object),
            np.complex128(1),
            np.datetime64("2020-01-01"),
            1j,
        ],
    )
    def test_other_values_are_no_numbers(self, value: Any) -> None:
        """Nothing is converted that is not a number already."""
        assert number(value) is None

    def test_a_subclass_of_an_array_is_not_asked(self) -> None:
        """A user's own array class is unknown, even though it comes from numpy's."""
        mine = np.zeros(()).view(type("Mine", (np.ndarray,), {"item": trap("item"), "shape": property(trap("shape"))}))

        assert number(mine) is None
        assert "Mine" in str(clean(mine))

    def test_not_a_number_is_kept(self) -> None:
        """NaN and infinities are values like others."""
        assert math.isnan(clean(np.float32("nan")))
        assert clean(float("-inf")) == -math.inf

    @pytest.mark.parametrize(("value", "expected"), [(2**63, 2.0**63), (-(2**70), -(2.0**70)), (10**400, math.inf)])
    def test_integers_beyond_64_bits_become_floats(self, value: int, expected: float) -> None:
        """The protocol has 64 bits for an integer; one that is larger would cost the record it is in."""
        assert clean(value) == number(value) == expected
        assert type(clean(value)) is float
        assert clean(2**63 - 1) == 2**63 - 1


class TestKnownClasses:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (np.zeros((2, 3)), "<numpy.ndarray shape=(2, 3) dtype=float64>"),
            (sparse.csr_matrix(np.eye(2)), "<scipy.sparse._csr.csr_matrix>"),
            (object(), "<object>"),
            (ValueError("secret"), "<ValueError>"),
            (lambda: None, "<function>"),
            (np.random, "<module>"),
        ],
    )
    def test_objects_are_described_without_their_content(self, value: Any, text: str) -> None:
        """A class's name, and for arrays shape and dtype; never what is inside."""
        assert clean(value) == text

    def test_a_data_frame_keeps_its_content_to_itself(self) -> None:
        """Not a value of a data frame is in its description."""
        frame = pd.DataFrame({"password": ["hunter2"] * 3})

        assert "hunter2" not in str(clean(frame))
        assert "password" not in str(clean(frame))

    def test_mappings_and_sequences_of_the_standard_library(self) -> None:
        """A subclass of dict, list or tuple is read as what it is."""
        pair = namedtuple("pair", "x y")(1, "two")

        assert clean(defaultdict(list, a=1)) == {"a": 1}
        assert clean(OrderedDict(a=(1,))) == {"a": (1,)}
        assert clean(pair) == (1, "two")


plain = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(codec="utf-8"))
# Until 1.45 the SDK took no bytes, mappings or mixed sequences for attributes.
valid = (
    st.recursive(
        st.none() | plain | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), inner, max_size=5)
        ),
        max_leaves=20,
    )
    if tuple(map(int, version("opentelemetry-sdk").split(".")[:2])) >= (1, 45)
    else plain
)
anything = st.recursive(
    st.none() | st.floats() | st.text() | st.binary() | st.complex_numbers() | st.builds(object) | st.functions(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers()),
    max_leaves=30,
)


class TestProperties:
    @given(valid)
    @settings(max_examples=300)
    def test_valid_values_are_what_the_sdk_makes_of_them(self, value: Any) -> None:
        """OpenTelemetry's own cleaning is the oracle, NaN by its representation."""
        theirs = BoundedAttributes(attributes={"key": value}).get("key")

        assert repr(clean(value)) == repr(theirs)

    @given(anything)
    @settings(max_examples=300)
    def test_nothing_raises_and_everything_can_be_sent(self, value: Any) -> None:
        """Whatever goes in, what comes out is made of OpenTelemetry's types, and every text can be encoded."""

        def check(one: Any) -> None:
            assert type(one) in (str, bool, int, float, bytes, type(None), tuple, dict)
            if type(one) is str:
                one.encode()
            for inner in one if type(one) is tuple else one.values() if type(one) is dict else ():
                check(inner)

        check(clean(value))
