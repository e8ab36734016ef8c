"""JSON that loses nothing: NaN and infinities, bytes, huge integers, lone surrogates and any key survive a round trip."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import cast

from otel_ml._values import Value, clean, describe, isinstance_by_type, number

Number = int | float


def encode(value: object) -> str:
    """Return `value` as JSON text that `decode` turns back into an equal value; sequences come back as tuples.

    What JSON has no word for is wrapped in an object with one key that begins with `$`: `{"$f":"NaN"}`, `{"$b":...}`
    (bytes, base64), `{"$i":"0x..."}`, `{"$s":...}` (text with lone surrogates), `{"$m":[[key, value], ...]}` (a mapping
    whose own keys would be mistaken for these). ValueError where a value is nested deeper than 100 levels.

    >>> encode({"loss": float("nan"), "step": 3})
    '{"loss":{"$f":"NaN"},"step":3}'
    """
    try:
        text = _encode(value)
    except (ValueError, TypeError, RecursionError):
        return _encode(_wrapped(value, 0))
    # A `"` within a string is escaped, so these three characters can only begin an object.
    if '{"$' in text or not (text.isascii() or _is_unicode(text)):
        return _encode(_wrapped(value, 0))
    return text


def decode(text: str) -> Value:
    """Return what `encode` was given; ValueError where the text is not what `encode` returns.

    >>> decode('{"loss":{"$f":"NaN"},"step":3}')
    {'loss': nan, 'step': 3}
    """
    value: Value = json.loads(text)
    return _restored(value) if "[" in text or '{"$' in text else value


def encode_number(value: Number) -> Number | str:
    """Return a number as a column without a type keeps it: SQLite turns NaN into NULL and has 64-bit integers only."""
    plain = value if type(value) is float or type(value) is int else number(value)
    if plain is None:
        raise TypeError("not a number")
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else _name(plain)
    return int(plain) if -(1 << 63) <= plain < 1 << 63 else hex(plain)


def decode_number(value: Number | str) -> Number:
    """Return what `encode_number` was given."""
    if isinstance(value, str):
        return int(value, 16) if "0x" in value else float(value)
    return value


MAX_DEPTH = 100
# Python refuses to write out integers of more than 4,300 digits, or as few as 640 where that is configured.
MAX_BITS = 1024

# `check_circular` would cost a third; what is circular is nested too deeply in any case.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _wrapped(value: object, depth: int) -> object:
    kind = type(value)
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if kind is float:
        real = cast("float", value)
        return real if math.isfinite(real) else {"$f": _name(real)}
    if kind is str:
        text = cast("str", value)
        return text if _is_unicode(text) else {"$s": text.encode("utf-8", "surrogatepass").hex()}
    if kind is int:
        whole = cast("int", value)
        return whole if whole.bit_length() <= MAX_BITS else {"$i": hex(whole)}
    if kind is bool or value is None:
        return value
    if kind is bytes:
        return {"$b": b64encode(cast("bytes", value)).decode()}
    if isinstance_by_type(kind, tuple) or isinstance_by_type(kind, list):
        return [_wrapped(one, depth + 1) for one in cast("tuple[object, ...]", value)]
    if isinstance_by_type(kind, dict):
        return _wrapped_mapping(cast("Mapping[object, object]", value), depth)
    return _wrapped(clean(value), depth + 1)


def _wrapped_mapping(values: Mapping[object, object], depth: int) -> object:
    pairs = [(_key(key), _wrapped(value, depth + 1)) for key, value in values.items()]
    if any(key[:1] == "$" or not _is_unicode(key) for key, _ in pairs):
        return {"$m": [[_wrapped(key, depth), value] for key, value in pairs]}
    return dict(pairs)


def _key(key: object) -> str:
    return str.__str__(cast("str", key)) if isinstance_by_type(type(key), str) else describe(key)


def _restored(value: object) -> Value:
    if isinstance(value, list):
        return tuple(map(_restored, cast("list[object]", value)))
    if not isinstance(value, dict):
        return cast("Value", value)
    mapping = cast("dict[str, object]", value)
    if len(mapping) == 1:
        key, inner = next(iter(mapping.items()))
        if key == "$f":
            return float(cast("str", inner))
        if key == "$b":
            return b64decode(cast("str", inner))
        if key == "$i":
            return int(cast("str", inner), 16)
        if key == "$s":
            return bytes.fromhex(cast("str", inner)).decode("utf-8", "surrogatepass")
        if key == "$m":
            pairs = cast("list[tuple[object, object]]", inner)
            return {cast("str", _restored(name)): _restored(one) for name, one in pairs}
    return {name: _restored(one) for name, one in mapping.items()}
