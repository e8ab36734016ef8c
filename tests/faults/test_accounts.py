"""Promise 10: what is lost is counted, with the reason, and what is counted is what the receiver has seen."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Iterator
from time import monotonic

import pytest

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.places import otlp
from tests.faults.watching import SIGNALS, Watch, watched
from tests.stopwatch import stopwatch

pytestmark = pytest.mark.faults

SLACK = 0.25
# Refused for good, and what the account says then.
FINAL = {
    "redirect": "http_302", 400: "http_400", 401: "http_401", 403: "http_403", 404: "http_404", 408: "http_408",
    413: "too_large", 500: "http_500",
}  # fmt: skip
# Tried again until it is accepted.
PASSING = ("refused", "silent", "deaf", "drip", "reset", "no_reply", "ack_lost", 429, 502, 503, 504)
ACCEPTING = ("healthy", "huge", "bomb", 202)


def arrived(collector: FaultCollector) -> dict[str, int]:
    """Return how many spans and events were accepted, each counted once."""
    return {"spans": len({span.span_id for span in collector.spans}), "events": len(collector.logs)}


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    """Nothing is sent any more when a test is over, and its collector gone."""
    yield
    otel_ml.shutdown(0.0)


@pytest.fixture(params=["disk", "memory"])
def kept_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be delivered at once is kept on disk, as by default, or in memory alone."""
    if request.param == "memory":
        monkeypatch.setenv("OTEL_ML_SPOOL", "none")


@pytest.mark.usefixtures("kept_in")
class TestEveryMoment:
    @pytest.mark.parametrize("mode", PASSING)
    def test_nothing_is_lost_and_every_account_adds_up(self, mode: str) -> None:
        """While a collector fails in this way and recovers: created is delivered, dropped or held, and all arrives."""
        with FaultCollector(mode, every=0.05) as collector:  # type: ignore[arg-type]  # one of its modes
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint, timeout=0.2)])
            with watched(telemetry, collector) as watch:
                watch.record(600)
                with stopwatch() as took:
                    assert not telemetry.flush(0.15)
                assert took.seconds < 0.15 + SLACK
                watch.record(20)
                collector.mode = "healthy"
                watch.record(20)
                watch.settle()

            for account in watch.accounts().values():
                assert (account.delivered, account.dropped) == (640, {})
            assert arrived(collector)["spans"] == 640
            # Events have no ids; one whose acknowledgement was lost has arrived twice.
            assert arrived(collector)["events"] >= 640

    @pytest.mark.parametrize("mode", FINAL)
    def test_what_is_refused_is_counted_with_its_reason(self, mode: str) -> None:
        """Everything that reached a collector that refuses is dropped for that reason; the rest is delivered."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                watch.record(40)
                watch.settle()
                assert (collector.spans, collector.logs) == ([], [])
                collector.mode = "healthy"
                watch.record(50)
                watch.settle()

            for account in watch.accounts().values():
                assert (account.delivered, account.dropped) == (50, {FINAL[mode]: 40})  # type: ignore[index]  # a mode
            assert arrived(collector) == {"spans": 50, "events": 50}
            assert {request.path for request in collector.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}

    def test_what_is_refused_in_part_is_counted(self) -> None:
        """Of each request that a collector says it took in part, so many records are dropped."""
        with FaultCollector("partial_success", rejected=7) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                for count in (3, 40, 7):
                    watch.record(count)
                    watch.settle()

            for signal, account in watch.accounts().items():
                sizes = [len(one.spans if signal == "spans" else one.logs) for one in collector.requests]
                refused = sum(min(7, size) for size in sizes)
                assert (account.delivered, account.dropped) == (50 - refused, {"partial_success": refused})

    @pytest.mark.parametrize("mode", ACCEPTING)
    def test_what_is_accepted_is_delivered(self, mode: str) -> None:
        """Whatever a collector says besides, what it accepts is delivered, once."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                watch.record(600)
                watch.settle()

            assert [account.delivered for account in watch.accounts().values()] == [600, 600]
            assert arrived(collector) == {"spans": 600, "events": 600}
            assert otel_ml.health().ok

    def test_what_does_not_fit_is_counted(self) -> None:
        """Of more than the queues hold, for a collector that never answers, what does not fit is dropped and counted."""
        with FaultCollector("silent") as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            with watched(telemetry, collector) as watch:
                watch.record(30_000)

            telemetry.shutdown(0.2)
            for account in watch.ended().values():
                assert (account.delivered, account.queued) == (0, 0)
                assert account.created == 30_000

    def test_points_are_counted_too(self) -> None:
        """Points that a collector refuses are dropped, each time; those that it accepts are delivered."""
        with FaultCollector(401) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            counter = telemetry.meter_provider.get_meter("own").create_counter("own")
            for kind in "abc":
                counter.add(1, {"kind": kind})
            telemetry.flush()
            collector.mode = "healthy"
            assert telemetry.flush()

            account = telemetry.health().exporters[0].signals["metrics"]
            refused, taken = (points(collector, accepted=accepted) for accepted in (False, True))
            assert refused >= 3
            assert taken >= 3
            assert (account.delivered, account.dropped, account.queued) == (taken, {"http_401": refused}, 0)


def points(collector: FaultCollector, *, accepted: bool) -> int:
    """Return how many points were in the requests that were accepted, or in the others."""
    return sum(
        len(getattr(metric, metric.WhichOneof("data")).data_points)
        for request in collector.requests
        if request.accepted is accepted
        for metric in request.metrics
    )


class TestFlush:
    @pytest.mark.parametrize("mode", ["redirect", 400, 401, 500, "partial_success"])
    def test_it_does_not_say_that_what_was_refused_is_delivered(self, mode: str) -> None:
        """True is for what was delivered alone; what is refused meanwhile is lost, and False says so."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            Watch(telemetry, collector).record(10)

            assert telemetry.flush(5.0) is False
            assert telemetry.health().dropped

    def test_what_was_lost_earlier_does_not_count(self) -> None:
        """Once a collector takes everything again, a flush says True, whatever was lost before it."""
        with FaultCollector(400) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            watch = Watch(telemetry, collector)
            watch.record(10)
            watch.settle()
            collector.mode = "healthy"
            watch.record(10)

            assert telemetry.flush(5.0) is True


class TestTwoCollectors:
    def test_each_has_an_account_of_its_own(self) -> None:
        """What one collector refuses, another one has received; both accounts are right."""
        with FaultCollector(401) as closed, FaultCollector() as healthy:
            telemetry = otel_ml.configure(exporters=[otlp(closed.endpoint), otlp(healthy.endpoint)])
            Watch(telemetry, healthy).record(30)
            telemetry.flush()

            first, second = (one.signals for one in telemetry.health().exporters)
            for signal in SIGNALS:
                assert (first[signal].delivered, first[signal].dropped) == (0, {"http_401": 30})
                assert (second[signal].delivered, second[signal].dropped) == (30, {})
            assert (arrived(closed), arrived(healthy)) == ({"spans": 0, "events": 0}, {"spans": 30, "events": 30})


class TestLog:
    def test_six_hundred_losses_are_a_few_lines(self, caplog: pytest.LogCaptureFixture) -> None:
        """Of 600 batches that are lost for all sorts of reasons, each reason is told once, and all in 20 lines."""
        caplog.set_level(logging.DEBUG, logger="otel_ml")
        began = monotonic()
        with FaultCollector() as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            watch = Watch(telemetry, collector)
            for number in range(300):
                collector.mode = [400, 401, 500, "redirect", "partial_success"][number % 5]  # type: ignore[assignment]  # a mode
                watch.record(1)
                telemetry.flush(5.0)

            lost = sum(sum(account.dropped.values()) for account in watch.accounts().values())
            assert lost == 600
        assert 0 < len(caplog.messages) <= 20
        if monotonic() - began < 60.0:
            told = Counter(message.partition(";")[0] for message in caplog.messages)
            assert max(told.values()) == 1, told

    def test_an_outage_is_a_few_lines(self, caplog: pytest.LogCaptureFixture) -> None:
        """However a collector cannot be reached, and however often it is tried, there are at most three lines."""
        caplog.set_level(logging.DEBUG, logger="otel_ml")
        with FaultCollector("refused") as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint, timeout=0.1)])
            watch = Watch(telemetry, collector)
            for mode in ("refused", "reset", "no_reply", 503, "silent"):
                collector.mode = mode  # type: ignore[assignment]  # one of its modes
                for _ in range(20):
                    watch.record(5)
                    telemetry.flush(0.05)

        assert len(caplog.messages) <= 3, caplog.messages


@pytest.mark.usefixtures("kept_in")
class TestFaultsAtRandom:
    @pytest.mark.parametrize(
        ("seed", "seconds"),
        [(1, 2.0), pytest.param(None, 30.0, marks=pytest.mark.slow)],
    )
    def test_accounts_add_up_whatever_happens(
        self, seed: int | None, seconds: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two threads record while faults come and go in any order: the account is right all along and at the end."""
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        seed = random.randrange(1_000_000) if seed is None else seed
        print(f"seed {seed}")
        chance, over = random.Random(seed), threading.Event()
        modes = [*PASSING, *FINAL, *ACCEPTING, "partial_success", *["healthy"] * 10]
        with FaultCollector(every=0.02, rejected=3, delay=0.002) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint, timeout=0.2)])
            with watched(telemetry, collector) as watch:

                def keep_recording() -> None:
                    while not over.wait(0.02):
                        watch.record(10)

                threads = [threading.Thread(target=keep_recording) for _ in range(2)]
                for thread in threads:
                    thread.start()
                limit = monotonic() + seconds
                try:
                    while monotonic() < limit:
                        collector.mode = chance.choice(modes)  # type: ignore[assignment]  # one of its modes
                        collector.wait_for(lambda _: False, chance.uniform(0.02, 0.4))
                        if chance.random() < 0.3:
                            wait = chance.choice((0.0, 0.1))
                            with stopwatch() as took:
                                telemetry.flush(wait)
                            assert took.seconds < wait + SLACK
                finally:
                    over.set()
                    for thread in threads:
                        thread.join()
                collector.mode = "healthy"
                watch.settle(40.0)

            assert set(watch.accounts()["spans"].dropped) <= {*FINAL.values(), "partial_success"}
            spans = watch.accounts()["spans"]
            assert spans.created == watch.done
            # One may have arrived without our hearing of it, and be refused when it is sent again.
            refused = sum(count for reason, count in spans.dropped.items() if reason != "partial_success")
            assert watch.done - refused <= arrived(collector)["spans"]
