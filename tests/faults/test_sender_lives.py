"""Whatever is raised in a sender, by an exporter, a callback or a log handler, it costs a batch and not the sender."""

import ctypes
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.places import otlp
from tests.stopwatch import stopwatch

# Users have the shield on, and what is raised here is meant to be swallowed.
pytestmark = [pytest.mark.faults, pytest.mark.shielded]


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    """Nothing is sent any more when a test is over, and its collector gone."""
    yield
    otel_ml.shutdown(0.0)


class OfItsOwn(BaseException):
    """An exception that is no `Exception`, as some frameworks have them."""


KINDS = (SystemExit, KeyboardInterrupt, GeneratorExit, OfItsOwn, MemoryError, RecursionError, RuntimeError)


class Raising:
    """What exporters of all signals have in common: the first `times` exports raise, and what else is asked too."""

    def __init__(self, kind: type[BaseException], times: int, *, also_later: bool = False) -> None:
        self.kind, self.times, self.also_later = kind, times, also_later
        self.taken: list[object] = []
        self.threads: Counter[int] = Counter()

    def note(self, records: Sequence[object]) -> None:
        """Take records, or raise."""
        self.threads[threading.get_ident()] += 1
        if self.times > 0:
            self.times -= 1
            raise self.kind
        self.taken += records

    def end(self) -> None:
        """Raise at the end too, if it is to be so."""
        if self.also_later:
            raise self.kind


class Spans(Raising, SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.note(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.end()


class Events(Raising, LogRecordExporter):
    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.note(batch)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        self.end()


class Metrics(Raising, MetricExporter):
    def __init__(self, kind: type[BaseException], times: int, *, also_later: bool = False) -> None:
        MetricExporter.__init__(self)
        Raising.__init__(self, kind, times, also_later=also_later)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self.note(metrics_data.resource_metrics)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        self.end()


@otel_ml.predict(model="lively")
def score(value: float) -> float:
    """Return what it was given."""
    return value


def record(times: int) -> None:
    """Record spans and events."""
    for _ in range(times):
        score(1.0)
        otel_ml.feedback("id", actual="a", predicted="a", model="lively")


def delivered(telemetry: otel_ml.Telemetry, place: int = 0) -> int:
    """Return how many spans one exporter has delivered."""
    return telemetry.health().exporters[place].signals["spans"].delivered


class TestExporters:
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_an_exporter_raises_costs_a_batch(self, kind: type[BaseException]) -> None:
        """An export that raises, whatever it raises, loses what it was given, with the reason; the next one is made."""
        places = (Spans(kind, 2), Metrics(kind, 2), Events(kind, 2))
        telemetry = otel_ml.configure(exporters=list(places))
        for _ in range(2):
            record(10)
            telemetry.flush(5.0)
        record(10)
        assert telemetry.flush(5.0)

        spans, metrics, events = (one.signals for one in telemetry.health().exporters)
        reason = f"exporter_raised_{kind.__name__}"
        for account in (spans["spans"], events["events"]):
            assert (account.delivered, account.dropped) == (10, {reason: 20})
        assert metrics["metrics"].dropped.keys() == {reason}
        assert metrics["metrics"].delivered > 0
        assert [len(place.taken) for place in places] == [10, 1, 10]
        # One thread did it all: it was not ended and replaced.
        assert [len(place.threads) for place in places] == [1, 1, 1]

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, RuntimeError])
    def test_what_an_exporter_raises_at_the_end_is_its_own_affair(self, kind: type[BaseException]) -> None:
        """`shutdown` of an exporter may raise what it likes: ours returns in time, and other exporters are shut down."""
        with FaultCollector() as collector:
            places = (Spans(kind, 0, also_later=True), Metrics(kind, 0, also_later=True))
            telemetry = otel_ml.configure(exporters=[*places, otlp(collector.endpoint)])
            record(10)
            with stopwatch() as took:
                telemetry.shutdown(2.0)
            assert took.seconds < 2.25
            assert [len(place.taken) for place in places] == [10, 1]
            assert len(collector.spans) == 10
            assert [delivered(telemetry, place) for place in (0, 2)] == [10, 10]

    def test_another_exporter_does_not_notice(self) -> None:
        """While one exporter raises at every export, another one delivers everything."""
        with FaultCollector() as collector:
            telemetry = otel_ml.configure(exporters=[Spans(SystemExit, 1_000), otlp(collector.endpoint)])
            for _ in range(20):
                record(5)
                telemetry.flush(5.0)

            assert len({span.span_id for span in collector.spans}) == 100
            assert [delivered(telemetry, place) for place in (0, 1)] == [0, 100]


class TestCallbacks:
    @pytest.mark.parametrize("kind", KINDS)
    def test_what_a_callback_raises_costs_no_span(self, kind: type[BaseException]) -> None:
        """An observable instrument whose callback raises takes neither spans nor events, nor later metrics, along."""
        raising = [True]

        def observe(options: CallbackOptions) -> Iterable[Observation]:
            if raising[0]:
                raise kind
            return [Observation(1)]

        with FaultCollector() as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            telemetry.meter_provider.get_meter("own").create_observable_gauge("own", [observe])
            record(10)
            telemetry.flush(5.0)
            assert len(collector.spans) == len(collector.logs) == 10
            raising[0] = False
            record(10)
            assert telemetry.flush(5.0)

            assert len(collector.spans) == len(collector.logs) == 20
            assert "own" in {metric.name for metric in collector.metrics}


# Threads that were ended say so, to pytest at least.
ENDED = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class RaisingLog(logging.Handler):
    """A log handler that ends the program, or tries to."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self.kind, self.asked = kind, 0

    def emit(self, record: logging.LogRecord) -> None:
        self.asked += 1
        raise self.kind


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[RaisingLog]:
    """A log handler that raises what the test asks for."""
    handler = RaisingLog(request.param)
    logging.getLogger("otel_ml").addHandler(handler)
    yield handler
    logging.getLogger("otel_ml").removeHandler(handler)


class TestLogHandlers:
    @ENDED
    @pytest.mark.parametrize(
        "log",
        [RuntimeError, SystemExit, OfItsOwn],
        indirect=True,
    )
    def test_what_a_log_handler_raises_does_not_end_a_sender(self, log: RaisingLog) -> None:
        """A handler that raises when a loss is told, whatever it raises, costs that line."""
        with FaultCollector(400) as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            record(10)
            telemetry.flush(1.0)
            assert log.asked
            collector.mode = "healthy"
            record(10)
            assert telemetry.flush(1.0)

            assert len(collector.spans) == 10
            assert delivered(telemetry) == 10


def end_thread(thread: threading.Thread) -> None:
    """Have SystemExit raised in a thread, as debuggers and time limits of others do."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)) == 1


class TestThreads:
    @staticmethod
    def ours() -> list[threading.Thread]:
        """Return the threads of our senders."""
        return [thread for thread in threading.enumerate() if thread.name.startswith("otel_ml-")]

    @ENDED
    def test_what_is_raised_in_an_idle_sender_does_not_end_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """SystemExit that somebody has raised in our threads, while they wait, costs nothing."""
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with FaultCollector() as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            record(10)
            assert telemetry.flush(5.0)
            assert self.ours()
            for thread in self.ours():
                end_thread(thread)
                thread.join(0.5)
            record(10)

            assert telemetry.flush(5.0)
            assert len(collector.spans) == 20

    @ENDED
    def test_a_sender_that_was_ended_is_replaced(self) -> None:
        """SystemExit that is raised just as a sender is woken may end it; then another one takes its place."""
        with FaultCollector() as collector:
            telemetry = otel_ml.configure(exporters=[otlp(collector.endpoint)])
            record(10)
            assert telemetry.flush(5.0)
            # By then it waits.
            collector.wait_for(lambda _: False, 0.1)
            for thread in self.ours():
                end_thread(thread)
            telemetry.flush(1.0)
            record(10)

            assert telemetry.flush(3.0)
            assert len({span.span_id for span in collector.spans}) == 20

    def test_threads_are_not_started_again_and_again(self) -> None:
        """However often an exporter raises, its sender is one and the same thread."""
        place = Spans(SystemExit, 200)
        telemetry = otel_ml.configure(exporters=[place])
        for _ in range(200):
            record(1)
            telemetry.flush(1.0)

        assert len(place.threads) == 1
        assert place.threads.total() == 200
