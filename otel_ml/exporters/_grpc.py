"""OTLP over gRPC: the same encoded bytes, through grpcio's own channel."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol, cast

from otel_ml.errors import ConfigurationError, MissingExtraError
from otel_ml.exporters._wire import MAX_RETRY_AFTER, USER_AGENT, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_ml.exporters._wire import Signal, Target

_METHODS: dict[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_INFO, _STATUS = "google.rpc.error_details_pb2", "google.rpc.status_pb2"
# What OTLP's specification has tried again; RESOURCE_EXHAUSTED only if the server says when.
_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})


# Where a fork finds a thread inside gRPC, gRPC skips its own fork handlers, and its core aborts the child, whether that
# uses gRPC or not ("Check failed: next_worker->state == KICKED"; 11 of 150 children, gRPC 1.85, with a collector that does
# not answer). So a fork waits for a moment, in which calls that are under way are cancelled; they are tried again after it.
_gate = threading.Lock()
_under_way: set[_Future] = set()
_PATIENCE, _LOOK_AGAIN = 0.5, 0.001
_waited: list[bool] = []


def _before_fork() -> None:
    _waited.append(_gate.acquire(timeout=_PATIENCE))
    for call in list(_under_way):
        call.cancel()
    limit = monotonic() + _PATIENCE
    while _under_way and monotonic() < limit:
        sleep(_LOOK_AGAIN)
    if "grpc" in sys.modules:
        # The thread in which gRPC waits for answers leaves it right after it has told of the last one.
        sleep(_LOOK_AGAIN)


def _in_parent() -> None:
    if _waited.pop():
        _gate.release()


def _in_child() -> None:
    global _gate
    _gate = threading.Lock()
    _waited.clear()
    _under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child, after_in_parent=_in_parent)


class Grpc:
    """A `Wire` over gRPC. The channel is made by the thread that sends first."""

    def __init__(self, target: Target) -> None:
        try:
            # Here and not where they are used: what a thread of ours is importing when the program forks, the child can
            # never import, for it waits for a thread that it does not have.
            for name in ("grpc", _INFO, _STATUS):
                import_module(name)
        except ImportError:
            raise MissingExtraError(
                'protocol="grpc" needs gRPC, which is not installed. Type: pip install opentelemetry-exporter-otlp-proto-grpc'
            ) from None
        self._target = target
        self._files = tuple(map(_content, (target.certificate, target.client_key, target.client_certificate)))
        self._channel: _Channel | None = None

    def send(self, body: bytes, limit: float) -> Reply:
        """Call the collector's Export and return by `limit` what became of it."""
        grpc = import_module("grpc")
        left = limit - monotonic()
        if left <= 0:
            return Reply(reason="timeout", retry_after=0.0)
        metadata = [(name, value) for name, value in self._target.headers if name != "user-agent"]
        with _gate:
            if self._channel is None:
                self._channel = self._open()
            call = self._channel.unary_unary(_METHODS[self._target.signal]).future(body, left, metadata)
            _under_way.add(call)
        try:
            return Reply(answer=call.result())
        except grpc.FutureCancelledError:
            return Reply(reason="grpc_CANCELLED", retry_after=0.0)
        except grpc.RpcError as error:
            reply = _judge(cast("_RpcError", error))
            if reply.reason == "grpc_UNAVAILABLE":
                # A failed channel waits up to two minutes before it connects again; a new one does not.
                self.close()
            return reply
        finally:
            _under_way.discard(call)

    def close(self) -> None:
        """Close the channel."""
        with _gate:
            channel, self._channel = self._channel, None
            if channel is not None:
                channel.close()

    def disown(self) -> None:
        """Forget the parent's channel, which gRPC itself has closed in the child."""
        self._channel = None

    def _open(self) -> _Channel:
        grpc = import_module("grpc")
        target = self._target
        agent = dict(target.headers).get("user-agent", USER_AGENT)
        options = [
            ("grpc.primary_user_agent", agent),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        compression = grpc.Compression.Gzip if target.gzip else grpc.Compression.NoCompression
        where = target.endpoint.authority
        if target.endpoint.scheme == "http":
            return cast("_Channel", grpc.insecure_channel(where, options, compression))
        trust = grpc.ssl_channel_credentials(*self._files)
        return cast("_Channel", grpc.secure_channel(where, trust, options, compression))


class _Future(Protocol):
    def result(self) -> bytes: ...

    def cancel(self) -> object: ...


class _Call(Protocol):
    def future(self, request: bytes, timeout: float, metadata: Sequence[tuple[str, str]], /) -> _Future: ...


class _Channel(Protocol):
    # Without serializers, requests and answers are bytes.
    def unary_unary(self, method: str, /) -> _Call: ...

    def close(self) -> None: ...


class _Code(Protocol):
    @property
    def name(self) -> str: ...


class _RpcError(Protocol):
    def code(self) -> _Code: ...

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...


def _judge(error: _RpcError) -> Reply:
    code = error.code().name
    pause = _pause(dict(error.trailing_metadata() or ()))
    if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and pause is not None):
        return Reply(reason=f"grpc_{code}", retry_after=min(pause or 0.0, MAX_RETRY_AFTER))
    return Reply(reason=f"grpc_{code}")


def _pause(metadata: dict[str, str | bytes]) -> float | None:
    """Return the seconds that the server's RetryInfo asks for, or None without one."""
    info = import_module(_INFO).RetryInfo()
    status = import_module(_STATUS).Status()
    try:
        bare = metadata.get("google.rpc.retryinfo-bin")
        if isinstance(bare, bytes):
            info.ParseFromString(bare)
        else:
            details = metadata.get("grpc-status-details-bin")
            status.ParseFromString(details if isinstance(details, bytes) else b"")
            if not any(detail.Unpack(info) for detail in status.details):
                return None
        return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    except Exception:  # what a server sends may be no RetryInfo at all
        return None


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError:
        raise ConfigurationError(f"The PEM file {path} cannot be read. Check path and permissions.") from None
