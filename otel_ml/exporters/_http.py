"""OTLP over HTTP/1.1: one kept connection, and a deadline that holds for the whole exchange, byte by byte."""

from __future__ import annotations

import gzip
import io
import re
import socket
import ssl
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import monotonic, time
from typing import TYPE_CHECKING

from otel_ml._shield import tell
from otel_ml.errors import ConfigurationError
from otel_ml.exporters._address import ForbiddenAddressError, Lookup
from otel_ml.exporters._wire import MAX_ANSWER, MAX_RETRY_AFTER, USER_AGENT, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from otel_ml.exporters._wire import Target

_CHUNK = 1 << 16
# The status codes that OTLP's specification has tried again; every other failure is final.
_RETRYABLE = frozenset({429, 502, 503, 504})
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timeout"),
    (socket.gaierror, "unknown_host"),
    (ssl.SSLCertVerificationError, "untrusted"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (ssl.SSLError, "reset"),
    (HTTPException, "not_http"),
)
_ADVICE = {
    "untrusted": "shows a certificate that is not trusted. Write exporters.OTLP(..., certificate=\"ca.pem\").",
    "not_http": "does not answer in HTTP. If that is its gRPC port, write exporters.OTLP(..., protocol=\"grpc\").",
}  # fmt: skip


class Http:
    """A `Wire` over HTTP. Nothing is redirected, inflated, taken from `~/.netrc` or sent through a proxy."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._trust = _trust(target) if target.endpoint.scheme == "https" else None
        self._lookup = Lookup()
        self._connection: HTTPConnection | None = None
        self._socket: _TimedSocket | None = None
        self._headers = {
            "host": target.endpoint.authority,
            "user-agent": USER_AGENT,
            **dict(target.headers),
            "content-type": "application/x-protobuf",
        }
        if target.gzip:
            self._headers["content-encoding"] = "gzip"

    def send(self, body: bytes, limit: float) -> Reply:
        """Post an encoded request and return by `limit` what became of it."""
        if self._target.gzip:
            body = gzip.compress(body, compresslevel=6, mtime=0)
        kept = self._connection is not None
        reply = self._attempt(body, limit)
        if kept and reply.reason == "reset":
            # Servers close idle connections as they like; that says nothing about the next one.
            reply = self._attempt(body, limit)
        return reply

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()

    def disown(self) -> None:
        """Close our copy of the parent's socket, which says nothing to the other side."""
        self._lookup = Lookup()
        self.close()

    def _attempt(self, body: bytes, limit: float) -> Reply:
        try:
            return self._exchange(body, limit)
        except ForbiddenAddressError:
            self.close()
            return Reply(reason="forbidden_address")
        except (OSError, HTTPException) as error:
            self.close()
            reason = next((reason for kind, reason in _FAULTS if isinstance(error, kind)), "network")
            if reason in _ADVICE:
                where = self._target.endpoint.shown
                tell(f"otlp:{reason}:{where}", f"{where} {_ADVICE[reason]}")
            return Reply(reason=reason, retry_after=0.0)
        except BaseException:
            # An exchange that was broken off, by Ctrl-C say, leaves a connection that is of no use.
            self.close()
            raise

    def _exchange(self, body: bytes, limit: float) -> Reply:
        if self._connection is None or self._socket is None:
            self._connection, self._socket = self._connect(limit)
        connection = self._connection
        self._socket.limit = limit
        try:
            connection.request("POST", self._target.endpoint.path, body, self._headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse a request before it has read all of it; its answer (413) is worth reading.
            self._socket.limit = min(limit, monotonic() + 1.0)
        response = connection.getresponse()
        answer = _read(response)
        reply = _judge(response, answer)
        if answer is None or not response.isclosed() or response.will_close:
            self.close()
        return reply

    def _connect(self, limit: float) -> tuple[HTTPConnection, _TimedSocket]:
        endpoint = self._target.endpoint
        addresses = self._lookup.addresses(endpoint.host, limit)
        raw = None
        for waiting, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                raw = socket.create_connection((str(address), endpoint.port), _left(limit) / waiting)
                break
            except OSError:
                if waiting == 1:
                    raise
        assert raw is not None  # noqa: S101  # the last failure was raised
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.settimeout(_left(limit))
            if self._trust is not None:
                # The time-out of a handshake is for all of it, unlike that of reading.
                raw = self._trust.wrap_socket(raw, server_hostname=endpoint.host)
        except BaseException:
            raw.close()
            raise
        connection, timed = HTTPConnection(endpoint.host, endpoint.port), _TimedSocket(raw, limit)
        connection.sock = timed  # http.client uses its sendall, makefile and close alone
        return connection, timed


class _TimedSocket:
    """A socket on which everything ends by `limit`: the system's time-out is for one read, and starts anew at each."""

    def __init__(self, raw: socket.socket, limit: float) -> None:
        self._raw, self.limit = raw, limit

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self._raw.settimeout(_left(self.limit))
            left = left[self._raw.send(left[:_CHUNK]) :]

    def makefile(self, mode: str) -> io.BufferedReader:  # http.client passes it
        return io.BufferedReader(_TimedReader(self._raw, lambda: self.limit))

    def close(self) -> None:
        self._raw.close()


class _TimedReader(io.RawIOBase):
    """Reads from the socket; as with the standard library's own reader, the socket lives until this is closed too."""

    def __init__(self, raw: socket.socket, limit: Callable[[], float]) -> None:
        self._raw, self._limit = raw, limit
        self._inner = raw.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int | None:
        self._raw.settimeout(_left(self._limit()))
        return self._inner.readinto(memoryview(buffer))

    def close(self) -> None:
        self._inner.close()
        super().close()


def _left(limit: float) -> float:
    left = limit - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(response: HTTPResponse) -> bytes | None:
    """Return the body, or None if there is more of it than we read or it does not come."""
    try:
        body = response.read(MAX_ANSWER)
    except (OSError, HTTPException):
        # The status line has said what became of the batch.
        return None
    return body if len(body) < MAX_ANSWER else None


def _judge(response: HTTPResponse, answer: bytes | None) -> Reply:
    status = response.status
    if 200 <= status < 300:
        readable = response.headers.get_content_type() == "application/x-protobuf"
        return Reply(answer=answer if readable and answer else b"")
    if status in _RETRYABLE:
        return Reply(reason=f"http_{status}", retry_after=_pause(response.headers.get("Retry-After")))
    return Reply(reason="too_large" if status == 413 else f"http_{status}")


def _pause(text: str | None) -> float:
    """Return the seconds a `Retry-After` header asks for; 0 for what is not to be understood, 300 at most."""
    if text is None:
        return 0.0
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return min(float(text[:20]), MAX_RETRY_AFTER)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time(), 0.0), MAX_RETRY_AFTER)
    except (TypeError, ValueError, OverflowError, OSError):
        return 0.0


def _trust(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=target.certificate)
        if target.client_certificate is not None:
            context.load_cert_chain(target.client_certificate, target.client_key)
    except (OSError, ValueError):
        files = ", ".join(filter(None, (target.certificate, target.client_certificate, target.client_key)))
        raise ConfigurationError(
            f"The PEM files {files} cannot be read as TLS needs them. Check path and format."
        ) from None
    return context
