"""How a collector that misbehaves answers a request that it has read, mode by mode."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Literal, get_args

from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_ml.testing._requests import Request

Mode = Literal[
    "healthy",
    "refused",
    "silent",
    "deaf",
    "drip",
    "reset",
    "no_reply",
    "ack_lost",
    "redirect",
    "partial_success",
    "huge",
    "bomb",
]
HUGE = 300 * 1024 * 1024
_MEGABYTE = 1 << 20
_ACCEPTING = frozenset({"healthy", "ack_lost", "partial_success", "huge", "bomb"})


@dataclass(frozen=True)
class Manner:
    """What the modes need besides their name: a header, a count, the seconds between two bytes, where to redirect to."""

    retry_after: str | None
    rejected: int
    every: float
    elsewhere: str


def check(mode: Mode | int) -> None:
    """Refuse a mode that does not exist."""
    known = 200 <= mode <= 599 if isinstance(mode, int) else mode in get_args(Mode)
    if not known:
        raise ConfigurationError(
            f"{mode!r} is not a way in which a FaultCollector misbehaves. "
            f"Write a status code or one of {', '.join(get_args(Mode))}."
        )


def accepts(mode: Mode | int) -> bool:
    """Say whether a collector of this mode keeps what it is sent, whatever it answers."""
    return mode in _ACCEPTING or (isinstance(mode, int) and mode // 100 == 2)


def answer(
    connection: socket.socket, request: Request, mode: Mode | int, manner: Manner, closing: threading.Event
) -> bool:
    """Answer one request; True if the connection may bring another."""
    if mode == "reset":
        return reset(connection)
    if mode in ("silent", "deaf"):
        return not closing.wait()
    if mode == "drip":
        return _drip(connection, manner.every, closing)
    if mode in ("no_reply", "ack_lost", "refused"):
        # Refused: this one had come in before its connection was closed.
        return False
    if isinstance(mode, int):
        connection.sendall(_head(mode, 0, "" if manner.retry_after is None else f"Retry-After: {manner.retry_after}"))
    elif mode == "redirect":
        connection.sendall(_head(302, 0, f"Location: {manner.elsewhere}"))
    elif mode == "huge":
        connection.sendall(_head(200, HUGE))
        for _ in range(HUGE // _MEGABYTE):
            connection.sendall(bytes(_MEGABYTE))
    elif mode == "bomb":
        # Members of a gzip stream follow one another: 300 times a packed megabyte.
        packed = gzip.compress(bytes(_MEGABYTE)) * (HUGE // _MEGABYTE)
        connection.sendall(_head(200, len(packed), "Content-Encoding: gzip") + packed)
    else:
        body = request.answer(manner.rejected if mode == "partial_success" else 0)
        connection.sendall(_head(200, len(body)) + body)
    return True


def reset(connection: socket.socket) -> bool:
    """Have the connection end in a reset once it is closed; False, since it brings no other request."""
    # Without lingering, closing sends a reset instead of an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _head(status: int, length: int, header: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status} Faulty", "Content-Type: application/x-protobuf", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *([header] if header else []), "", ""]).encode()


def _drip(connection: socket.socket, every: float, closing: threading.Event) -> bool:
    for byte in chain(b"HTTP/1.1 200 OK\r\nX-Drip: ", repeat(ord("."))):
        connection.sendall(bytes((byte,)))
        if closing.wait(every):
            break
    return False
