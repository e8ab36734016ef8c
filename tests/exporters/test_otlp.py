"""`exporters.OTLP` over HTTP: every way in which a collector can answer, and what becomes of the records."""

import gzip
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import monotonic

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from otel_ml._delivery import DELIVERED, Delivers, Delivery, Parts
from otel_ml.exporters import OTLP
from otel_ml.exporters._http import Http
from otel_ml.exporters._otlp_settings import target_of
from otel_ml.exporters._wire import Reply
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, make_events, make_metrics, make_spans
from tests.stopwatch import stopwatch

SIGNALS = ("spans", "metrics", "events")
BATCHES = {"spans": make_spans(), "metrics": make_metrics(), "events": make_events()}
SIZES = {"spans": 3, "metrics": 6, "events": 3}


def soon(seconds: float = 5.0) -> float:
    """Return a deadline."""
    return monotonic() + seconds


def build(endpoint: str, **settings: object) -> Parts:
    """Return the three exporters for an endpoint."""
    return OTLP(endpoint, **settings).build(RESOURCE)  # type: ignore[arg-type]  # settings of each test


def shut_down(parts: Parts) -> None:
    """Close the connections of all three."""
    for part in (parts.spans, parts.metrics, parts.events):
        assert part is not None
        part.shutdown()


def deliver(parts: Parts, signal: str = "spans", seconds: float = 5.0) -> Delivery:
    """Try once to deliver the batch of one signal."""
    return deliver_batch(parts, BATCHES[signal], signal, seconds)


def deliver_batch(parts: Parts, batch: object, signal: str = "spans", seconds: float = 5.0) -> Delivery:
    """Try once to deliver a batch."""
    part = getattr(parts, signal)
    assert isinstance(part, Delivers)
    return part.deliver(batch, soon(seconds))  # type: ignore[arg-type]  # the batch of that signal


def deliver_once(collector: FaultCollector, signal: str = "spans", **settings: object) -> Delivery:
    """Build, deliver one batch, shut down."""
    parts = build(collector.endpoint, **settings)
    try:
        return deliver(parts, signal)
    finally:
        shut_down(parts)


class TestDelivery:
    def test_all_three_signals_arrive_as_they_were(self) -> None:
        """What a collector decodes is what the SDK recorded."""
        with FaultCollector() as collector:
            for signal in SIGNALS:
                assert deliver_once(collector, signal) == DELIVERED

            assert [request.path for request in collector.requests] == ["/v1/traces", "/v1/metrics", "/v1/logs"]
            names = [span.name for span in BATCHES["spans"]]  # type: ignore[union-attr]  # spans
            assert [span.name for span in collector.spans] == names
            assert {metric.name for metric in collector.metrics} == {"count", "gauge", "explicit", "exponential"}
            assert [log.attributes[0].value.int_value for log in collector.logs] == [0, 1, 2]

    def test_one_connection_is_kept_for_many_batches(self) -> None:
        """Batches of one signal travel on one connection."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            assert [deliver(parts) for _ in range(5)] == [DELIVERED] * 5
            shut_down(parts)

            assert (len(collector.requests), collector.connections) == (5, 1)

    def test_an_idle_connection_that_was_closed_costs_nothing(self) -> None:
        """A collector that restarts between two batches gets the second one at the first try."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            assert deliver(parts) == DELIVERED
            collector.mode = "refused"
            collector.mode = "healthy"
            assert deliver(parts) == DELIVERED
            shut_down(parts)

            assert (len(collector.requests), collector.connections) == (2, 2)

    def test_compression(self) -> None:
        """With gzip the body is packed and says so; without, it is not."""
        with FaultCollector() as collector:
            assert deliver_once(collector, compression="gzip") == DELIVERED
            assert deliver_once(collector, compression="none") == DELIVERED

            packed, plain = collector.requests
            assert packed.headers["content-encoding"] == "gzip"
            assert "content-encoding" not in plain.headers
            assert packed.body == plain.body
            assert int(packed.headers["content-length"]) == len(gzip.compress(plain.body, 6, mtime=0))

    def test_nothing_is_sent_for_an_empty_batch(self) -> None:
        """An empty batch is delivered without a connection."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            assert deliver_batch(parts, []) == DELIVERED
            assert collector.connections == 0

    @pytest.mark.parametrize("signal", SIGNALS)
    def test_a_probe_sends_no_telemetry(self, signal: str) -> None:
        """A probe says what would become of a batch, and the collector sees an empty request."""
        with FaultCollector(401, times=1) as collector:
            part = getattr(build(collector.endpoint), signal)
            assert part.probe(soon()) == Delivery(0, "http_401")
            assert part.probe(soon()) == DELIVERED
            part.shutdown()
            assert [request.body for request in collector.requests] == [b"", b""]


def send_large(endpoint: str) -> float:
    """Send 60 MB until a deadline in 0.5 s, which is too soon; return the seconds it took."""
    wire = Http(target_of(OTLP(endpoint), "traces"))
    body = bytes(60_000_000)
    with stopwatch() as took:
        assert wire.send(body, monotonic() + 0.5) == Reply(reason="timeout", retry_after=0.0)
    return took.seconds


class TestRefusals:
    @pytest.mark.parametrize("signal", SIGNALS)
    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (301, "http_301"), (400, "http_400"), (401, "http_401"), (403, "http_403"), (404, "http_404"),
            (408, "http_408"), (413, "too_large"), (500, "http_500"), (501, "http_501"), (505, "http_505"),
        ],
    )  # fmt: skip
    def test_a_final_status_rejects_every_record(self, status: int, reason: str, signal: str) -> None:
        """What OTLP does not have tried again is settled: all records rejected, for a reason that says why.

        Of a request that is too large, or bad, a part may be accepted.
        """
        with FaultCollector(status) as collector:
            delivery = Delivery(SIZES[signal], reason, divisible=status in (400, 413))
            assert deliver_once(collector, signal) == delivery
            assert len(collector.requests) == 1

    def test_a_redirect_is_not_followed(self) -> None:
        """A redirect, to a login page say, is a loss and not a success."""
        with FaultCollector("redirect") as collector:
            assert deliver_once(collector) == Delivery(3, "http_302")
            assert [request.path for request in collector.requests] == ["/v1/traces"]

    @pytest.mark.parametrize("signal", SIGNALS)
    def test_partial_success_is_counted(self, signal: str) -> None:
        """Records that the collector says it has refused are rejected; the others were delivered."""
        with FaultCollector("partial_success", rejected=2) as collector:
            assert deliver_once(collector, signal) == Delivery(2, "partial_success")

    def test_no_more_is_rejected_than_was_sent(self) -> None:
        """A collector that claims to have refused more than it got cannot upset the account."""
        with FaultCollector("partial_success", rejected=1_000_000) as collector:
            assert deliver_once(collector) == Delivery(3, "partial_success")

    def test_a_refusal_before_the_request_was_read(self) -> None:
        """A collector that says 413 and hangs up in the middle of a large request is understood, and not tried again."""
        head = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with answering(head, hang_up=True) as port:
            wire = Http(target_of(OTLP(f"http://127.0.0.1:{port}"), "traces"))
            assert wire.send(bytes(60_000_000), soon()) == Reply(reason="too_large")

    def test_an_answer_in_another_language_is_not_read(self) -> None:
        """Only an answer that says it is protobuf is taken for one."""
        refusal = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=2))
        body = refusal.SerializeToString()
        for kind, delivery in (("application/x-protobuf", Delivery(2, "partial_success")), ("text/plain", DELIVERED)):
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            with answering(head.encode() + body) as port:
                parts = build(f"http://127.0.0.1:{port}")
                assert deliver(parts) == delivery
                shut_down(parts)

    @pytest.mark.parametrize("status", [200, 202, 204])
    def test_every_2xx_is_success(self, status: int) -> None:
        """Any 2xx accepts the batch."""
        with FaultCollector(status) as collector:
            assert deliver_once(collector) == DELIVERED


class TestRetries:
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_a_busy_collector_is_tried_again(self, status: int) -> None:
        """The four codes that OTLP has tried again are, at once or when the collector says."""
        with FaultCollector(status) as collector:
            assert deliver_once(collector) == Delivery(reason=f"http_{status}", retry_after=0.0)
        with FaultCollector(status, retry_after="17") as collector:
            assert deliver_once(collector) == Delivery(reason=f"http_{status}", retry_after=17.0)

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("0", 0.0), ("1.5", 1.5), (" 20 ", 20.0), ("3600", 300.0), ("9" * 400, 300.0), ("-5", 0.0), ("", 0.0),
            ("soon", 0.0), ("nan", 0.0), ("inf", 0.0), ("1e9", 0.0), ("Fri, 32 Foo 2026 99:99:99 GMT", 0.0),
            ("Fri, 01 Jan 1999 00:00:00 GMT", 0.0), ("Fri, 01 Jan 2999 00:00:00 GMT", 300.0), ("١٢", 0.0),
        ],
    )  # fmt: skip
    def test_retry_after(self, header: str, seconds: float) -> None:
        """Seconds and dates are understood, garbage counts as nothing, and nobody has us wait for more than 300 s."""
        with FaultCollector(503, retry_after=header) as collector:
            assert deliver_once(collector).retry_after == seconds

    def test_retry_after_a_date(self) -> None:
        """An HTTP date is a time to wait for."""
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        with FaultCollector(503, retry_after=date) as collector:
            assert deliver_once(collector).retry_after == pytest.approx(60, abs=2)

    @pytest.mark.parametrize(("mode", "reason"), [("refused", "refused"), ("reset", "reset"), ("no_reply", "reset")])
    @pytest.mark.parametrize("signal", SIGNALS)
    def test_a_broken_connection_is_tried_again(self, mode: str, reason: str, signal: str) -> None:
        """What fails before there is an answer loses nothing."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            assert deliver_once(collector, signal) == Delivery(reason=reason, retry_after=0.0)

    def test_a_host_that_does_not_exist(self) -> None:
        """A name that leads nowhere is tried again: DNS fails for a while, too."""
        parts = build("http://no-such-host.invalid:4318")
        assert deliver(parts) == Delivery(reason="unknown_host", retry_after=0.0)

    def test_a_server_that_does_not_speak_http(self, caplog: pytest.LogCaptureFixture) -> None:
        """A gRPC port, say, is tried again, and one line says what to type."""
        with answering(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00garbage\r\n\r\n") as port:
            parts = build(f"http://127.0.0.1:{port}")
            assert deliver(parts) == Delivery(reason="not_http", retry_after=0.0)
            shut_down(parts)
        assert 'protocol="grpc"' in caplog.text


class TestDeadline:
    @pytest.mark.parametrize("mode", ["silent", "deaf", "drip"])
    @pytest.mark.parametrize("signal", SIGNALS)
    def test_a_collector_that_dawdles_holds_us_until_the_deadline(self, mode: str, signal: str) -> None:
        """However slowly a collector answers, the exchange ends by its deadline, and the batch is tried again."""
        with FaultCollector(mode, every=0.05) as collector:  # type: ignore[arg-type]  # one of its modes
            parts = build(collector.endpoint)
            with stopwatch() as took:
                assert deliver(parts, signal, seconds=0.5) == Delivery(reason="timeout", retry_after=0.0)
            assert took.elapsed > 0.4
            assert took.seconds < 1.0
            shut_down(parts)

    def test_the_time_out_is_for_the_whole_exchange(self) -> None:
        """The configured time-out ends an exchange whose deadline is further away."""
        with FaultCollector("drip", every=0.05) as collector:
            parts = build(collector.endpoint, timeout=0.3)
            with stopwatch() as took:
                assert deliver(parts, seconds=60).reason == "timeout"
            assert took.seconds < 1.0
            shut_down(parts)

    def test_a_collector_that_never_reads(self) -> None:
        """A request larger than the system's buffers ends by its deadline too."""
        with FaultCollector("deaf") as collector:
            assert send_large(collector.endpoint) < 1.0

    def test_a_collector_that_sips(self) -> None:
        """So does one of which a little is taken at a time: the time-out is not for each piece."""
        with answering(b"", sip=True) as port:
            assert send_large(f"http://127.0.0.1:{port}") < 1.0

    def test_a_deadline_in_the_past_connects_nowhere(self) -> None:
        """Nothing is begun that cannot end in time."""
        with FaultCollector() as collector:
            assert deliver(build(collector.endpoint), seconds=-1.0) == Delivery(reason="timeout", retry_after=0.0)
            assert collector.connections == 0

    def test_a_drip_of_status_lines_never_ends(self) -> None:
        """A body that drips after a 200 does not undo the 200, and does not hold us either."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        with answering(head, then=b".") as port:
            parts = build(f"http://127.0.0.1:{port}")
            with stopwatch() as took:
                assert deliver(parts, seconds=0.5) == DELIVERED
            assert took.seconds < 1.0
            shut_down(parts)

    @pytest.mark.parametrize("mode", ["huge", "bomb"])
    def test_a_giant_answer_is_not_read(self, mode: str) -> None:
        """Of 300 MB, packed or not, no more than 64 KB are read and nothing is inflated."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            parts = build(collector.endpoint)
            before = peak_kilobytes()
            assert deliver(parts) == DELIVERED
            assert peak_kilobytes() - before < 100_000
            assert collector.wait_for(lambda c: c.connections == 1)
            shut_down(parts)


class TestPrivacy:
    def test_netrc_and_proxies_are_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials of `~/.netrc` are not sent, and proxy variables are not followed."""
        (tmp_path / ".netrc").write_text(
            "machine 127.0.0.1 login bob password hunter2\ndefault login bob password hunter2\n"
        )
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        with FaultCollector("refused") as proxy, FaultCollector() as collector:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.endpoint)
            assert deliver_once(collector, headers={"x-tenant": "a"}) == DELIVERED
            assert "authorization" not in collector.requests[0].headers
            assert b"hunter2" not in collector.raw

    def test_the_users_headers_are_sent(self) -> None:
        """Headers arrive, without the white space that mounted secret files end in."""
        with FaultCollector() as collector:
            assert deliver_once(collector, headers={"Authorization": "Bearer abc\n", "x-tenant": " a "}) == DELIVERED
            sent = collector.requests[0].headers
            assert (sent["authorization"], sent["x-tenant"]) == ("Bearer abc", "a")
            assert (sent["user-agent"], sent["content-type"]) == ("otel_ml", "application/x-protobuf")

    def test_userinfo_becomes_basic_authentication(self) -> None:
        """A name and password in the address are sent as HTTP has them, and are not part of the path or host."""
        with FaultCollector() as collector:
            endpoint = collector.endpoint.replace("//", "//bob:p%40ss@")
            parts = build(endpoint)
            assert deliver(parts) == DELIVERED
            shut_down(parts)
            assert collector.requests[0].headers["authorization"] == "Basic Ym9iOnBAc3M="
            assert collector.requests[0].headers["host"] == f"127.0.0.1:{collector.port}"

    @pytest.mark.parametrize("mode", ["healthy", "refused", "reset", "redirect", 401, 500])
    def test_secrets_are_in_no_log(self, mode: str, caplog: pytest.LogCaptureFixture) -> None:
        """Whatever goes wrong, no log line at any level holds a header's value, a password or a query."""
        caplog.set_level("DEBUG")
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            endpoint = collector.endpoint.replace("//", "//bob:CANARY1@") + "/?token=CANARY2"
            exporter = OTLP(endpoint, headers={"x-api-key": "CANARY3"}, timeout=0.3)
            parts = exporter.build(RESOURCE)
            assert parts.spans is not None
            parts.spans.export(make_spans())
            shut_down(parts)
            assert "CANARY" not in caplog.text + repr(exporter) + exporter.describe() + repr(parts)


class TestStandalone:
    """The parts are standard exporters: they work in an app that never uses our decorators."""

    def test_with_the_official_processors_and_readers(self) -> None:
        """Spans, metrics and logs of an app's own providers arrive."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            assert parts.spans is not None
            assert parts.metrics is not None
            assert parts.events is not None
            tracers = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
            tracers.add_span_processor(BatchSpanProcessor(parts.spans))
            meters = MeterProvider([PeriodicExportingMetricReader(parts.metrics)], RESOURCE, shutdown_on_exit=False)
            loggers = LoggerProvider(RESOURCE, shutdown_on_exit=False)
            loggers.add_log_record_processor(BatchLogRecordProcessor(parts.events))

            with tracers.get_tracer("app").start_as_current_span("work"):
                meters.get_meter("app").create_counter("things").add(1)
                loggers.get_logger("app").emit(event_name="happened", attributes={"n": 1})
            assert tracers.force_flush()
            assert meters.force_flush()
            assert loggers.force_flush()
            tracers.shutdown()
            meters.shutdown()
            loggers.shutdown()

            assert [span.name for span in collector.spans] == ["work"]
            assert {metric.name for metric in collector.metrics} == {"things"}
            assert [log.event_name for log in collector.logs] == ["happened"]

    def test_export_tries_again(self) -> None:
        """`export` is `deliver` with retries: two failures are got over."""
        with FaultCollector(503, times=1, retry_after="0") as collector:
            parts = build(collector.endpoint)
            assert parts.spans is not None
            assert parts.spans.export(make_spans()) is SpanExportResult.SUCCESS
            shut_down(parts)
            assert (len(collector.requests), len(collector.spans)) == (2, 3)

    def test_export_gives_up_within_its_time_out(self, caplog: pytest.LogCaptureFixture) -> None:
        """With nobody there, `export` fails within the time-out and says so in one line."""
        with FaultCollector("refused") as collector:
            parts = build(collector.endpoint, timeout=0.5)
            assert parts.spans is not None
            assert parts.metrics is not None
            assert parts.events is not None
            with stopwatch() as took:
                assert parts.spans.export(make_spans()) is SpanExportResult.FAILURE
                assert parts.metrics.export(make_metrics()) is MetricExportResult.FAILURE
                assert parts.events.export(make_events()) is LogRecordExportResult.FAILURE
                assert parts.spans.export(make_spans()) is SpanExportResult.FAILURE
            assert took.seconds < 3.0
            shut_down(parts)
        assert [line.count("could not send a batch of") for line in caplog.messages] == [1, 1, 1]

    def test_shutdown_ends_a_wait_between_tries(self) -> None:
        """An `export` that waits to try again ends when another thread shuts the exporter down."""
        with FaultCollector(503, retry_after="5") as collector:
            parts = build(collector.endpoint)
            assert parts.spans is not None
            results: list[SpanExportResult] = []
            spans = parts.spans
            thread = threading.Thread(target=lambda: results.append(spans.export(make_spans())))
            thread.start()
            assert collector.wait_for(lambda c: len(c.requests) == 1)
            spans.shutdown()
            thread.join(2.0)
            assert results == [SpanExportResult.FAILURE]

    def test_nothing_is_sent_after_shutdown(self) -> None:
        """What comes after `shutdown` is counted as rejected for that reason."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            shut_down(parts)
            assert deliver(parts) == Delivery(3, "shutdown")
            assert collector.connections == 0

    def test_an_export_that_is_broken_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C in the middle of an exchange passes through, and the next batch is delivered."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            assert deliver(parts) == DELIVERED
            with monkeypatch.context() as patch:
                patch.setattr("otel_ml.exporters._http._judge", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    deliver(parts)
            assert deliver(parts) == DELIVERED
            shut_down(parts)
            assert (len(collector.requests), collector.connections) == (3, 2)

    def test_threads_take_turns(self) -> None:
        """Several threads that export at once, as SimpleSpanProcessor has them, each deliver their own batch."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            results: list[Delivery] = []
            threads = [threading.Thread(target=lambda: results.append(deliver(parts))) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10.0)
            shut_down(parts)
            assert results == [DELIVERED] * 8
            assert (len(collector.spans), collector.connections) == (24, 1)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_uses_a_connection_of_its_own(self) -> None:
        """A child that inherits an exporter neither writes into its parent's connection nor closes it."""
        with FaultCollector() as collector:
            parts = build(collector.endpoint)
            assert deliver(parts) == DELIVERED
            child = os.fork()
            if child == 0:
                os._exit(0 if deliver(parts) == DELIVERED else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert deliver(parts) == DELIVERED
            shut_down(parts)
            assert (len(collector.requests), collector.connections) == (3, 2)

    def test_building_connects_nowhere_and_starts_nothing(self) -> None:
        """`build` opens no connection and starts no thread."""
        with FaultCollector() as collector:
            before = threading.active_count()
            build(collector.endpoint)
            build(collector.endpoint, protocol="grpc")
            assert (collector.connections, threading.active_count()) == (0, before)

    def test_importing_the_exporter_imports_no_sdk(self) -> None:
        """The value itself is light: the SDK, encoders and gRPC are imported by `build`."""
        code = (
            "import sys; from otel_ml import exporters; exporters.OTLP('http://localhost:4318', protocol='grpc');"
            "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'grpc', 'google', 'requests'))])"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        assert ran.stdout == "[]\n"


def interrupt(*_: object) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


class answering:
    """A server that answers the first request with given bytes, and goes on with `then` ten times a second.

    With `sip` it first reads all of the request, a little at a time; with `hang_up` it closes after the answer.
    """

    def __init__(self, head: bytes, then: bytes = b"", *, sip: bool = False, hang_up: bool = False) -> None:
        self._head, self._then, self._sip, self._hang_up = head, then, sip, hang_up
        self._closing = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.close()
        self._thread.join(5.0)

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            try:
                while connection.recv(262_144) and self._sip and not self._closing.wait(0.01):
                    pass
                connection.sendall(self._head)
                while self._then and not self._closing.wait(0.1):
                    connection.sendall(self._then)
                self._closing.wait(0.0 if self._hang_up else 5.0)
            except OSError:
                return


def peak_kilobytes() -> int:
    """Return the most memory that this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
