"""Turn whatever a user passes into an OpenTelemetry attribute value, without running the user's code."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar, cast

# Value types that need nothing done. Exact types: a subclass may override anything.
PLAIN = frozenset({str, bool, int, float, bytes, type(None)})
# The same by identity: `kind in PLAIN` hashes the class, which a metaclass may have made raise, or slow.
PLAIN_IDS = frozenset(map(id, PLAIN))

MAX_DEPTH = 8
MAX_ITEMS = 1_000
MAX_KEY = 128
MAX_TEXT = 256
MAX_BYTES = 16_384
# Whole numbers have 64 bits in OpenTelemetry's protocol; a larger one would cost the record it is in.
INT64 = 1 << 63

type_of = type

T = TypeVar("T")
Value = str | bool | int | float | bytes | None | tuple["Value", ...] | dict[str, "Value"]


def clean(value: object, length: int | None = None) -> Value:
    """Return `value` as OpenTelemetry allows it; strings are cut to `length` characters.

    Equal to what the OpenTelemetry SDK makes of every valid value of at most 1,000 items, 8 levels deep. What is not
    valid is not passed to `str()` (a `__str__` may raise, take half a second or synchronise a GPU): numpy scalars
    become Python numbers, arrays and tensors their shape and dtype, anything else the name of its class. Never raises.

    >>> clean({"rates": [0.1, 0.2], "who": object()})
    {'rates': (0.1, 0.2), 'who': '<object>'}
    """
    if type_of(value) is str:
        return _cut(value, length)
    return _clean(value, length, 0, [MAX_ITEMS])


def number(value: object) -> float | int | bool | None:
    """Return a Python number for a number, a numpy scalar or a 0-d CPU tensor; None for anything else.

    Never waits for a device: a tensor that lives on one gives None.
    """
    kind = type_of(value)
    if kind is float or kind is bool:
        return value  # type: ignore[return-value]  # its exact type is a number
    if isinstance_by_type(kind, float):
        return float.__pos__(value)  # type: ignore[arg-type]  # kind is a subclass of float
    if isinstance_by_type(kind, int):
        return _whole(int.__pos__(value))  # type: ignore[arg-type]  # kind is int or a subclass of it
    item = _item(value) if is_scalar(value) else None
    if type_of(item) is int:
        return _whole(item)
    return item if type_of(item) is float or type_of(item) is bool else None


def as_name(value: object) -> str:
    """Return a name: a string of at most 256 characters as it is, for anything else its class."""
    found = clean(value, MAX_TEXT)
    return found if type_of(found) is str else describe(value)


def is_scalar(value: object) -> bool:
    """Say whether `value` is a numpy scalar or a 0-d array or tensor in the host's memory."""
    package = package_of(type_of(value))
    if package not in _SCALAR_PACKAGES:
        return False
    try:
        if tuple(value.shape) != ():  # type: ignore[attr-defined]  # the packages' arrays have a shape
            return False
        return package == "numpy" or not on_device(value)
    except Exception:
        return False


def on_device(value: object) -> bool:
    """Say whether `value` is a torch tensor whose reading would make the caller wait for a device."""
    if package_of(type_of(value)) != "torch":
        return False
    try:
        return bool(value.device.type != "cpu")  # type: ignore[attr-defined]  # torch tensors have a device
    except Exception:
        return False


def describe(value: object) -> str:
    """Return a short text for an object: its class, and for arrays and tensors shape and dtype; never its content."""
    kind = type_of(value)
    name = qualified(kind)
    if package_of(kind) not in _ARRAY_PACKAGES:
        return f"<{name}>"
    try:
        text = f"<{name} shape={tuple(value.shape)} dtype={value.dtype}>"  # type: ignore[attr-defined]  # arrays have both
    except Exception:
        return f"<{name}>"
    # The dtype of a record array lists every field.
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}...>"


def qualified(kind: type) -> str:
    """Return a class's name as OpenTelemetry writes `error.type`: with its module, unless it is a builtin."""
    module, name = _module_of(kind), _QUALNAME(kind)
    if type_of(module) is not str or type_of(name) is not str:
        return "_OTHER"
    # A class may be called anything, and the name travels with every record.
    return _cut(name if module == "builtins" or not module else f"{module}.{name}", MAX_TEXT)


def package_of(kind: type) -> str:
    """Return the top-level package a class comes from, or an empty string."""
    module = _module_of(kind)
    return module.partition(".")[0] if type_of(module) is str else ""


def simple_name(kind: type) -> str:
    """Return a class's own name, without module or enclosing class."""
    return str(_NAME(kind))


def isinstance_by_type(kind: type, base: type) -> bool:
    """`issubclass` that cannot be lied to: neither `__class__` nor a metaclass's checks or `__eq__` are asked."""
    return type_of.__subclasscheck__(base, kind)


_SCALAR_PACKAGES = frozenset({"numpy", "torch"})
_ARRAY_PACKAGES = frozenset({"numpy", "torch", "tensorflow", "jax", "jaxlib", "cupy"})

# The base's own method: a subclass may have overridden `items`.
_items = cast("Callable[[dict[object, object]], Iterable[tuple[object, object]]]", dict[object, object].items)

# The descriptors of `type` itself: `kind.__module__` and even `type.__getattribute__` would run a property that a
# metaclass defines under that name.
_MODULE = type_of.__dict__["__module__"].__get__
_NAME = type_of.__dict__["__name__"].__get__
_QUALNAME = type_of.__dict__["__qualname__"].__get__


def _module_of(kind: type) -> object:
    try:
        return _MODULE(kind)
    except Exception:
        # `del cls.__module__` makes it an AttributeError.
        return None


def _item(value: object) -> object:
    try:
        if type_of(value).__name__ == "longdouble":
            # The item() of an extended float is itself.
            return float(value)  # type: ignore[arg-type]  # numpy's own conversion
        return value.item()  # type: ignore[attr-defined]  # numpy scalars, 0-d arrays and tensors have it
    except Exception:
        return None


def _clean(value: object, length: int | None, depth: int, room: list[int]) -> Value:
    kind = type_of(value)
    if kind is str:
        return _cut(value, length)  # type: ignore[arg-type]  # its exact type is str
    if kind is int:
        return _whole(value)  # type: ignore[arg-type]  # its exact type is int
    if kind is bytes:
        return cast("bytes", value)[:MAX_BYTES]
    if id(kind) in PLAIN_IDS:
        return value  # type: ignore[return-value]  # its exact type is in PLAIN
    if id(kind) in _CONTAINER_IDS:
        return _sequence(kind, value, length, depth, room)
    for base in _CONTAINERS:
        if isinstance_by_type(kind, base):
            return _sequence(base, value, length, depth, room)
    if isinstance_by_type(kind, dict):
        return _mapping(value, length, depth, room)
    if isinstance_by_type(kind, str):
        # The first characters alone: `__str__` of the base copies all of them.
        return _cut(str.__getitem__(cast("str", value), slice(length)), None)
    if isinstance_by_type(kind, bytes):
        return bytes.__getitem__(cast("bytes", value), slice(MAX_BYTES))
    plain = number(value)
    return describe(value) if plain is None else plain


_TRIES = 10
_CONTAINERS: tuple[type, ...] = (list, tuple, range, frozenset, set)
_CONTAINER_IDS = frozenset(map(id, _CONTAINERS))


def _sequence(base: type, values: object, length: int | None, depth: int, room: list[int]) -> Value:
    # Through the base's own methods: a subclass may have overridden `__iter__` or `__len__`.
    if depth >= MAX_DEPTH:
        return f"<{base.__name__}>"
    head = _head(lambda: cast("Iterable[object]", base.__iter__(values)), room)  # type: ignore[attr-defined]  # containers have it
    return tuple(_clean(value, length, depth + 1, room) for value in head)


def _mapping(values: object, length: int | None, depth: int, room: list[int]) -> Value:
    if depth >= MAX_DEPTH:
        return "<dict>"
    head = _head(lambda: _items(cast("dict[object, object]", values)), room)
    cleaned: dict[str, Value] = {}
    for key, value in head:
        if type_of(key) is str and key:
            cleaned[_cut(key, None)] = _clean(value, length, depth + 1, room)
    return cleaned


def _head(items: Callable[[], Iterable[T]], room: list[int]) -> tuple[T, ...]:
    # Never more than there is room for: a list that holds another ten times over, and that one a third, is short, but
    # endless to walk. Taken in one go, and again where another thread has changed a set or dict in that very moment.
    for _ in range(_TRIES):
        try:
            head = tuple(islice(items(), max(0, room[0])))
        except RuntimeError:
            continue
        room[0] -= len(head)
        return head
    return ()


def _whole(value: int) -> int | float:
    if -INT64 <= value < INT64:
        return value
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _cut(text: str, length: int | None) -> str:
    if length is not None and len(text) > length:
        text = text[:length]
    # A lone surrogate cannot be encoded: one such string would cost the whole batch it travels in.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "replace").decode()
    return text
