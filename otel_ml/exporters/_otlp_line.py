"""One signal's way to its collector: encode, send, and say what became of every record."""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from random import SystemRandom
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ml._delivery import Delivery, Packed, Parcel
from otel_ml._shield import tell
from otel_ml.exporters._encode import body, pack
from otel_ml.exporters._grpc import Grpc
from otel_ml.exporters._http import Http

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml.exporters._wire import Reply, Signal, Target, Wire

    Batch = Sequence[ReadableSpan] | Sequence[ReadableLogRecord] | MetricsData

_FIRST_PAUSE = 1.0
# Loads what sockets look up by name: what a sender is importing when the program forks, the child could never import.
_CODECS = [codecs.lookup(name) for name in ("ascii", "idna")]
# Not `random`: numbers drawn from it would change what a user's seeded program draws.
_jitter = SystemRandom()


class Line:
    """Delivers one signal's batches, one at a time, whichever thread or process asks."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wire: Wire = Grpc(target) if target.protocol == "grpc" else Http(target)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    @property
    def destination(self) -> str:
        """A file name for what waits for this signal's collector: nothing is kept for one and sent to another."""
        target, endpoint = self._target, self._target.endpoint
        # A digest of the credentials too: what one tenant left must not be sent as another's. They cannot be had from it.
        told = repr((target.protocol, endpoint.scheme, endpoint.authority, endpoint.path, sorted(target.headers),
                     target.certificate, target.client_certificate))  # fmt: skip
        digest = blake2b(told.encode(), digest_size=12, person=b"otel_ml spool").hexdigest()
        return f"{target.signal}-{digest}"

    def deliver(self, batch: Batch, deadline: float) -> Delivery:
        """Try once, until `deadline` or for as long as the time-out says, whichever is sooner."""
        packed = self.pack(batch)
        if not packed.parcels:
            return Delivery(packed.rejected, "encoding" if packed.rejected else "")
        delivery = self.send(packed.parcels, deadline)
        if delivery.retry_after is not None or not packed.rejected:
            return delivery
        return replace(delivery, rejected=delivery.rejected + packed.rejected, reason=delivery.reason or "encoding")

    def pack(self, batch: Batch) -> Packed:
        """Encode a batch; never raises."""
        return pack(self._target.signal, batch)

    def send(self, parcels: Sequence[Parcel], deadline: float) -> Delivery:
        """Try once to send what is encoded already."""
        limit = min(deadline, monotonic() + self._target.timeout)
        count = sum(parcel.count for parcel in parcels)
        if self._closed.is_set():
            return Delivery(count, "shutdown")
        self._leave_parent()
        if not self._lock.acquire(timeout=max(0.0, limit - monotonic())):
            return Delivery(reason="timeout", retry_after=0.0)
        try:
            return self._settled(self._wire.send(body(parcels), limit), count)
        finally:
            self._lock.release()
            if self._closed.is_set():
                self.shutdown()

    def probe(self, deadline: float) -> Delivery:
        """Send an empty request, which every collector accepts, to see what would become of a batch."""
        return self.send((), deadline)

    def export(self, batch: Batch, seconds: float | None = None) -> bool:
        """Try, and try again, within the time-out; True if every record was accepted."""
        limit = monotonic() + min(self._target.timeout, seconds if seconds is not None else self._target.timeout)
        pause = _FIRST_PAUSE
        while (delivery := self.deliver(batch, limit)).retry_after is not None:
            wait = max(delivery.retry_after, pause * _jitter.uniform(0.8, 1.2))
            if monotonic() + wait >= limit or self._closed.wait(wait):
                break
            pause *= 2
        if delivery.retry_after is None and not delivery.rejected:
            return True
        signal, where = self._target.signal, self._target.endpoint.shown
        lost = f"{delivery.rejected} records" if delivery.rejected else "a batch"
        tell(
            f"otlp:lost:{signal}:{delivery.reason}",
            f"otel_ml could not send {lost} of {signal} to {where} ({delivery.reason}). Type `otel-ml doctor` to see why.",
        )
        return False

    def shutdown(self) -> None:
        """Close the connection, at once or as soon as the exchange on it has ended."""
        self._closed.set()
        if self._pid == os.getpid() and self._lock.acquire(blocking=False):
            try:
                self._wire.close()
            finally:
                self._lock.release()

    def _leave_parent(self) -> None:
        # After a fork the connection is the parent's, and a lock that another thread held stays locked for ever.
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._wire.disown()

    def _settled(self, reply: Reply, count: int) -> Delivery:
        if reply.retry_after is not None:
            return Delivery(reason=reply.reason, retry_after=reply.retry_after)
        if reply.answer is None:
            return Delivery(count, reply.reason, divisible=reply.reason in _DIVISIBLE)
        refused = min(_rejected(self._target.signal, reply.answer), count)
        return Delivery(refused, "partial_success" if refused else "")


# A server that says so may accept the same records in smaller requests, or all but the one it cannot read.
_DIVISIBLE = frozenset({"too_large", "http_400", "http_422", "grpc_INVALID_ARGUMENT", "grpc_RESOURCE_EXHAUSTED"})


class _Answer(Protocol):
    def ParseFromString(self, data: bytes, /) -> int: ...  # noqa: N802  # protobuf's own name


def _rejected(signal: Signal, answer: bytes) -> int:
    """Return how many records a collector that accepted the request says it has refused."""
    kind, count = _ANSWERS[signal]
    parsed = cast("_Answer", kind())
    try:
        parsed.ParseFromString(answer)
    except Exception:  # the collector has accepted the request, whatever it answers
        return 0
    return max(0, int(getattr(getattr(parsed, "partial_success"), count)))  # noqa: B009  # a field the three have


_ANSWERS: dict[Signal, tuple[type[object], str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}
