"""Promise 3: a program ends on time, whatever its collectors do, and `flush` and `shutdown` keep to their time."""

from collections.abc import Iterator

import pytest

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults import foreign
from tests.faults.running import Ended, run
from tests.stopwatch import stopwatch

pytestmark = pytest.mark.faults

# Seconds from a program's last line to its end.
DEFAULT, HEALTHY = 2.0, 0.3
SLACK = 0.25
# Every way in which a collector can fail to take what it is sent.
DEAD = (
    "refused", "silent", "deaf", "drip", "reset", "no_reply", "redirect", "huge", "bomb", 429, 500, 502, 503, 504, 400, 401,
)  # fmt: skip
# Those that never let go of a connection.
HOLDING = ("silent", "deaf", "drip")


def end(env: dict[str, str], within: float = DEFAULT, **settings: object) -> Ended:
    """Run the program that records some of everything, and check that it ends within some seconds.

    The quickest of three: a machine with other work delays a program, but hastens none.
    """
    asked = {"http": [], "grpc": [], "hanging": False, "official": [], "timeout": None, "how": "return"} | settings
    for attempt in range(3):
        ended = run("exiting", env, **asked)
        if ended.seconds <= within:
            break
        print(f"attempt {attempt} took {ended.seconds:.2f} s to end")
    assert ended.seconds <= within, ended.err
    return ended


class TestDeadCollectors:
    @pytest.mark.parametrize("mode", DEAD)
    def test_a_program_ends_in_two_seconds(self, mode: str, bare_environment: dict[str, str]) -> None:
        """All signals, over HTTP and gRPC, to a collector that fails in this way."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            ended = end(bare_environment, http=[collector.endpoint], grpc=[collector.endpoint])

        assert ended.code == 0, ended.err

    @pytest.mark.parametrize("wait", ["1", "3600"])
    def test_a_program_does_not_wait_for_as_long_as_a_server_asks(
        self, wait: str, bare_environment: dict[str, str]
    ) -> None:
        """A server that asks for patience gets none at the end."""
        with FaultCollector(429, retry_after=wait) as collector:
            assert end(bare_environment, http=[collector.endpoint]).code == 0

    def test_exporters_of_others_that_hang_do_not_hold_up_the_end(self, bare_environment: dict[str, str]) -> None:
        """Standard exporters that never return from anything are left behind."""
        ended = end(bare_environment, hanging=True)

        assert ended.code == 0, ended.err

    def test_everything_at_once_ends_in_two_seconds(self, bare_environment: dict[str, str]) -> None:
        """Black holes over HTTP and gRPC, hanging exporters, official processors and readers, with long time-outs."""
        with FaultCollector("silent") as silent, FaultCollector("deaf") as deaf, FaultCollector("drip") as drip:
            ended = end(
                bare_environment,
                http=[silent.endpoint, deaf.endpoint, drip.endpoint],
                grpc=[silent.endpoint, deaf.endpoint],
                official=[silent.endpoint],
                hanging=True,
                timeout=60,
            )

        assert ended.code == 0, ended.err

    @pytest.mark.parametrize(("how", "code"), [("raise", 1), ("exit", 3), ("interrupt", -2)])
    def test_however_a_program_ends_it_ends_on_time(
        self, how: str, code: int, bare_environment: dict[str, str]
    ) -> None:
        """An uncaught exception, `sys.exit` and Ctrl-C end as they would without us."""
        with FaultCollector("silent") as collector:
            ended = end(bare_environment, http=[collector.endpoint], how=how)

        assert ended.code == code, ended.err


class TestHealthyCollector:
    @pytest.mark.parametrize("how", ["return", "raise", "exit", "interrupt"])
    def test_a_program_delivers_everything_and_ends_at_once(self, how: str, bare_environment: dict[str, str]) -> None:
        """Within 0.3 s of its last line, however it ends, and nothing is missing."""
        with FaultCollector() as collector:
            end(bare_environment, HEALTHY, http=[collector.endpoint], how=how)

            names = [span.name for span in collector.spans]
            runs = names.count("train churn")
            assert runs
            assert names.count("predict score") == 200 * runs
            assert names.count("own") == runs
            assert sum(log.event_name == "ml.training.step.completed" for log in collector.logs) == 50 * runs
            assert {"own", "ml.prediction.duration"} <= {metric.name for metric in collector.metrics}

    def test_one_dead_collector_takes_nothing_from_another(self, bare_environment: dict[str, str]) -> None:
        """A collector that answers gets everything, although another one hangs and exporters of others do."""
        with FaultCollector() as healthy, FaultCollector("silent") as silent:
            end(bare_environment, http=[silent.endpoint, healthy.endpoint], hanging=True)

            names = [span.name for span in healthy.spans]
            assert names.count("predict score") == 200 * names.count("train churn") > 0


@pytest.fixture
def released() -> Iterator[None]:
    """Exporters that hang are let go of when the test is over."""
    foreign.LET_GO.clear()
    yield
    foreign.LET_GO.set()


@otel_ml.predict
def score(value: object) -> object:
    """Return what it was given."""
    return value


def timed(wait: float) -> tuple[bool, bool]:
    """Record, flush and shut down within `wait` seconds each; return what both said."""
    for _ in range(100):
        score([1.0])
    with stopwatch() as took:
        flushed = otel_ml.flush(wait)
    assert took.seconds <= wait + SLACK
    with stopwatch() as took:
        closed = otel_ml.shutdown(wait)
    assert took.seconds <= wait + SLACK
    return flushed, closed


class TestFlushAndShutdown:
    @pytest.mark.parametrize("mode", ["refused", *HOLDING, "reset", 429, 503])
    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_both_keep_to_their_time_and_say_that_something_is_undelivered(self, mode: str, protocol: str) -> None:
        """With a collector that does not take it, both return in their time, with False."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            otel_ml.configure(exporters=[otel_ml.exporters.OTLP(collector.endpoint, protocol=protocol)])  # type: ignore[arg-type]  # a protocol

            assert timed(0.5) == (False, False)

    def test_no_time_is_no_time(self) -> None:
        """`flush(0)` and `shutdown(0)` return at once."""
        with FaultCollector("silent") as collector:
            otel_ml.configure(exporters=[otel_ml.exporters.OTLP(collector.endpoint)])

            assert timed(0.0) == (False, False)

    def test_exporters_of_others_that_hang_are_not_waited_for(self, released: None) -> None:
        """The same with standard exporters that hang."""
        otel_ml.configure(exporters=[foreign.HangingSpans(), foreign.HangingMetrics(), foreign.HangingEvents()])

        assert timed(0.5) == (False, False)

    def test_what_was_left_is_counted(self, released: None) -> None:
        """After `shutdown` everything that was recorded is delivered or dropped."""
        telemetry = otel_ml.configure(exporters=[foreign.HangingSpans()])

        assert timed(0.3) == (False, False)
        (account,) = (one.signals["spans"] for one in telemetry.health().exporters)
        assert (account.delivered, account.queued, sum(account.dropped.values())) == (0, 0, 100)

    def test_a_healthy_collector_gets_everything(self) -> None:
        """Both say True, and it is."""
        with FaultCollector() as collector:
            otel_ml.configure(exporters=[otel_ml.exporters.OTLP(collector.endpoint)])

            assert timed(5.0) == (True, True)
            assert len(collector.spans) == 100


class TestWhatIsRecordedLast:
    @pytest.mark.parametrize("what", ["span", "instrument", "atexit", "nothing"])
    def test_what_no_call_has_announced_is_delivered_too(self, what: str, bare_environment: dict[str, str]) -> None:
        """A program's only record is a span or a point of its own, or comes from an exit handler: it arrives."""
        with FaultCollector() as collector:
            ended = run("own", bare_environment, endpoint=collector.endpoint, what=what)

            assert ended.code == 0
            assert ended.err == ""
            assert [span.name for span in collector.spans] == {"span": ["own"], "atexit": ["predict score"]}.get(
                what, []
            )
            assert ("own" in {metric.name for metric in collector.metrics}) == (what == "instrument")
