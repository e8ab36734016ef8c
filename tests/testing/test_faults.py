"""`otel_ml.testing.FaultCollector` misbehaves as it is told, as seen by a plain HTTP client."""

import gzip
import http.client
import socket
import threading
from time import monotonic

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_ml.errors import ConfigurationError
from otel_ml.testing import FaultCollector
from otel_ml.testing._replies import Manner, answer
from otel_ml.testing._requests import Request
from tests.otlp_records import make_spans
from tests.stopwatch import beating

BODY = encode_spans(make_spans()).SerializeToString()


def post(
    collector: FaultCollector, path: str = "/v1/traces", body: bytes = BODY, timeout: float = 5.0, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """Post a request and read all of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=timeout)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_healthy_keeps_what_arrives() -> None:
    """What was sent can be read back decoded, and as it came."""
    with FaultCollector() as collector:
        response, answer = post(collector, canary="bird")
        assert (response.status, answer) == (200, b"")
        assert [span.name for span in collector.spans] == ["span 1", "span 2", "span 0"]
        assert (collector.metrics, collector.logs) == ([], [])
        assert b"canary: bird" in collector.raw
        assert BODY in collector.raw


def test_packed_requests_are_inflated() -> None:
    """A gzip body is kept inflated, so that one can look for text in it."""
    with FaultCollector() as collector:
        post(collector, body=gzip.compress(BODY), **{"Content-Encoding": "gzip"})
        assert collector.requests[0].body == BODY


def test_chunked_requests() -> None:
    """A body of unknown length is read too."""
    with FaultCollector() as collector:
        connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=5)
        connection.request("POST", "/v1/traces", iter([BODY[:10], BODY[10:]]), encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
        assert len(collector.spans) == 3


@pytest.mark.parametrize("status", [204, 400, 413, 429, 500, 503])
def test_status_codes(status: int) -> None:
    """A number is a status to answer with; only 2xx accepts what arrived."""
    with FaultCollector(status, retry_after="3600") as collector:
        response, _ = post(collector)
        assert (response.status, response.headers["Retry-After"]) == (status, "3600")
        assert len(collector.requests) == 1
        assert len(collector.spans) == (3 if status == 204 else 0)


def test_redirect() -> None:
    """A redirect leads back to the collector, so that whoever follows it is seen."""
    with FaultCollector("redirect") as collector:
        response, _ = post(collector)
        assert (response.status, response.headers["Location"]) == (302, f"{collector.endpoint}/elsewhere")


@pytest.mark.parametrize(
    ("path", "kind", "count"),
    [
        ("/v1/traces", ExportTraceServiceResponse, "rejected_spans"),
        ("/v1/metrics", ExportMetricsServiceResponse, "rejected_data_points"),
        ("/v1/logs", ExportLogsServiceResponse, "rejected_log_records"),
    ],
)
def test_partial_success(path: str, kind: type, count: str) -> None:
    """The answer says, in each signal's own words, how many records were not taken."""
    with FaultCollector("partial_success", rejected=5) as collector:
        response, answer = post(collector, path, b"")
        assert response.status == 200
        assert getattr(kind.FromString(answer).partial_success, count) == 5  # type: ignore[attr-defined]  # protobuf's own


def test_refused() -> None:
    """Nobody listens, and nobody else can take the port."""
    with FaultCollector("refused") as collector:
        with pytest.raises(ConnectionRefusedError):
            post(collector)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", collector.port))


@pytest.mark.parametrize("mode", ["silent", "deaf"])
def test_silent_and_deaf(mode: str) -> None:
    """A connection is accepted and never answered; only `silent` reads the request."""
    with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
        with pytest.raises(TimeoutError):
            post(collector, timeout=0.2)
        assert len(collector.requests) == (1 if mode == "silent" else 0)
        assert collector.spans == []


def test_drip() -> None:
    """The answer comes byte by byte and never ends."""
    with (
        FaultCollector("drip", every=0.01) as collector,
        socket.create_connection(("127.0.0.1", collector.port)) as raw,
    ):
        raw.settimeout(5)
        raw.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        answer = b""
        while len(answer) < 40:
            byte = raw.recv(1)
            assert byte
            answer += byte
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nX-Drip: ....")


@pytest.mark.parametrize(("mode", "seen"), [("reset", 0), ("no_reply", 1)])
def test_broken_connections(mode: str, seen: int) -> None:
    """The connection is reset before the request is read, or closed after it."""
    with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
        with pytest.raises(ConnectionResetError):
            post(collector)
        assert len(collector.requests) == seen
        assert collector.spans == []


def test_a_lost_acknowledgement() -> None:
    """With `ack_lost` what was sent is kept and the sender hears nothing; it sends again, and is told."""
    with FaultCollector("ack_lost", times=1) as collector:
        with pytest.raises(ConnectionResetError):
            post(collector)
        assert len(collector.spans) == 3
        assert post(collector)[0].status == 200
        assert len(collector.spans) == 6


def test_a_limit_of_size() -> None:
    """With `max_bytes` a larger request is refused with 413, packed or not, and a smaller one is accepted."""
    with FaultCollector(max_bytes=len(BODY)) as collector:
        assert post(collector)[0].status == 200
        assert post(collector, body=BODY + BODY)[0].status == 413
        assert post(collector, body=gzip.compress(BODY + BODY), **{"Content-Encoding": "gzip"})[0].status == 413
        assert len(collector.requests) == 3
        assert len(collector.spans) == 3


def test_poison() -> None:
    """With `poison` a request that holds it is refused whole with 400, packed or not, and another is accepted."""
    with FaultCollector(poison=b"span 1") as collector:
        assert post(collector)[0].status == 400
        assert post(collector, body=gzip.compress(BODY), **{"Content-Encoding": "gzip"})[0].status == 400
        assert post(collector, body=BODY.replace(b"span 1", b"span 9"))[0].status == 200
        assert sorted(span.name for span in collector.spans) == ["span 0", "span 2", "span 9"]


def test_a_choosy_collector_may_misbehave_besides() -> None:
    """Size and poison matter where a request would be accepted; other modes answer as they do."""
    with FaultCollector(503, max_bytes=1, poison=b"span", times=1) as collector:
        assert [post(collector)[0].status for _ in range(2)] == [503, 413]
        collector.mode = "ack_lost"
        assert post(collector)[0].status == 413
        assert collector.spans == []


def test_poison_that_is_everywhere_is_refused() -> None:
    """No bytes at all are in every request."""
    with pytest.raises(ConfigurationError, match=r"Write FaultCollector\(poison="):
        FaultCollector(poison=b"")


def test_a_slow_collector() -> None:
    """With `delay` the answer comes that much later than the request; when requests came is kept."""
    with FaultCollector(delay=0.3) as collector:
        began = monotonic()
        assert post(collector)[0].status == 200
        assert monotonic() - began >= 0.3
        assert post(collector)[0].status == 200
        first, second = collector.requests
        assert began <= first.arrived <= second.arrived - 0.3


def test_bomb() -> None:
    """A small answer inflates to 300 MB."""
    with FaultCollector("bomb") as collector:
        response, answer = post(collector)
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(answer) < 400_000
        assert int.from_bytes(answer[-4:], "little") == 1 << 20
        assert answer.count(b"\x1f\x8b\x08") >= 300


def test_huge() -> None:
    """A large answer is announced, and sent for as long as somebody reads."""
    with FaultCollector("huge") as collector:
        connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=5)
        connection.request("POST", "/v1/traces", BODY)
        response = connection.getresponse()
        assert response.headers["Content-Length"] == str(300 * 1024 * 1024)
        assert len(response.read(5_000_000)) == 5_000_000
        connection.close()


def test_it_recovers_after_so_many_faults() -> None:
    """With `times=2` the third request is accepted."""
    with FaultCollector(503, times=2) as collector:
        assert [post(collector)[0].status for _ in range(4)] == [503, 503, 200, 200]
        assert len(collector.spans) == 6


def test_an_outage_on_the_same_port() -> None:
    """Setting the mode stops and restarts it where it was."""
    with FaultCollector() as collector:
        port = collector.port
        assert post(collector)[0].status == 200
        collector.mode = "refused"
        with pytest.raises(ConnectionRefusedError):
            post(collector)
        collector.mode = 503
        assert post(collector)[0].status == 503
        collector.mode = "healthy"
        assert post(collector)[0].status == 200
        assert collector.port == port


def test_waiting() -> None:
    """`wait_for` returns as soon as something was seen, or False when the time is over."""
    with FaultCollector() as collector:
        assert collector.wait_for(lambda c: len(c.spans) == 3, timeout=0.05) is False
        thread = threading.Thread(target=post, args=(collector,))
        thread.start()
        assert collector.wait_for(lambda c: len(c.spans) == 3) is True
        thread.join()


@pytest.mark.parametrize("mode", ["healthy", "refused", "silent", "deaf", "drip", "slow"])
def test_it_leaves_nothing_behind(mode: str) -> None:
    """On leaving, its threads have ended and its port is free, whatever it was doing."""
    before = threading.active_count()
    slow = mode == "slow"
    with beating() as pulse:
        with FaultCollector("healthy" if slow else mode, delay=60.0 if slow else 0.0) as collector:  # type: ignore[arg-type]  # one of its modes
            idle = socket.socket()
            idle.connect_ex(("127.0.0.1", collector.port))
            if mode not in ("refused", "deaf", "healthy"):
                idle.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
                assert collector.wait_for(lambda c: len(c.requests) == 1)
            began = monotonic()
        assert pulse.since(began) < 2.0
    assert threading.active_count() == before
    idle.close()
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", collector.port)) != 0


def test_what_is_no_request_is_dropped() -> None:
    """Garbage closes its connection, and the collector goes on."""
    with FaultCollector() as collector:
        for garbage in (
            b"\r\n\r\n",
            b"GARBAGE\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
        ):
            with socket.create_connection(("127.0.0.1", collector.port), timeout=5) as raw:
                raw.sendall(garbage)
                raw.shutdown(socket.SHUT_WR)
                assert raw.recv(100) == b""
        assert post(collector)[0].status == 200


@pytest.mark.parametrize("mode", ["ill", 199, 600])
def test_a_wrong_mode_is_refused(mode: str | int) -> None:
    """A mode that does not exist is refused, here and later."""
    with pytest.raises(ConfigurationError, match="Write a status code or one of healthy, refused"):
        FaultCollector(mode)  # type: ignore[arg-type]  # wrong on purpose
    with FaultCollector() as collector, pytest.raises(ConfigurationError):
        collector.mode = mode  # type: ignore[assignment]  # wrong on purpose


def test_whoever_is_refused_is_told_nothing() -> None:
    """A request that was under way when the collector began to refuse is not answered as if it were kept."""
    here, there = socket.socketpair()
    with here, there:
        request = Request("/v1/traces", {}, b"", b"")
        assert answer(there, request, "refused", Manner(None, 0, 1.0, ""), threading.Event()) is False
        there.close()
        assert here.recv(100) == b""
