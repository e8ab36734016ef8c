"""Values and exceptions that nobody should pass and somebody will: each is made anew by a function without arguments."""

import asyncio
import enum
import unittest.mock
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction


class HostileError(Exception):
    """What a hostile object raises from its special methods; it must never reach the user."""


def _boom(*args: object, **kwargs: object) -> object:
    raise HostileError("the user's own code was run")


_SPECIAL = (
    "__str__", "__repr__", "__format__", "__bytes__", "__len__", "__length_hint__", "__eq__", "__ne__", "__lt__", "__le__",
    "__hash__", "__iter__", "__next__", "__contains__", "__getitem__", "__float__", "__int__", "__index__", "__bool__",
    "__complex__", "__round__", "__trunc__", "__neg__", "__pos__", "__add__", "__array__", "__call__", "__enter__",
    "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__sizeof__", "__dir__", "__fspath__", "__await__",
)  # fmt: skip


def _armed(name: str, *bases: type, only: tuple[str, ...] = _SPECIAL, **more: object) -> type:
    """Return a class whose special methods (those in `only`) all raise."""
    return type(name, bases or (object,), dict.fromkeys(only, _boom) | more)


def one_method(name: str) -> Callable[[], object]:
    """Return a maker of objects of which one special method raises."""
    return lambda: _armed(f"Bad{name}", only=(name,))()


def _with_property(name: str, **more: object) -> object:
    return type("BadProperty", (), {name: property(_boom)} | more)()


class _Meta(type):
    """A class's own class may be as hostile as anything."""

    __hash__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __eq__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __instancecheck__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __subclasscheck__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __repr__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __name__ = property(_boom)  # type: ignore[assignment]  # hostile on purpose
    __module__ = property(_boom)  # type: ignore[assignment]  # hostile on purpose


def _cyclic_list() -> object:
    made: list[object] = [1]
    made.extend([made, made])
    return made


def _cyclic_dict() -> object:
    made: dict[str, object] = {"x": 1}
    made["self"] = made
    return made


def _deep(depth: int = 20_000) -> object:
    made: object = 1
    for _ in range(depth):
        made = [made]
    return made


def _endless() -> Iterator[int]:
    while True:
        yield 1


def _raising() -> Iterator[int]:
    yield 1
    raise HostileError


def _dead_proxy() -> object:
    class Gone:
        pass

    return weakref.proxy(Gone())


def _lying(kind: type) -> object:
    return type("Liar", (), {"__class__": property(lambda self: kind)})()


def _in_package(package: str) -> object:
    # Code that goes by where a class comes from meets one that only claims to.
    names = ("shape", "dtype", "device", "index", "height", "num_rows")
    body = {name: property(_boom) for name in names} | {"item": _boom, "tolist": _boom, "detach": _boom}
    return type("ndarray", (), body | {"__module__": package, **dict.fromkeys(_SPECIAL, _boom)})()


def _evil_in_array() -> object:
    numpy = __import__("numpy")
    made = numpy.empty((), dtype=object)
    made[()] = _armed("Inside")()
    return made


class _Text(str):
    __slots__ = ()
    encode = isascii = __len__ = __eq__ = __str__ = __getitem__ = strip = partition = _boom  # type: ignore[assignment]  # hostile on purpose
    __hash__ = _boom  # type: ignore[assignment]  # hostile on purpose


class _Colour(enum.StrEnum):
    RED = "red"


class _Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")

VALUES: dict[str, Callable[[], object]] = {
    **{name.strip("_"): one_method(name) for name in _SPECIAL},
    "everything raises": lambda: _armed("Everything")(),
    "str is no str": lambda: type("BadStr", (), {"__str__": lambda self: 3, "__repr__": lambda self: None})(),
    "negative len": lambda: type("BadLen", (), {"__len__": lambda self: -1})(),
    "class raises": lambda: _with_property("__class__"),
    "class says str": lambda: _lying(str),
    "class says list": lambda: _lying(list),
    "class says dict": lambda: _lying(dict),
    "class says float": lambda: _lying(float),
    "class says date": lambda: _lying(date),
    "dict raises": lambda: _with_property("__dict__"),
    "getattribute raises": lambda: _armed("BadGet", only=("__getattribute__",))(),
    "getattr raises": lambda: _armed("BadGet", only=("__getattr__",))(),
    "metaclass raises": lambda: _Meta("Metal", (), {})(),
    "a class of it": lambda: _Meta("Metal", (), {}),
    "module is no text": lambda: type("NoModule", (), {"__module__": object()})(),
    "surrogate in module": lambda: type("X", (), {"__module__": "\udc80"})(),
    "endless name": lambda: type("n" * 1_000_000, (), {})(),
    "list": lambda: _armed("L", list)([1, 2]),
    "tuple": lambda: _armed("T", tuple)((1, 2)),
    "dict": lambda: _armed("D", dict, items=_boom, keys=_boom, values=_boom, get=_boom)(a=1),
    "set": lambda: _armed("S", set)({1}),
    "text": lambda: _Text("text"),
    "int": lambda: _armed("I", int)(3),
    "float": lambda: _armed("F", float)(3.0),
    "bytes": lambda: _armed("B", bytes)(b"x"),
    "date": lambda: type("BadDate", (date,), {"isoformat": _boom, "__str__": _boom})(2026, 1, 1),
    "cyclic list": _cyclic_list,
    "cyclic dict": _cyclic_dict,
    "deep list": _deep,
    "huge int": lambda: 10**5_000,
    "huge negative int": lambda: -(10**5_000),
    "int above 64 bits": lambda: 2**70,
    "lone surrogate": lambda: "a\udc80b",
    "surrogates in a list": lambda: ["\ud800", "ok"],
    "zero bytes": lambda: "a\0b",
    "empty text": lambda: "",
    "nan": lambda: float("nan"),
    "infinity": lambda: float("-inf"),
    "million items": lambda: [1.0] * 1_000_000,
    "50 MB of text": lambda: "x" * 50_000_000,
    "50 MB of bytes": lambda: bytes(50_000_000),
    "long range": lambda: range(10**18),
    "endless iterator": _endless,
    "raising iterator": _raising,
    "mixed list": lambda: [1, "a", None, 2.5, object(), [b"x"]],
    "evil in list": lambda: [_armed("Inside")(), 1],
    "evil in dict": lambda: {"a": _armed("Inside")(), 3: 4, ("t",): 5},
    "dead proxy": _dead_proxy,
    "mock": unittest.mock.MagicMock,
    "none": lambda: None,
    "complex": lambda: complex(1, 2),
    "decimal": lambda: Decimal("sNaN"),
    "fraction": lambda: Fraction(1, 3),
    "memoryview": lambda: memoryview(bytearray(3)),
    "timedelta": lambda: timedelta(1),
    "function": lambda: _boom,
    "class": lambda: dict,
    "ellipsis": lambda: ...,
    "namedtuple": lambda: Point(1, 2),
    "str enum": lambda: _Colour.RED,
    "int enum": lambda: _Level.HIGH,
    "says numpy": lambda: _in_package("numpy"),
    "says torch": lambda: _in_package("torch"),
    "says pandas": lambda: _in_package("pandas.core"),
    "evil in numpy": _evil_in_array,
    "numpy complex": lambda: __import__("numpy").complex64(1j),
    "numpy long double": lambda: __import__("numpy").longdouble("1e4000"),
    "numpy void": lambda: __import__("numpy").zeros((), dtype=[("f", "i4")])[()],
    "numpy no time": lambda: __import__("numpy").datetime64("NaT"),
    "an exception": lambda: ValueError("x"),
    "a bare exception": lambda: BaseException("x"),
}


class _MetaOfErrors(type):
    """For exceptions: hostile where that does not stop Python itself from raising them."""

    __hash__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __eq__ = _boom  # type: ignore[assignment]  # hostile on purpose
    __module__ = property(_boom)  # type: ignore[assignment]  # hostile on purpose


def _error(*bases: type, **body: object) -> BaseException:
    made = type("Unruly", bases or (Exception,), body)("message")
    assert isinstance(made, BaseException)
    return made


def _caused_by_itself() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("x"),
    "OSError": lambda: FileNotFoundError(2, "gone", "name"),
    "BaseException": lambda: BaseException("x"),
    "own BaseException": lambda: _error(BaseException),
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit(0)": lambda: SystemExit(0),
    "SystemExit(text)": lambda: SystemExit("bye"),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration(3),
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "ExceptionGroup": lambda: ExceptionGroup("many", [ValueError("a"), ExceptionGroup("more", [TypeError("b")])]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError("a")]),
    "str raises": lambda: _error(__str__=_boom),
    "repr raises": lambda: _error(__repr__=_boom),
    "str raises BaseException": lambda: _error(__str__=lambda self: (_ for _ in ()).throw(KeyboardInterrupt)),
    "hash and eq raise": lambda: _error(__hash__=_boom, __eq__=_boom),
    "bool and len raise": lambda: _error(__bool__=_boom, __len__=_boom),
    "class raises": lambda: _error(__class__=property(_boom)),
    "class says cancelled": lambda: _error(__class__=property(lambda self: asyncio.CancelledError)),
    "traceback raises": lambda: _error(__traceback__=property(_boom, lambda self, trace: None)),
    "args raise": lambda: _error(args=property(_boom)),
    "code raises": lambda: _error(SystemExit, code=property(_boom)),
    "getattribute raises": lambda: _error(__getattribute__=_boom),
    "metaclass raises": lambda: _MetaOfErrors("Metal", (Exception,), {})("message"),
    "no module": lambda: _error(__module__=None),
    "surrogate in module": lambda: _error(__module__="\udc80"),
    "endless name": lambda: type("n" * 1_000_000, (Exception,), {})(),
    "10 MB message": lambda: ValueError("x" * 10_000_000),
    "caused by itself": _caused_by_itself,
}
