"""Protocol buffers on the wire, as far as OTLP needs them: numbers, fields with a length, and messages cut in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct


class UnsureError(Exception):
    """A value of which it is not certain what OpenTelemetry's encoder makes of it."""


def varint(number: int) -> bytes:
    """Return a whole number of 0 or more, seven bits a byte."""
    if number < 128:
        return _ONE_BYTE[number]
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def delimited(mark: bytes, data: bytes) -> bytes:
    """Return a field of any length; `mark` is its number and wire type."""
    return mark + varint(len(data)) + data


def text(mark: bytes, value: object) -> bytes:
    """Return a field that holds text; nothing for an empty one, as protocol buffers have it."""
    if type(value) is str:
        data = value.encode()
        return mark + varint(len(data)) + data if data else b""
    if value is None:
        return b""
    raise UnsureError


def fixed(mark: bytes, value: object) -> bytes:
    """Return a field of eight bytes, such as a time; nothing for zero."""
    if type(value) is int:
        return mark + _eight_bytes(value) if value else b""
    if value is None:
        return b""
    raise UnsureError


def small(mark: bytes, value: object) -> bytes:
    """Return a field that holds a count of 32 bits; nothing for zero."""
    if type(value) is int and 0 <= value < 1 << 32:
        return mark + varint(value) if value else b""
    raise UnsureError


def cut(message: bytes, number: int) -> tuple[bytes, list[bytes], bytes]:
    """Return a message's fields before a repeated one, what the repeated one holds, and the fields behind it."""
    head, held, tail = b"", list[bytes](), b""
    for found, field, content in fields(message):
        if found < number:
            head += field
        elif found > number:
            tail += field
        else:
            held.append(content)
    return head, held, tail


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the number of each field, the field as it is, and what it holds. Raise `ValueError` if there is no sense."""
    at = 0
    while at < len(message):
        mark, start = _read(message, at)
        if mark & 7 == _DELIMITED:
            length, start = _read(message, start)
            end = start + length
        elif mark & 7 == _VARINT:
            _, end = _read(message, start)
        elif mark & 7 in _FIXED:
            end = start + _FIXED[mark & 7]
        else:
            raise ValueError(f"no wire type: {mark & 7}")
        if end > len(message):
            raise ValueError("a field ends behind its message")
        yield mark >> 3, message[at:end], message[start:end]
        at = end


_ONE_BYTE = [bytes((number,)) for number in range(128)]
_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}
_eight_bytes = Struct("<Q").pack


def _read(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError("a number ends behind its message")
