"""The network fails in every way it knows: promises 3, 7 and 10 from where a program stands, one fault at a time."""

import logging
import os
import shutil
import ssl
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.places import otlp
from tests.faults.running import Ended, run
from tests.faults.watching import Watch, watched
from tests.stopwatch import stopwatch

pytestmark = pytest.mark.faults

SLACK, EXIT = 0.25, 2.0
BATCH = 512
HOURS = ("3600", "9" * 30, "Fri, 01 Jan 2999 00:00:00 GMT")


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    """Nothing is sent any more when a test is over, and its collector gone."""
    yield
    otel_ml.shutdown(0.0)


def gaps(collector: FaultCollector) -> list[float]:
    """Return the seconds between a request that was not accepted and the next one of its signal."""
    of_signal = defaultdict(list)
    for request in collector.requests:
        of_signal[request.path].append(request)
    return [
        after.arrived - before.arrived
        for requests in of_signal.values()
        for before, after in pairwise(requests)
        if not before.accepted
    ]


def drained(telemetry: otel_ml.Telemetry) -> bool:
    """Say whether nothing is held any more, in memory or on disk."""
    (exporter,) = telemetry.health().exporters
    return not any(account.queued + account.spooled for account in exporter.signals.values())


class TestRetryAfter:
    @pytest.mark.parametrize("header", ["1", "1.5", "date"])
    def test_a_collector_is_not_asked_earlier_than_it_wants_to_be(self, header: str) -> None:
        """After 429 with Retry-After no request of that signal comes before its time, and then everything is delivered."""
        until = datetime.now(UTC) + timedelta(seconds=3)
        text = format_datetime(until, usegmt=True) if header == "date" else header
        with FaultCollector(429, times=3, retry_after=text) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            Watch(telemetry, collector).record(100)
            limit = monotonic() + 20.0
            while not telemetry.flush(0.3):
                assert monotonic() < limit
                collector.wait_for(lambda _: False, 0.02)

            # A date is of whole seconds, and was written a moment before the first answer.
            least = 1.0 if header == "date" else float(header)
            assert len(gaps(collector)) == 3
            assert min(gaps(collector)) >= least
            assert len(collector.spans) == len(collector.logs) == 100

    @pytest.mark.parametrize("header", ["garbage", "-5", "1e9", "Fri, 01 Jan 1999 00:00:00 GMT", ""])
    def test_what_cannot_be_understood_counts_as_nothing(self, header: str) -> None:
        """Garbage and times that are over have a batch tried again after a pause of our own."""
        # Each of the three signals is refused about twice.
        with FaultCollector(429, times=6, retry_after=header) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            Watch(telemetry, collector).record(100)

            limit = monotonic() + 10.0
            while not telemetry.flush(1.0):
                assert monotonic() < limit
            assert len(collector.spans) == len(collector.logs) == 100
            assert max(gaps(collector)) < 5.0

    @pytest.mark.parametrize("header", HOURS)
    def test_a_long_wait_holds_nobody(self, header: str) -> None:
        """For a collector that asks for an hour neither calls nor flushes wait, and everything is counted."""
        with FaultCollector(429, retry_after=header) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                for wait in (0.5, 0.1, 0.5):
                    watch.record(100)
                    with stopwatch() as took:
                        assert telemetry.flush(wait) is False
                    assert took.seconds < wait + SLACK

            assert [account.created for account in watch.accounts().values()] == [300, 300]
            with stopwatch() as took:
                assert telemetry.shutdown(1.0) is False
            assert took.seconds < 1.0 + SLACK

    @pytest.mark.parametrize("header", HOURS)
    def test_a_collector_that_wants_an_hour_has_it(self, header: str) -> None:
        """After 429 with a long Retry-After there is no second request of that signal, however often one flushes."""
        with FaultCollector(429, retry_after=header) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            for _ in range(5):
                Watch(telemetry, collector).record(10)
                assert telemetry.flush(0.1) is False

            assert gaps(collector) == []


class TestOutage:
    @pytest.mark.parametrize(
        ("mode", "seconds"),
        [("refused", 1.0), ("no_reply", 1.0), (503, 1.0), pytest.param("refused", 60.0, marks=pytest.mark.slow)],
    )
    def test_a_restart_loses_nothing(self, mode: str, seconds: float) -> None:
        """A collector that is away for a while, at 100 spans a second, has everything afterwards, in order, and once."""
        with FaultCollector() as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                over = threading.Event()

                def keep_recording() -> None:
                    while not over.wait(0.1):
                        watch.record(10)

                thread = threading.Thread(target=keep_recording)
                thread.start()
                try:
                    assert collector.wait_for(lambda c: bool(c.spans), 10.0)
                    collector.mode = mode  # type: ignore[assignment]  # one of its modes
                    collector.wait_for(lambda _: False, seconds)
                    collector.mode = "healthy"
                finally:
                    over.set()
                    thread.join()
                watch.settle(40.0)

            arrived = [span.span_id for span in collector.spans]
            assert len(set(arrived)) == watch.done > 0
            assert len(arrived) - len(set(arrived)) <= BATCH
            first_seen = list(dict.fromkeys(arrived))
            began = {span.span_id: span.start_time_unix_nano for span in collector.spans}
            assert first_seen == sorted(first_seen, key=began.__getitem__)
            assert telemetry.health().dropped == 0

    @pytest.mark.parametrize("times", [1, 5])
    def test_a_lost_acknowledgement_costs_a_batch_twice(self, times: int) -> None:
        """What a collector took without saying so is sent again: all arrives, and counts as delivered once."""
        with FaultCollector("ack_lost", times=times) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                watch.record(700)
                watch.settle()

            assert [account.delivered for account in watch.accounts().values()] == [700, 700]
            arrived = [span.span_id for span in collector.spans]
            assert len(set(arrived)) == 700
            assert len(arrived) - 700 <= times * BATCH


@otel_ml.predict(model="nothing")
def nothing() -> None:
    """Do nothing, in no time."""


@pytest.mark.alone
class TestTime:
    @pytest.mark.parametrize("mode", ["ack_lost", "no_reply", 502, 504])
    def test_flush_and_shutdown_keep_to_theirs(self, mode: str) -> None:
        """With a collector that never confirms anything, both return in their time, with False."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            Watch(telemetry, collector).record(100)
            for verb in (telemetry.flush, telemetry.flush, telemetry.shutdown):
                with stopwatch() as took:
                    assert verb(0.4) is False
                assert took.seconds < 0.4 + SLACK

    def test_shutdown_keeps_to_its_time_with_much_to_keep(self) -> None:
        """However much is held for however many collectors that never answer, `shutdown` does not take longer."""
        with FaultCollector("silent") as collector:
            telemetry = otel_ml.configure(
                exporters=[otlp(collector.endpoint, headers={"x-tenant": str(number)}) for number in range(8)]
            )
            for _ in range(24_000):
                nothing()
            with stopwatch() as took:
                assert telemetry.shutdown(0.0) is False
            assert took.seconds < SLACK

    @pytest.mark.parametrize("spool", ["", "none"], ids=["disk", "memory"])
    def test_nothing_is_queued_after_shutdown(self, spool: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was held is on disk, or dropped and counted, when `shutdown` returns or a moment later."""
        monkeypatch.setenv("OTEL_ML_SPOOL", spool)
        with FaultCollector("silent") as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            watch = Watch(telemetry, collector)
            watch.record(20_000)
            telemetry.shutdown(0.5)

            for account in watch.ended().values():
                assert (account.queued, account.created) == (0, 20_000), account

    @pytest.mark.parametrize("mode", ["ack_lost", "partial_success", 403, 408, 413])
    def test_a_program_ends_in_two_seconds(self, mode: str, bare_environment: dict[str, str]) -> None:
        """Also with collectors that take without saying so, or refuse in ways that have us divide requests."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            ended = end(bare_environment, collector.endpoint)

        assert ended.code == 0, ended.err

    @pytest.mark.parametrize("choosy", [{"poison": b"own"}, {"max_bytes": 4_000}], ids=str)
    def test_a_program_ends_in_two_seconds_with_a_choosy_collector(
        self, choosy: dict[str, object], bare_environment: dict[str, str]
    ) -> None:
        """So it does where one record, or more than a few, have a request refused as a whole."""
        with FaultCollector(**choosy) as collector:  # type: ignore[arg-type]  # its options
            ended = end(bare_environment, collector.endpoint)

            assert collector.spans
        assert ended.code == 0, ended.err


def end(env: dict[str, str], endpoint: str, protocol: str = "http") -> Ended:
    """Run the program that records some of everything; it has to end in time, in the quickest of three."""
    asked = {"http": [], "grpc": [], "hanging": False, "official": [], "timeout": None, "how": "return"}
    for _ in range(3):
        ended = run("exiting", env, **(asked | {protocol: [endpoint]}))
        if ended.seconds <= EXIT:
            break
    assert ended.seconds <= EXIT, ended.err
    return ended


class TestNames:
    def resolve(self, env: dict[str, str], endpoint: str, **settings: object) -> Ended:
        """Run the program that sends to a name, and check what holds however that goes."""
        asked = {"seconds": None, "leads_to": "127.0.0.1", "flush": 0.4, "timeout": None} | settings
        ended = run("resolving", env, endpoint=endpoint, **asked)
        assert ended.code == 0, ended.err
        assert ended.seconds <= EXIT
        assert ended.said["answers"] == 4 * sum(range(100))
        assert all(wait < asked["flush"] + SLACK for wait in ended.said["waits"])  # type: ignore[operator, attr-defined]  # numbers
        # Its own, those of the exporter, and one for each of three signals that waits for a resolver.
        assert ended.said["threads"] <= 6  # type: ignore[operator]  # a number
        assert len(ended.err.splitlines()) <= 4, ended.err
        return ended

    def test_a_name_that_does_not_exist(self, bare_environment: dict[str, str]) -> None:
        """The program goes on, what was recorded is held, and it ends on time."""
        ended = self.resolve(bare_environment, "http://nothing.invalid:4318")

        assert ended.said["flushed"] == [False] * 4
        assert ended.said["spans"] == [400, 0, 400]

    def test_a_resolver_that_does_not_answer(self, bare_environment: dict[str, str]) -> None:
        """A look-up that takes minutes is begun once for a signal, and waited for by nobody."""
        ended = self.resolve(bare_environment, "http://collector.example:4318", seconds=300.0)

        assert ended.said["flushed"] == [False] * 4
        assert ended.said["spans"] == [400, 0, 400]
        assert ended.said["looked_up"] <= 3  # type: ignore[operator]  # a number

    def test_a_resolver_that_is_slow(self, bare_environment: dict[str, str]) -> None:
        """A look-up that takes longer than a time-out is used when it is done, by the next try."""
        with FaultCollector() as collector:
            ended = self.resolve(
                bare_environment,
                f"http://collector.example:{collector.port}",
                seconds=0.6,
                timeout=0.3,
                flush=3.0,
            )

            assert ended.said["flushed"][-1] is True  # type: ignore[index]  # a list
            assert len({span.span_id for span in collector.spans}) == 400
        assert ended.said["spans"] == [400, 400, 0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a collector serves with that nobody has reason to trust."""
    if shutil.which("openssl") is None:
        message = "openssl is not installed. Type: sudo apt-get install openssl"
        (pytest.fail if os.environ.get("OTEL_ML_REQUIRE_LIVE") == "1" else pytest.skip)(message)
    folder = tmp_path_factory.mktemp("pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "self.pem",
         "-subj", "/CN=nobody", "-days", "2"],
        cwd=folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "self.pem", folder / "key.pem")
    return context


class TestCertificates:
    def test_a_bad_certificate_gets_nothing(self, server: ssl.SSLContext, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing is sent to a collector that cannot show who it is; what is held is counted, and one line tells."""
        caplog.set_level(logging.DEBUG, logger="otel_ml")
        with FaultCollector(tls=server) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint, headers={"api-key": "secret"})])
            with watched(telemetry, collector) as watch:
                watch.record(100)
                for _ in range(3):
                    with stopwatch() as took:
                        assert telemetry.flush(0.5) is False
                    assert took.seconds < 0.5 + SLACK
                for account in watch.accounts().values():
                    assert account.queued + account.spooled == 100

            assert collector.connections > 0
            assert collector.requests == []
        assert len([line for line in caplog.messages if "certificate" in line]) == 1

    def test_a_program_ends_in_two_seconds(self, server: ssl.SSLContext, bare_environment: dict[str, str]) -> None:
        """The same at the end of a program."""
        with FaultCollector(tls=server) as collector:
            assert end(bare_environment, collector.endpoint).code == 0

            assert collector.requests == []


class TestProxies:
    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_neither_proxies_nor_netrc_are_used(
        self, protocol: str, bare_environment: dict[str, str], tmp_path: Path
    ) -> None:
        """With every variable for a proxy set, and credentials in ~/.netrc, telemetry goes straight, and as it is."""
        netrc = Path(bare_environment["HOME"]) / ".netrc"
        netrc.write_text("machine 127.0.0.1 login bob password hunter2\ndefault login bob password hunter2\n")
        netrc.chmod(0o600)
        with FaultCollector() as proxy, FaultCollector() as collector:
            names = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
            variables = {each: proxy.endpoint for name in names for each in (name, name.upper())}
            end(bare_environment | variables | {"NETRC": str(netrc)}, collector.endpoint, protocol)

            assert proxy.connections == 0
            # What speaks gRPC is no request to this collector, but it has come here.
            assert collector.connections > 0
            assert b"hunter2" not in collector.raw
            assert not any("authorization" in request.headers for request in collector.requests)
            if protocol == "http":
                assert len({span.span_id for span in collector.spans}) % 202 == 0 < len(collector.spans)
