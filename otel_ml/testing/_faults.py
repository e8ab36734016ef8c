"""A collector on this machine that misbehaves as it is told, and remembers what reached it."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

from otel_ml.errors import ConfigurationError
from otel_ml.testing._replies import Manner, Mode, accepts, answer, check, reset
from otel_ml.testing._requests import Request, Stream, read_request

if TYPE_CHECKING:
    import ssl

    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class FaultCollector:
    """An OTLP/HTTP collector on a free loopback port, for tests of what your program does when its collector fails.

    `mode` is a status code to answer with (`429`, with `retry_after` as its header) or one of

    - `"healthy"`: accepts everything
    - `"refused"`: nothing listens on the port
    - `"silent"`: takes a request and never answers; `"deaf"`: accepts the connection and never reads
    - `"drip"`: answers one byte every three seconds (`every`), for ever
    - `"reset"`: resets the connection in the middle of a request; `"no_reply"`: closes it after the request
    - `"ack_lost"`: accepts the request and closes the connection without a word, so that it is sent again
    - `"redirect"`: 302 to a place of no use
    - `"partial_success"`: accepts the request and says that `rejected` records of it were not taken
    - `"huge"`: accepts, with an answer of 300 MB; `"bomb"`: with 300 KB that inflate to 300 MB

    With `times=2` it misbehaves for two requests and is healthy from then on. `mode` may be set while it runs: setting
    `"refused"` and `"healthy"` stops and restarts it on the same port. `tls` is a server's `ssl.SSLContext`.

    Whatever would accept a request is choosy where asked to be: with `max_bytes` it answers 413 to bodies that are
    larger (inflated), with `poison` 400 to bodies that hold these bytes. It answers after `delay` seconds.

    `spans`, `metrics` and `logs` are what was accepted, decoded (`opentelemetry.proto` messages); `requests` is all that
    arrived whole, and `raw` its bytes (inflated), to look for what should not have left your program.

    >>> with FaultCollector(503) as collector:
    ...     collector.endpoint  # for exporters.OTLP(collector.endpoint)
    'http://127.0.0.1:...'
    """

    def __init__(
        self,
        mode: Mode | int = "healthy",
        *,
        times: int | None = None,
        retry_after: str | None = None,
        rejected: int = 7,
        every: float = 3.0,
        delay: float = 0.0,
        max_bytes: int | None = None,
        poison: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check(mode)
        if poison == b"":
            raise ConfigurationError('Every request holds b"". Write FaultCollector(poison=b"a record\'s name").')
        self._mode: Mode | int = mode
        self._times, self._max_bytes, self._poison = times, max_bytes, poison
        self._retry_after, self._rejected, self._every, self._delay = retry_after, rejected, every, delay
        self._tls = tls
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0

    @property
    def endpoint(self) -> str:
        """The address to give to an exporter."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def mode(self) -> Mode | int:
        """How it behaves towards the next request."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode | int) -> None:
        check(mode)
        before, self._mode, self._times = self._mode, mode, None
        if "refused" in (before, mode) and before != mode and self._server is not None:
            self._stop()
            self._start()

    @property
    def spans(self) -> list[Span]:
        """Every span accepted, in order of arrival."""
        return [span for request in self._accepted() for span in request.spans]

    @property
    def metrics(self) -> list[Metric]:
        """Every metric accepted, once for each time it arrived."""
        return [metric for request in self._accepted() for metric in request.metrics]

    @property
    def logs(self) -> list[LogRecord]:
        """Every event and log record accepted, in order of arrival."""
        return [log for request in self._accepted() for log in request.logs]

    @property
    def raw(self) -> bytes:
        """Everything that arrived: request lines, headers and inflated bodies."""
        return b"\n".join(request.raw for request in list(self.requests))

    def wait_for(self, seen: Callable[[Self], bool], timeout: float = 5.0) -> bool:
        """Wait until `seen(collector)` is true; False if it is not within `timeout` seconds."""
        limit = monotonic() + timeout
        with self._changed:
            while not seen(self):
                if monotonic() >= limit:
                    return False
                self._changed.wait(min(0.05, limit - monotonic()))
        return True

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    # ------------------------------------------------------------------------------------- the server
    def _start(self) -> None:
        self._closing = threading.Event()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", self.port))
        self._server, self.port = server, server.getsockname()[1]
        if self._mode == "refused":
            # Bound but not listening: connections are refused, and nobody else gets the port.
            return
        server.listen(128)
        self._run(self._accept, server, self._closing)

    def _stop(self) -> None:
        self._closing.set()
        if self._server is not None:
            # A connection of our own ends the wait in `accept`, on every system.
            with socket.socket() as wake:
                wake.connect_ex(self._server.getsockname())
        for connection in list(self._open):
            _unblock(connection)
        for thread in list(self._threads):
            thread.join(5.0)
        self._threads.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="fault-collector", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()]
        thread.start()
        self._threads.append(thread)

    def _accept(self, server: socket.socket, closing: threading.Event) -> None:
        while not closing.is_set():
            connection, _ = server.accept()
            if closing.is_set():
                connection.close()
                return
            self.connections += 1
            self._open.add(connection)
            self._run(self._serve, connection, closing)

    def _serve(self, raw: socket.socket, closing: threading.Event) -> None:
        connection = raw
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(raw, server_side=True)
                self._open.add(connection)
            with connection, connection.makefile("rb") as stream:
                while not closing.is_set() and self._exchange(connection, stream, closing):
                    pass
        except (OSError, ValueError, zlib.error):
            return  # the other side left, or sent what is no request, or we are closing
        finally:
            raw.close()
            self._open -= {raw, connection}

    def _exchange(self, connection: socket.socket, stream: Stream, closing: threading.Event) -> bool:
        """Deal with one request; True if the connection may bring another."""
        if self._mode == "deaf":
            return not closing.wait()
        if self._mode == "reset" and stream.read(1):
            self._misbehaved()
            return reset(connection)
        try:
            request = read_request(stream)
        except ValueError:
            # Another protocol, gRPC's HTTP/2 say, meets the same silence.
            return self._mode == "silent" and not closing.wait()
        if request is None:
            return False
        with self._changed:
            mode = self._mode_for(request)
            request.accepted = accepts(mode)
            self.requests.append(request)
            self._misbehaved()
            self._changed.notify_all()
        if self._delay and closing.wait(self._delay):
            return False
        manner = Manner(self._retry_after, self._rejected, self._every, f"{self.endpoint}/elsewhere")
        return answer(connection, request, mode, manner, closing)

    def _mode_for(self, request: Request) -> Mode | int:
        """Return how to behave towards a request, which one that would be accepted has to deserve."""
        if accepts(self._mode):
            if self._max_bytes is not None and len(request.body) > self._max_bytes:
                return 413
            if self._poison is not None and self._poison in request.body:
                return 400
        return self._mode

    def _misbehaved(self) -> None:
        if self._times is not None:
            self._times -= 1
            if self._times <= 0:
                self._mode, self._times = "healthy", None

    def _accepted(self) -> list[Request]:
        return [request for request in list(self.requests) if request.accepted]


def _unblock(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already
