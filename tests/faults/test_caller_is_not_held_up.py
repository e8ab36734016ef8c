"""Promise 2: a broken back end does not slow the call: no I/O, no wait for a lock, no user code in the caller."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace

import otel_ml
from otel_ml._current import CURRENT
from otel_ml._state import State
from otel_ml.testing import FaultCollector
from tests.faults.foreign import LET_GO, HangingEvents, HangingMetrics, HangingSpans
from tests.faults.running import run

pytestmark = [pytest.mark.faults, pytest.mark.alone]


@otel_ml.predict(labels={"variant": "a"})
def score(value: object) -> object:
    """Return what it was given."""
    return value


def everything(value: object) -> None:
    """Pass a value wherever one can be passed, on spans and measurements alike."""
    score(value)
    with otel_ml.predict("block") as call:
        call.inputs(value)
        call.outputs(value)
        call.set(value=value)  # type: ignore[arg-type]  # any object
        call.label(value=value)  # type: ignore[arg-type]  # any object
        call.id = value  # type: ignore[assignment]  # any object
        with call.stage("inference"):
            trace.get_current_span().set_attribute("value", value)  # type: ignore[arg-type]  # any object
    try:
        with otel_ml.predict("block"):
            raise ValueError(value)
    except ValueError:
        pass
    with otel_ml.train("run", params={"value": value}) as run_:
        for epoch in run_.epochs(1):
            run_.log(loss=1.0, value=value)  # type: ignore[arg-type]  # any object
            epoch.log(value=value)  # type: ignore[arg-type]  # any object
    otel_ml.feedback("id", actual=value, predicted=value)  # type: ignore[arg-type]  # any object


class TestWhatRunsInTheCaller:
    # By the name of the C function.
    WAITING = ("acquire", "__enter__", "__exit__", "sleep", "wait", "join", "select", "poll", "get")
    OUTSIDE = ("open", "write", "send", "recv", "connect", "flush", "read", "stat", "fork", "print", "urandom")

    @pytest.mark.parametrize("mode", ["silent", "refused"])
    def test_nothing_reaches_outside_the_process(self, mode: str, bare_environment: dict[str, str]) -> None:
        """3,000 rounds of everything open no file and no socket, import nothing, log nothing and wait for nothing."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            ended = run("watched", bare_environment, endpoint=collector.endpoint, calls=3_000)

        assert ended.code == 0, ended.err
        noted = ended.said["noted"]
        assert isinstance(noted, list)
        assert "call list.append" in noted
        audited = {one.removeprefix("audit ") for one in noted if one.startswith("audit ")}
        # The last is Python reporting that a traceback was looked at.
        assert audited <= {"builtins.id", "sys.setprofile", "object.__getattr__"}
        names = {one.partition(" ")[2] for one in noted}
        forbidden = {name for name in names if name.rpartition(".")[2] in (*self.WAITING, *self.OUTSIDE)}
        # Looking a key up is no waiting; a lock that is only tried (acquire) is checked by holding it, below. The one
        # RLock keeps the memory of predictions, which only the threads of users that ask for it enter, for a moment.
        looks = {"dict.get", "ContextVar.get", "Context.get", "mappingproxy.get"}
        assert forbidden - looks - {"lock.acquire", "RLock.__exit__"} == set()

    def test_values_are_never_turned_into_text(self) -> None:
        """`__str__`, `__repr__` and `__format__` of what users pass are not called, however long they would take."""
        otel_ml.configure(exporters=[HangingSpans()])
        asked = []

        class Slow:
            def __str__(self) -> str:
                asked.append("str")
                return "slow"

            def __repr__(self) -> str:
                asked.append("repr")
                return "slow"

            def __format__(self, spec: str) -> str:
                asked.append("format")
                return "slow"

            def __len__(self) -> int:
                asked.append("len")
                return 1

            def __iter__(self) -> Iterator[int]:
                asked.append("iter")
                return iter(())

        everything(Slow())
        everything([Slow()])
        everything({"key": Slow()})

        assert asked == []
        LET_GO.set()


def in_time(work: Callable[[], None]) -> None:
    """Do some work in a thread of its own, and fail if it does not come back."""
    done = threading.Event()

    def run_and_tell() -> None:
        work()
        done.set()

    threading.Thread(target=run_and_tell, daemon=True).start()
    assert done.wait(30.0), "a caller waits"


def a_full_queue() -> None:
    """Record more than a queue holds, and do everything once."""
    for number in range(30_000):
        score(number)
    everything(1.0)


@pytest.fixture
def hanging() -> Iterator[None]:
    """Exporters that hang, with senders that are busy hanging."""
    LET_GO.clear()
    otel_ml.configure(exporters=[HangingSpans(), HangingMetrics(), HangingEvents()])
    everything(1.0)
    assert not otel_ml.flush(0.01)
    yield
    LET_GO.set()


def state() -> State:
    """Return the state that is current."""
    found = CURRENT.state
    assert found is not None
    current = found.successor()
    assert current is not None
    return current


class TestLocks:
    def test_a_held_ledger_does_not_hold_a_caller(self, hanging: None) -> None:
        """While somebody folds, for however long, calls go on."""
        with state().ledger.lock:
            in_time(a_full_queue)

    def test_a_held_sink_does_not_hold_a_caller(self, hanging: None) -> None:
        """While a sink counts or starts its sender, calls go on, also into a queue that is full."""
        for sink in state().sinks:
            sink._starting.acquire()
        try:
            in_time(a_full_queue)
        finally:
            for sink in state().sinks:
                sink._starting.release()
        assert otel_ml.health().exporters[0].signals["spans"].dropped["queue_full"]

    def test_logging_that_hangs_does_not_hold_a_caller(self, hanging: None) -> None:
        """What is dropped is told by the sender: a log handler that writes to a dead host holds no caller."""

        class Stuck(logging.Handler):
            """Logs to a place that does not answer."""

            def emit(self, record: logging.LogRecord) -> None:
                LET_GO.wait(60.0)

        handler = Stuck()
        logging.getLogger("otel_ml").addHandler(handler)
        try:
            in_time(a_full_queue)
            in_time(lambda: None if otel_ml.health().dropped else pytest.fail("nothing was dropped"))
        finally:
            LET_GO.set()
            logging.getLogger("otel_ml").removeHandler(handler)
