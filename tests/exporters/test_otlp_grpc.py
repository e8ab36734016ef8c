"""`exporters.OTLP` over gRPC, against a real gRPC server."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_ml._delivery import DELIVERED, Delivers, Delivery, Parts
from otel_ml.errors import MissingExtraError
from otel_ml.exporters import OTLP
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, make_events, make_metrics, make_spans
from tests.stopwatch import stopwatch

SIGNALS = ("spans", "metrics", "events")
SPANS = make_spans()
BATCHES = {"spans": SPANS, "metrics": make_metrics(), "events": make_events()}
SIZES = {"spans": 3, "metrics": 6, "events": 3}
METHODS = {"spans": "trace.v1.Trace", "metrics": "metrics.v1.Metrics", "events": "logs.v1.Logs"}

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class Calls(grpc.GenericRpcHandler):
    """Keeps what was called, and answers with a function of the test's."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            self.seen.append((details.method, metadata, request))
            return self.answer(request, context)

        return grpc.unary_unary_rpc_method_handler(call)


@contextmanager
def serving(answer: Answer, port: int = 0) -> Iterator[tuple[str, Calls]]:
    """Run a gRPC server on a free loopback port."""
    calls = Calls(answer)
    server = grpc.server(ThreadPoolExecutor(2), handlers=[calls])
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", calls
    finally:
        server.stop(None).wait(5.0)


def accept(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Accept everything."""
    return b""


def fail(code: grpc.StatusCode, *trailing: tuple[str, bytes]) -> Answer:
    """Fail every call."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(trailing)
        context.abort(code, "as told")
        raise AssertionError

    return answer


def build(endpoint: str, **settings: object) -> Parts:
    """Return the three exporters for an endpoint."""
    return OTLP(endpoint, protocol="grpc", **settings).build(RESOURCE)  # type: ignore[arg-type]  # settings of each test


def deliver(parts: Parts, signal: str = "spans", seconds: float = 5.0) -> Delivery:
    """Try once to deliver the batch of one signal."""
    part = getattr(parts, signal)
    assert isinstance(part, Delivers)
    return part.deliver(BATCHES[signal], monotonic() + seconds)  # type: ignore[arg-type]  # the batch of that signal


def deliver_once(endpoint: str, signal: str = "spans", **settings: object) -> Delivery:
    """Build, deliver one batch, shut down."""
    parts = build(endpoint, **settings)
    try:
        return deliver(parts, signal)
    finally:
        getattr(parts, signal).shutdown()


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_arrives(signal: str) -> None:
    """Each signal goes to its own service, with the user's headers and the very bytes that HTTP has."""
    with serving(accept) as (endpoint, calls):
        assert deliver_once(endpoint, signal, headers={"X-Tenant": "a"}) == DELIVERED
        ((method, metadata, request),) = calls.seen
        assert method == f"/opentelemetry.proto.collector.{METHODS[signal]}Service/Export"
        assert metadata["x-tenant"] == "a"
        assert metadata["user-agent"].startswith("otel_ml ")
        if signal == "spans":
            assert request == encode_spans(SPANS).SerializeToString()


def test_compression() -> None:
    """Compressed calls arrive as the same bytes."""
    with serving(accept) as (endpoint, calls):
        assert deliver_once(endpoint, compression="gzip") == DELIVERED
        assert deliver_once(endpoint) == DELIVERED
        assert calls.seen[0][2] == calls.seen[1][2]


RETRYABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
FINAL = (
    "UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL", "UNAUTHENTICATED",
)  # fmt: skip


class TestStatus:
    @pytest.mark.parametrize("code", RETRYABLE)
    def test_what_is_tried_again(self, code: str) -> None:
        """The codes that OTLP has tried again are."""
        with serving(fail(grpc.StatusCode[code])) as (endpoint, _):
            assert deliver_once(endpoint) == Delivery(reason=f"grpc_{code}", retry_after=0.0)

    @pytest.mark.parametrize("code", FINAL)
    @pytest.mark.parametrize("signal", SIGNALS)
    def test_what_is_final(self, code: str, signal: str) -> None:
        """Every other code rejects all records; of a request that is too large, or bad, a part may be accepted."""
        divisible = code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
        with serving(fail(grpc.StatusCode[code])) as (endpoint, _):
            assert deliver_once(endpoint, signal) == Delivery(SIZES[signal], f"grpc_{code}", divisible=divisible)

    @pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
    @pytest.mark.parametrize(
        ("asked", "seconds"), [(Duration(seconds=7, nanos=500_000_000), 7.5), (Duration(seconds=9_999), 300.0)]
    )
    @pytest.mark.parametrize("how", ["details", "bare"])
    def test_the_pause_that_the_server_asks_for(self, code: str, asked: Duration, seconds: float, how: str) -> None:
        """RetryInfo says for how long to wait, up to 300 s; with it, RESOURCE_EXHAUSTED is tried again too."""
        info = RetryInfo(retry_delay=asked)
        packed = AnyMessage()
        packed.Pack(info)
        status = Status(code=grpc.StatusCode[code].value[0], details=[packed]).SerializeToString()
        trailing = (
            ("grpc-status-details-bin", status)
            if how == "details"
            else ("google.rpc.retryinfo-bin", info.SerializeToString())
        )
        with serving(fail(grpc.StatusCode[code], trailing)) as (endpoint, _):
            assert deliver_once(endpoint) == Delivery(reason=f"grpc_{code}", retry_after=seconds)

    @pytest.mark.parametrize("details", [b"\xff\xff\xffgarbage", Status(code=8).SerializeToString()])
    def test_details_that_say_nothing(self, details: bytes) -> None:
        """Garbage, or details without RetryInfo, are as good as none."""
        answer = fail(grpc.StatusCode.RESOURCE_EXHAUSTED, ("grpc-status-details-bin", details))
        with serving(answer) as (endpoint, _):
            assert deliver_once(endpoint) == Delivery(3, "grpc_RESOURCE_EXHAUSTED", divisible=True)

    def test_partial_success(self) -> None:
        """Records that the collector says it has refused are counted, for every signal."""
        traces, metrics, logs = (
            ExportTraceServiceResponse(),
            ExportMetricsServiceResponse(),
            ExportLogsServiceResponse(),
        )
        traces.partial_success.rejected_spans = 1
        metrics.partial_success.rejected_data_points = 2
        logs.partial_success.rejected_log_records = 3
        for signal, refused, response in (("spans", 1, traces), ("metrics", 2, metrics), ("events", 3, logs)):
            answer = response.SerializeToString()
            with serving(lambda *_, answer=answer: answer) as (endpoint, _):
                assert deliver_once(endpoint, signal) == Delivery(refused, "partial_success")

    def test_an_answer_that_is_none(self) -> None:
        """A collector that accepts and answers garbage has accepted."""
        with serving(lambda *_: b"\xff\xff\xff") as (endpoint, _):
            assert deliver_once(endpoint) == DELIVERED


class TestFaults:
    @pytest.mark.parametrize("mode", ["silent", "deaf"])
    def test_a_silent_port_holds_us_until_the_deadline(self, mode: str) -> None:
        """A port that takes the connection and says nothing is tried again, after no more than the deadline."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            with stopwatch() as took:
                delivery = deliver_within(collector.endpoint, 0.5)
                assert delivery.retry_after == 0.0
            assert took.elapsed > 0.3
            assert took.seconds < 2.0

    def test_a_server_that_never_answers(self) -> None:
        """So is a server that speaks gRPC and does not answer."""
        done = threading.Event()

        def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
            done.wait(10.0)
            return b""

        with serving(wait) as (endpoint, _):
            with stopwatch() as took:
                assert deliver_within(endpoint, 0.5) == Delivery(reason="grpc_DEADLINE_EXCEEDED", retry_after=0.0)
            assert took.seconds < 2.0
            done.set()

    @pytest.mark.parametrize("mode", ["refused", "reset", "no_reply"])
    def test_a_broken_connection_is_tried_again(self, mode: str) -> None:
        """What fails before there is an answer loses nothing."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            assert deliver_within(collector.endpoint, 3.0) == Delivery(reason="grpc_UNAVAILABLE", retry_after=0.0)

    def test_a_server_that_comes_back_is_found_at_once(self) -> None:
        """After a refused connection the next try connects anew, instead of waiting out gRPC's own pause."""
        with FaultCollector("refused") as nobody:
            port = nobody.port
            parts = build(nobody.endpoint)
            for _ in range(3):
                assert deliver(parts).reason == "grpc_UNAVAILABLE"
        with serving(accept, port) as (_, calls):
            assert deliver(parts, seconds=2.0) == DELIVERED
            assert len(calls.seen) == 1
            shut_down(parts)

    def test_proxies_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Proxy variables, which gRPC follows by default, are not followed."""
        with FaultCollector("refused") as proxy, serving(accept) as (endpoint, _):
            for name in ("grpc_proxy", "http_proxy", "https_proxy"):
                monkeypatch.setenv(name, proxy.endpoint)
            assert deliver_once(endpoint) == DELIVERED

    def test_export_tries_again(self) -> None:
        """`export` is `deliver` with retries over gRPC as well."""
        left = [grpc.StatusCode.UNAVAILABLE]

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if left:
                context.abort(left.pop(), "not yet")
            return b""

        with serving(answer) as (endpoint, calls):
            spans = build(endpoint).spans
            assert spans is not None
            assert spans.export(make_spans()) is SpanExportResult.SUCCESS
            spans.shutdown()
            assert len(calls.seen) == 2


class TestProcess:
    def test_no_channel_before_the_first_batch(self) -> None:
        """`build` connects nowhere and starts no thread, and neither does shutting down what was never used."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.2)
            # A server of another test's may just be ending.
            before = set(threading.enumerate())
            parts = build(f"http://127.0.0.1:{server.getsockname()[1]}")
            shut_down(parts)
            assert set(threading.enumerate()) <= before
            with pytest.raises(TimeoutError):
                server.accept()

    def test_nothing_is_sent_after_shutdown(self) -> None:
        """What comes after `shutdown` is counted as rejected for that reason."""
        with serving(accept) as (endpoint, calls):
            parts = build(endpoint)
            assert deliver(parts) == DELIVERED
            shut_down(parts)
            assert deliver(parts) == Delivery(3, "shutdown")
            assert len(calls.seen) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_forked_children_use_channels_of_their_own(self) -> None:
        """Children that inherit an exporter in use deliver through a new channel, and leave their parent's working."""
        program = textwrap.dedent("""
            import os, sys
            from tests.exporters.test_otlp_grpc import DELIVERED, build, deliver
            parts = build(sys.argv[1])
            assert deliver(parts) == DELIVERED
            for _ in range(5):
                child = os.fork()
                if child == 0:
                    os._exit(0 if deliver(parts) == DELIVERED else 1)
                assert os.waitpid(child, 0)[1] == 0
            assert deliver(parts) == DELIVERED
        """)
        with serving(accept) as (endpoint, calls):
            ran = subprocess.run([sys.executable, "-c", program, endpoint], capture_output=True, text=True, timeout=60)
            assert (ran.returncode, ran.stderr) == (0, "")
            assert len(calls.seen) == 7

    def test_without_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where gRPC is not installed, `build` says what to type."""
        monkeypatch.setitem(sys.modules, "grpc", None)
        with pytest.raises(MissingExtraError, match="Type: pip install opentelemetry-exporter-otlp-proto-grpc"):
            build("http://localhost:4317")


def deliver_within(endpoint: str, seconds: float) -> Delivery:
    """Build, deliver one batch within a deadline, shut down."""
    parts = build(endpoint)
    try:
        return deliver(parts, seconds=seconds)
    finally:
        shut_down(parts)


def shut_down(parts: Parts) -> None:
    """Close the channels of all three."""
    for part in (parts.spans, parts.metrics, parts.events):
        assert part is not None
        part.shutdown()
