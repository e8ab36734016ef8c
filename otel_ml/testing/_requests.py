"""A request of OTLP over HTTP as a collector sees it: read from a socket, and decoded when somebody looks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_LINE = 65_536


class Stream(Protocol):
    """What a request is read from."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


@dataclass
class Request:
    """One request that arrived whole: its head as it came, its headers in lower case, its body inflated.

    `arrived` is when its last byte was read, on `time.monotonic()`.
    """

    path: str
    headers: dict[str, str]
    head: bytes
    body: bytes
    accepted: bool = False
    arrived: float = field(default_factory=monotonic)

    @property
    def raw(self) -> bytes:
        """Everything that arrived, as text would be looked for in it."""
        return self.head + self.body

    @cached_property
    def spans(self) -> list[Span]:
        """The spans in it; none if it is of another signal."""
        request = ExportTraceServiceRequest.FromString(self.body if self.path.endswith("/v1/traces") else b"")
        return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics in it; none if it is of another signal."""
        request = ExportMetricsServiceRequest.FromString(self.body if self.path.endswith("/v1/metrics") else b"")
        return [
            one for resource in request.resource_metrics for scope in resource.scope_metrics for one in scope.metrics
        ]

    @cached_property
    def logs(self) -> list[LogRecord]:
        """The events and log records in it; none if it is of another signal."""
        request = ExportLogsServiceRequest.FromString(self.body if self.path.endswith("/v1/logs") else b"")
        return [one for resource in request.resource_logs for scope in resource.scope_logs for one in scope.log_records]

    def answer(self, rejected: int) -> bytes:
        """Return the body of a 200 for this request, saying that `rejected` of its records were not taken."""
        traces, metrics, logs = (
            ExportTraceServiceResponse(),
            ExportMetricsServiceResponse(),
            ExportLogsServiceResponse(),
        )
        if not rejected:
            return b""
        if self.path.endswith("/v1/traces"):
            traces.partial_success.rejected_spans = rejected
            return bytes(traces.SerializeToString())
        if self.path.endswith("/v1/metrics"):
            metrics.partial_success.rejected_data_points = rejected
            return bytes(metrics.SerializeToString())
        logs.partial_success.rejected_log_records = rejected
        return bytes(logs.SerializeToString())


def read_request(stream: Stream) -> Request | None:
    """Read one request; None if the other side closes the connection before it is whole, ValueError if it is none."""
    first = stream.readline(MAX_LINE)
    lines = [first]
    while lines[-1] not in (b"\r\n", b"\n", b""):
        lines.append(stream.readline(MAX_LINE))
    if lines[-1] == b"":
        return None
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.decode("latin-1").partition(":") for line in lines[1:-1])
    }
    path = first.decode("latin-1").partition(" ")[2].partition(" ")[0].partition("?")[0]
    if not path.startswith("/"):
        raise ValueError("not a request of HTTP/1.1")
    body = _read_body(stream, headers)
    if body is None:
        return None
    if headers.get("content-encoding") == "gzip":
        body = zlib.decompress(body, wbits=31)
    return Request(path, headers, b"".join(lines), body)


def _read_body(stream: Stream, headers: dict[str, str]) -> bytes | None:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        length = int(headers.get("content-length", "0"))
        body = stream.read(length)
        return body if len(body) == length else None
    chunks: list[bytes] = []
    while size := int(stream.readline(MAX_LINE).partition(b";")[0] or b"0", 16):
        chunks.append(stream.read(size))
        stream.readline(MAX_LINE)
    while stream.readline(MAX_LINE) not in (b"\r\n", b"\n", b""):
        pass
    return b"".join(chunks)
