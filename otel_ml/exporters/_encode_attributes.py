"""Attributes for OTLP, byte for byte as OpenTelemetry's encoder has them; those seen before are not encoded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import cast

from opentelemetry.attributes import BoundedAttributes

from otel_ml.exporters._protobuf import UnsureError, delimited, varint


def key_values(mark: bytes, attributes: Mapping[str, object] | None) -> bytes:
    """Return fields of `KeyValue`, one an attribute; `mark` is the number and wire type of each.

    Raise `UnsureError` or whatever comes up if there is an attribute that only OpenTelemetry's encoder can judge.
    """
    if not attributes:
        return b""
    if type(attributes) is BoundedAttributes:
        # Its own iterator takes a lock, and then looks every value up.
        attributes = attributes.copy()
    pieces: list[bytes] = []
    for key, value in attributes.items():
        kind = type(value)
        if kind is float:
            pieces.append((_real.get(key) or _real_begun(key)) + _double(value))
            continue
        cache = _seen.get(kind)
        found = cache.get((key, value)) if cache is not None else None
        pieces.append(found or _encoded(key, value, cache))
    return mark + mark.join(pieces)


def any_value(value: object, depth: int = 0) -> bytes:
    """Return an `AnyValue`."""
    kind = type(value)
    if kind is str:
        return delimited(b"\x0a", cast("str", value).encode())
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return b"\x18" + _int64(cast("int", value))
    if kind is float:
        return b"\x21" + _double(value)
    if value is None:
        return b""
    if kind is bytes:
        return delimited(b"\x3a", cast("bytes", value))
    if depth < _MAX_DEPTH and (kind is tuple or kind is list):
        values = [any_value(one, depth + 1) for one in cast("Sequence[object]", value)]
        return delimited(b"\x2a", b"".join([delimited(b"\x0a", one) for one in values]))
    if depth < _MAX_DEPTH and kind is dict:
        pairs = [_key_value(key, one, depth + 1) for key, one in cast("dict[object, object]", value).items()]
        return delimited(b"\x32", b"".join([delimited(b"\x0a", one) for one in pairs]))
    raise UnsureError


# Deeper values are left to OpenTelemetry's encoder, since protocol buffers end somewhere: at 100 messages.
_MAX_DEPTH = 16
# What is kept of attributes seen before: at most so many of each type, each of so many bytes.
_MAX_SEEN = 1_024
_MAX_KEPT = 128

# By exact type, since 1, 1.0 and True are one key of a dict.
_seen: dict[type, dict[tuple[str, object], bytes]] = {str: {}, int: {}, bool: {}}
_real: dict[str, bytes] = {}
_double = Struct("<d").pack


def _encoded(key: str, value: object, cache: dict[tuple[str, object], bytes] | None) -> bytes:
    made = _key_value(key, value, 0)
    made = varint(len(made)) + made
    if cache is not None and len(made) <= _MAX_KEPT:
        if len(cache) >= _MAX_SEEN:
            cache.clear()
        cache[key, value] = made
    return made


def _real_begun(key: str) -> bytes:
    made = _key_value(key, 0.0, 0)
    made = (varint(len(made)) + made)[:-8]
    if len(made) <= _MAX_KEPT:
        if len(_real) >= _MAX_SEEN:
            _real.clear()
        _real[key] = made
    return made


def _key_value(key: object, value: object, depth: int) -> bytes:
    if type(key) is not str:
        raise UnsureError
    name = delimited(b"\x0a", key.encode()) if key else b""
    return name + delimited(b"\x12", any_value(value, depth))


def _int64(value: int) -> bytes:
    if not -1 << 63 <= value < 1 << 63:
        raise UnsureError
    return varint(value & 0xFFFF_FFFF_FFFF_FFFF)
