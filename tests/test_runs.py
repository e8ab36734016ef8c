"""`train`: a run's spans, its events one by one, and where its time went."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

import otel_ml
from otel_ml import _sink
from tests.recorder import Events, Recorder, Spans, attributes_of, wait_for

STEP, EPOCH = "ml.training.step.completed", "ml.training.epoch.completed"
STARTED, COMPLETED = "ml.training.started", "ml.training.completed"


@pytest.fixture
def place() -> Recorder:
    """A configured place that keeps what it is sent."""
    made = Recorder()
    otel_ml.configure(exporters=[made], set_global=False)
    return made


def flushed(place: Recorder) -> Recorder:
    """Wait until everything has arrived."""
    assert otel_ml.flush(10.0)
    return place


def values(place: Recorder, key: str) -> list[object]:
    """Return one of the user's values, step by step."""
    return [event[f"ml.training.value.{key}"] for event in place.events_named(STEP)]


def nothing_current() -> bool:
    """Say whether neither a span nor a run is current."""
    return repr(otel_ml.current()) == "<nothing observed>" and not trace.get_current_span().get_span_context().is_valid


def spend(seconds: float) -> None:
    """Use up time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class Error(Exception):
    """What functions under test raise."""


class TestLog:
    def test_every_step_is_an_event_while_the_run_goes_on(self, place: Recorder) -> None:
        """500 logs are 500 events, in order, and they arrive before the run has ended."""
        with otel_ml.train("churn", version="3.3") as run:
            for step in range(500):
                run.log(loss=1.0 / (step + 1), reward=-step)
            wait_for(lambda: len(place.events_named(STEP)) == 500)
            assert place.events_named(COMPLETED) == []

        steps = flushed(place).events_named(STEP)
        assert [event["ml.training.step.index"] for event in steps] == list(range(500))
        assert values(place, "loss") == [1.0 / (step + 1) for step in range(500)]
        assert values(place, "reward") == [-step for step in range(500)]
        assert {
            (event["ml.model.name"], event["ml.model.version"], event["ml.training.run.id"]) for event in steps
        } == {("churn", "3.3", run.id)}
        assert place.value("ml.training.steps") == 500

    def test_events_are_in_the_trace_of_the_run(self, place: Recorder) -> None:
        """Each event carries the run's trace and span, a time of its own, and its name."""
        before = time.time_ns()
        with otel_ml.train("churn") as run:
            run.log(loss=1.0)
            with otel_ml.predict("inner"):
                run.log(loss=0.5)
        (span,) = flushed(place).named("train churn")

        assert span.context is not None
        for event in place.events:
            record = event.log_record
            assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
            assert record.timestamp is not None
            assert before <= record.timestamp <= time.time_ns()
            assert event.resource is place.resource
            assert event.instrumentation_scope.name == "otel_ml"
        times = [event.log_record.timestamp or 0 for event in place.events]
        assert times == sorted(times)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (1, 1),
            (-2.5, -2.5),
            (True, True),
            ("text", "text"),
            (np.float32(0.5), 0.5),
            (np.array(3.0), 3.0),
            (np.int64(-7), -7),
            (None, None),
            (np.zeros(3), "<numpy.ndarray shape=(3,) dtype=float64>"),
            (..., "<ellipsis>"),
        ],
        ids=repr,
    )
    def test_takes_any_value(self, place: Recorder, value: object, expected: object) -> None:
        """Numbers, numpy scalars, 0-d arrays, text and booleans are kept; of anything else only its kind."""
        with otel_ml.train("churn") as run:
            run.log(anything=value)  # type: ignore[arg-type]  # whatever users pass

        assert values(flushed(place), "anything") == [expected]

    def test_what_is_not_finite_is_kept_and_counted(self, place: Recorder) -> None:
        """NaN and infinities are in the events as such and counted by kind; the gauge keeps the last finite value."""
        with otel_ml.train("churn") as run:
            run.log(loss=0.7, grad_norm=math.inf)
            run.log(loss=math.nan)
            run.log(loss=-math.inf, accuracy=np.float64("nan"))
            for epoch in run.epochs(1):
                epoch.log(val_loss=math.nan)

        losses = (
            values(flushed(place), "loss")
            if all("ml.training.value.loss" in e for e in place.events_named(STEP))
            else []
        )
        assert repr(losses) == "[0.7, nan, -inf]"
        assert repr(place.events_named(EPOCH)[0]["ml.training.value.val_loss"]) == "nan"
        for kind, count in (("loss", 3), ("gradient", 1), ("metric", 1)):
            assert place.value("ml.training.nonfinite_values", ml__tensor__kind=kind) == count
        assert [point.value for point in place.points("ml.training.loss")] == [0.7]  # type: ignore[union-attr]  # a gauge

    def test_known_names_set_gauges(self, place: Recorder) -> None:
        """`loss`, `lr`, `val_f1` and others are gauges too, by split; negative values are as good as others."""
        with otel_ml.train("churn") as run:
            run.log(loss=-1.5, lr=1e-3, grad_norm=2.0, accuracy=0.5, something=9.0)
            run.log(loss=-2.5, val_loss=0.4, test_recall=0.1)
            for epoch in run.epochs(1):
                epoch.log(val_f1=0.8, val_precision=np.float32(0.5))
        flushed(place)

        def gauge(name: str, split: str | None = None) -> float:
            return place.value(name, **({"ml__dataset__split": split} if split else {}))

        assert gauge("ml.training.loss", "train") == -2.5
        assert gauge("ml.training.loss", "validation") == 0.4
        assert gauge("ml.training.learning_rate") == 1e-3
        assert gauge("ml.training.gradient.norm") == 2.0
        assert gauge("ml.evaluation.accuracy", "train") == 0.5
        assert gauge("ml.evaluation.recall", "test") == 0.1
        assert gauge("ml.evaluation.f1", "validation") == 0.8
        assert gauge("ml.evaluation.precision", "validation") == 0.5
        for name in ("ml.training.loss", "ml.evaluation.f1"):
            assert all("ml.training.run.id" not in (point.attributes or {}) for point in place.points(name))

    def test_steps_are_numbered(self, place: Recorder) -> None:
        """From 0, through all epochs; `step=` gives a number of one's own; names that are none go in a mapping."""
        with otel_ml.train("churn") as run:
            run.log(loss=1.0)
            run.log({"loss/total": 2.0, "self": 3.0}, loss=4.0)
            run.log(loss=5.0, step=100)
            for _ in run.epochs(2):
                run.log(loss=6.0)

        steps = flushed(place).events_named(STEP)
        assert [event["ml.training.step.index"] for event in steps] == [0, 1, 100, 2, 3]
        assert [event.get("ml.training.epoch.index") for event in steps] == [None, None, None, 0, 1]
        assert steps[1]["ml.training.value.loss/total"] == 2.0
        assert steps[1]["ml.training.value.self"] == 3.0

    @pytest.mark.shielded
    def test_that_is_no_mapping_is_no_step(self, place: Recorder) -> None:
        """What cannot be logged has no number and is not counted: there are as many steps as events."""
        with otel_ml.train("churn") as run:
            run.log(loss=1.0)
            run.log(5)  # type: ignore[arg-type]  # that is the point
            run.log(loss=2.0)

        flushed(place)
        assert [event["ml.training.step.index"] for event in place.events_named(STEP)] == [0, 1]
        assert place.events_named(COMPLETED)[0]["ml.training.steps"] == place.value("ml.training.steps") == 2

    def test_by_many_threads(self, place: Recorder) -> None:
        """Steps logged by several threads at once are all kept, each with a number of its own."""
        with otel_ml.train("churn") as run:
            threads = [threading.Thread(target=lambda: [run.log(loss=n) for n in range(500)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        steps = flushed(place).events_named(STEP)
        assert sorted(event["ml.training.step.index"] for event in steps) == list(range(2_000))  # type: ignore[type-var]  # ints
        assert place.events_named(COMPLETED)[0]["ml.training.steps"] == 2_000

    def test_without_configure_does_nothing(self) -> None:
        """Every method of a run works unconfigured and leaves nothing behind."""
        with otel_ml.train("churn") as run:
            for epoch in run.epochs(2):
                for _ in epoch.batches([1, 2]):
                    run.log(loss=1.0)
                with epoch.evaluate(), epoch.checkpoint():
                    epoch.log(val_loss=1.0)
            run.set(a=1)
            assert run.id

    @pytest.mark.parametrize("work", ["log", "batches", "stages"])
    def test_leaves_nothing_behind_where_nobody_collects(self, work: str) -> None:
        """However long a run, what it measures does not pile up in memory."""
        otel_ml.configure(exporters=[Spans()], set_global=False)
        with otel_ml.train("churn") as run:

            def steps(count: int) -> None:
                if work == "batches":
                    for _ in run.batches(range(count)):
                        pass
                    return
                for _ in range(count):
                    if work == "log":
                        run.log(loss=0.5)
                    else:
                        with otel_ml.predict("m", spans=False) as call, call.stage("a"):
                            pass

            steps(5_000)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            steps(20_000)
            held = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()

        assert held < 150_000


class TestAFullQueue:
    def test_gives_up_the_oldest_and_counts_them(self) -> None:
        """When events come faster than a back end takes them, the oldest go; `health()` accounts for each."""
        gate, taken = threading.Event(), threading.Event()

        class Blocked(Events):
            def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
                taken.set()
                gate.wait(30.0)
                return super().export(batch)

        place, logs = Blocked(), 2 * _sink.MAX_SLOTS
        otel_ml.configure(exporters=[place], set_global=False)
        with otel_ml.train("churn") as run:
            run.log(loss=0.0)
            assert taken.wait(10.0)
            for step in range(1, logs):
                run.log(loss=float(step))
            (blocked,) = otel_ml.health().exporters
            account = blocked.signals["events"]
            # One event says that the run has begun.
            assert account.created == logs + 1
            assert account.delivered == 0
            assert account.dropped["queue_full"] > logs / 3
            gate.set()
        # Not all of it was delivered.
        assert not otel_ml.flush(20.0)

        (done,) = otel_ml.health().exporters
        account = done.signals["events"]
        steps = [
            attributes_of(one)["ml.training.step.index"] for one in place.kept if one.log_record.event_name == STEP
        ]
        lost = account.dropped["queue_full"]
        assert (account.queued, account.delivered) == (0, len(place.kept))
        assert account.created == logs + 2 == len(place.kept) + lost
        assert otel_ml.health().dropped == lost
        # What was being sent, and then the newest, without a gap.
        sending = next(n for n, step in enumerate(steps) if step != n)
        assert steps == [*range(sending), *range(sending + lost, logs)]


class Tensor:
    """What a tensor on a device is to us: a torch class, a shape, a device, and a read that waits."""

    __module__ = "torch"
    read_by: ClassVar[list[str]] = []
    gate = threading.Event()

    def __init__(self, value: float, shape: tuple[int, ...] = (), kind: str = "cuda", broken: bool = False) -> None:
        self.value, self.shape, self.broken = value, shape, broken
        self.dtype, self.device = "torch.float32", SimpleNamespace(type=kind)

    def detach(self) -> Tensor:
        return self

    def clone(self) -> Tensor:
        return Tensor(self.value, self.shape, self.device.type, self.broken)

    def item(self) -> float:
        self.read_by.append(threading.current_thread().name)
        assert self.gate.wait(20.0)
        if self.broken:
            raise RuntimeError
        return self.value


class TestTensorsOnADevice:
    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        """Nothing has been read, and nothing can be yet."""
        Tensor.read_by.clear()
        Tensor.gate.clear()

    def test_are_copied_at_once_and_read_by_the_sender(self, place: Recorder) -> None:
        """The loop never waits for the device; what is kept is the value at that step, also for the gauge."""
        tensor = Tensor(0.5)
        with otel_ml.train("churn") as run:
            run.log(loss=tensor, note="x")
            tensor.value = 9.0
            run.log(loss=Tensor(math.nan))
            Tensor.gate.set()
            run.log(loss=Tensor(0.25))

        assert repr(values(flushed(place), "loss")) == "[0.5, nan, 0.25]"
        assert set(Tensor.read_by) == {"otel_ml-recorder-0"}
        assert place.value("ml.training.loss") == 0.25
        assert place.value("ml.training.nonfinite_values") == 1

    def test_reach_every_exporter(self) -> None:
        """Each tensor is read once, and all exporters get the number."""

        class Encodes(Events):
            """Reads an event when it gets it, as exporters do that encode it."""

            def __init__(self) -> None:
                super().__init__()
                self.losses: list[object] = []

            def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
                found = [attributes_of(one).get("ml.training.value.loss") for one in batch]
                self.losses += [
                    loss for one, loss in zip(batch, found, strict=True) if one.log_record.event_name == STEP
                ]
                return super().export(batch)

        places = [Encodes() for _ in range(3)]
        otel_ml.configure(exporters=places, set_global=False)
        with otel_ml.train("churn") as run:
            for step in range(50):
                run.log(loss=Tensor(float(step)))
            # All three senders are at it before the first of them gets a number.
            threading.Timer(0.2, Tensor.gate.set).start()
        assert otel_ml.flush(10.0)

        for place in places:
            assert place.losses == [float(step) for step in range(50)]
        assert len(Tensor.read_by) == 50

    def test_that_cannot_wait_are_left_out_and_counted(self, place: Recorder) -> None:
        """At most 1,024 wait to be read; the steps are kept, without that value, and `health()` counts it."""
        with otel_ml.train("churn") as run:
            for _ in range(1_100):
                run.log(loss=Tensor(1.0), step_size=1)
            assert otel_ml.health().unread == otel_ml.health().dropped == 76
            Tensor.gate.set()
            flushed(place)
            run.log(loss=Tensor(2.0))

        steps = flushed(place).events_named(STEP)
        assert len(steps) == 1_101
        assert sum("ml.training.value.loss" in event for event in steps) == 1_025
        assert otel_ml.health().unread == 76

    def test_that_nobody_reads_make_room(self) -> None:
        """Where no exporter takes events, or they were dropped, tensors do not wait for ever."""
        telemetry = otel_ml.configure(exporters=[Spans()], set_global=False)
        with otel_ml.train("churn") as run:
            for _ in range(3_000):
                run.log(loss=Tensor(1.0))

        assert telemetry.health().unread == 0

    @pytest.mark.shielded
    def test_that_are_none_cost_no_event(self, place: Recorder) -> None:
        """Of a larger tensor only the kind is kept; one that cannot be read leaves the rest of its event whole."""
        Tensor.gate.set()
        with otel_ml.train("churn") as run:
            run.log(loss=Tensor(1.0, shape=(3,)), n=1)
            run.log(loss=Tensor(1.0, broken=True), n=2)
            run.log(loss=Tensor(0.5, kind="cpu"), n=3)

        assert values(flushed(place), "n") == [1, 2, 3]
        assert values(place, "loss") == ["<torch.Tensor shape=(3,) dtype=torch.float32>", None, 0.5]


class TestSpans:
    def test_of_a_run(self, place: Recorder) -> None:
        """Train > epoch > evaluate and checkpoint, each current while it lasts, with the run's id and its outcome."""
        with otel_ml.train("churn", version="3.3", params={"lr": 1e-3, "depth": 6}, labels={"team": "a"}) as run:
            assert otel_ml.current() is run
            outer = trace.get_current_span()
            for epoch in run.epochs(2):
                assert trace.get_current_span() is not outer
                assert otel_ml.current() is run
                with epoch.evaluate("test"), otel_ml.predict("churn"):
                    pass
                with run.checkpoint():
                    pass
            assert trace.get_current_span() is outer
            with run.evaluate():
                pass
            run.set(note="x", lr=np.float64(0.5))
        assert nothing_current()
        flushed(place)

        ids = {span.context.span_id: span.name for span in place.spans if span.context}
        tree = [(span.name, ids[span.parent.span_id] if span.parent else None) for span in place.spans]
        per_epoch = [
            ("predict churn", "evaluate churn"),
            ("evaluate churn", "epoch churn"),
            ("checkpoint churn", "epoch churn"),
            ("epoch churn", "train churn"),
        ]
        assert tree == [*per_epoch, *per_epoch, ("evaluate churn", "train churn"), ("train churn", None)]
        train = dict(place.spans[-1].attributes or {})
        assert train == {
            "ml.operation.name": "train",
            "ml.model.name": "churn",
            "ml.model.version": "3.3",
            "ml.training.run.id": run.id,
            "ml.training.hyperparameter.lr": 1e-3,
            "ml.training.hyperparameter.depth": 6,
            "team": "a",
            "note": "x",
            "lr": 0.5,
            "ml.training.outcome": "success",
        }
        epochs = [dict(span.attributes or {}) for span in place.named("epoch churn")]
        assert [one["ml.training.epoch.index"] for one in epochs] == [0, 1]
        assert {one["ml.training.outcome"] for one in epochs} == {"success"}
        assert {(s.attributes or {})["ml.training.run.id"] for s in place.spans if "predict" not in s.name} == {run.id}
        assert {(s.attributes or {}).get("ml.model.version") for s in place.spans if "predict" not in s.name} == {"3.3"}
        assert [(s.attributes or {})["ml.dataset.split"] for s in place.named("evaluate churn")] == [
            "test", "test", "validation",
        ]  # fmt: skip

    def test_events_of_a_run(self, place: Recorder) -> None:
        """One event says that a run began, one per epoch what came out, one that it ended."""
        with otel_ml.train("churn", params={"lr": 1e-3}) as run:
            for epoch in run.epochs(3):
                run.log(loss=1.0)
                run.log(loss=1.0)
                epoch.log(val_loss=0.1 * epoch.index, note="first")
                epoch.log({"val/f1": 0.5}, note="last")
        flushed(place)

        (started,), (completed,) = place.events_named(STARTED), place.events_named(COMPLETED)
        assert started["ml.training.hyperparameter.lr"] == 1e-3
        assert (completed["ml.training.outcome"], completed["ml.training.epochs"], completed["ml.training.steps"]) == (
            "success", 3, 6,
        )  # fmt: skip
        epochs = place.events_named(EPOCH)
        assert [event["ml.training.epoch.index"] for event in epochs] == [0, 1, 2]
        assert [event["ml.training.value.val_loss"] for event in epochs] == [0.0, 0.1, 0.2]
        assert {(event["ml.training.value.note"], event["ml.training.value.val/f1"]) for event in epochs} == {
            ("last", 0.5)
        }
        assert {event["ml.training.steps"] for event in epochs} == {2}
        assert place.value("ml.training.epochs") == 3
        assert place.value("ml.training.epoch.duration") == 3
        assert place.value("ml.training.duration") == 1
        assert [event.log_record.event_name for event in place.events][:: len(place.events) - 1] == [STARTED, COMPLETED]

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (Error("secret"), "error"),
            (KeyboardInterrupt(), "error"),
            (SystemExit(0), "cancelled"),
            (GeneratorExit(), "cancelled"),
        ],
        ids=repr,
    )
    def test_of_a_run_that_fails(self, place: Recorder, error: BaseException, expected: str) -> None:
        """An exception passes through; run, open epoch and open parts end as it says, with a place and without a text."""

        def work() -> None:
            with otel_ml.train("churn") as run:
                for epoch in run.epochs(3):
                    epoch.log(val_loss=0.5)
                    with epoch.evaluate(), run.checkpoint():
                        if epoch.index == 1:
                            raise error

        with pytest.raises(type(error)) as caught:
            work()

        assert caught.value is error
        assert nothing_current()
        flushed(place)
        spans: list[ReadableSpan] = place.spans[-4:]
        assert [span.name for span in spans] == ["checkpoint churn", "evaluate churn", "epoch churn", "train churn"]
        for span in spans:
            attributes = dict(span.attributes or {})
            assert attributes["ml.training.outcome"] == expected
            assert span.status.status_code is (StatusCode.ERROR if expected == "error" else StatusCode.UNSET)
            assert attributes.get("error.type") == (
                None
                if expected != "error"
                else "KeyboardInterrupt"
                if not isinstance(error, Error)
                else f"{__name__}.Error"
            )
            assert "secret" not in span.to_json()
        assert [event["ml.training.outcome"] for event in place.events_named(EPOCH)] == ["success", expected]
        assert place.events_named(COMPLETED)[0]["ml.training.outcome"] == expected
        assert place.value("ml.training.duration") == 1

    def test_after_a_break(self, place: Recorder) -> None:
        """A loop left early: the open epoch ends with the run and as the run does, and the context is whole."""
        with otel_ml.train("churn") as run:
            for epoch in run.epochs(5):
                epoch.log(val_loss=epoch.index)
                if epoch.index == 1:
                    break
            run.log(loss=1.0)
        assert nothing_current()
        flushed(place)

        assert [event["ml.training.epoch.index"] for event in place.events_named(EPOCH)] == [0, 1]
        assert len(place.named("epoch churn")) == 2
        assert place.events_named(COMPLETED)[0]["ml.training.epochs"] == 2

    def test_of_a_second_loop(self, place: Recorder) -> None:
        """Epochs go on counting in a second loop (fine-tuning); what the first left open ends when the second begins."""
        with otel_ml.train("churn") as run:
            root = trace.get_current_span().get_span_context()
            for _ in run.epochs(3):
                break
            for _ in run.epochs(2):
                pass
            for epoch in run.epochs(["a", "b"], start=10):
                assert epoch.item == ("a" if epoch.index == 10 else "b")
        assert nothing_current()
        flushed(place)

        assert [event["ml.training.epoch.index"] for event in place.events_named(EPOCH)] == [0, 1, 2, 10, 11]
        assert [span.parent for span in place.named("epoch churn")] == [root] * 5

    def test_of_two_runs_at_once(self, place: Recorder) -> None:
        """Runs in two threads, and a run inside a run, keep to themselves."""

        def work(name: str) -> None:
            with otel_ml.train(name) as run:
                for _ in run.epochs(3):
                    run.log(loss=1.0)
                    assert otel_ml.current() is run
                    if name == "a":
                        with otel_ml.train("inner") as inner:
                            assert otel_ml.current() is inner
                        assert otel_ml.current() is run

        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        flushed(place)

        runs = {event["ml.training.run.id"]: event["ml.model.name"] for event in place.events_named(STARTED)}
        assert sorted(map(str, runs.values())) == ["a", "b", "inner", "inner", "inner"]
        assert all(runs[event["ml.training.run.id"]] == event["ml.model.name"] for event in place.events_named(STEP))
        parents = {span.context.span_id: span.name for span in place.spans if span.context}
        assert {parents[span.parent.span_id] for span in place.named("train inner") if span.parent} == {"epoch a"}

    def test_where_nothing_is_sampled(self) -> None:
        """Without spans, events and metrics are complete all the same."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=0.0, set_global=False)
        with otel_ml.train("churn") as run:
            for epoch in run.epochs(2):
                run.log(loss=1.0)
                with epoch.evaluate():
                    pass
        assert nothing_current()
        flushed(place)

        assert place.spans == []
        assert len(place.events) == 6
        assert place.value("ml.training.epochs") == 2

    @pytest.mark.parametrize("sampler", ["bound", "asked"])
    def test_of_a_run_that_fails_where_nothing_is_sampled(self, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It gets its span afterwards, with the ids that its events have; parts of it, and runs that go well, do not."""
        if sampler == "asked":
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        place = Recorder()
        otel_ml.configure(
            exporters=[place],
            sampling=None if sampler == "asked" else 0.0,
            keep_slower_than=1e-9,
            set_global=False,
        )
        with otel_ml.train("fine"), otel_ml.predict("fine"):
            pass

        @otel_ml.train(model="churn", params={"lr": 0.5})
        def fit() -> None:
            run = otel_ml.current(otel_ml.Run)
            run.set(note="x")
            for _ in run.epochs(2):
                run.log(loss=1.0)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fit()
        assert nothing_current()
        span = flushed(place).span()

        attributes = dict(span.attributes or {})
        assert (span.name, span.parent, span.status.status_code) == ("train churn", None, StatusCode.ERROR)
        assert {
            key: attributes[key] for key in ("ml.sampling.reason", "error.type", "ml.training.outcome", "note")
        } == {
            "ml.sampling.reason": "error",
            "error.type": "ZeroDivisionError",
            "ml.training.outcome": "error",
            "note": "x",
        }
        assert attributes["ml.training.hyperparameter.lr"] == 0.5
        assert attributes["ml.training.run.id"] == place.events_named(COMPLETED)[-1]["ml.training.run.id"]
        record = place.events[-1].log_record
        assert span.context is not None
        assert span.context.trace_flags.sampled
        assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time > span.start_time

    def test_of_a_run_that_fails_are_left_out_where_nobody_wants_them(self) -> None:
        """`keep_slower_than=None`, a cancelled run, and one under a parent: what sampling decided stands."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=0.0, keep_slower_than=None, set_global=False)
        with pytest.raises(ZeroDivisionError), otel_ml.train("churn"):
            raise ZeroDivisionError
        flushed(place)
        other = Recorder()
        otel_ml.configure(exporters=[other], sampling=0.0, set_global=False)
        with pytest.raises(asyncio.CancelledError), otel_ml.train("churn"):
            raise asyncio.CancelledError
        parent = trace.SpanContext(5, 6, True, trace.TraceFlags(0))
        with (
            pytest.raises(ZeroDivisionError),
            trace.use_span(trace.NonRecordingSpan(parent)),
            otel_ml.train("churn"),
        ):
            raise ZeroDivisionError
        flushed(other)

        assert place.spans == other.spans == []


class TestTime:
    def phases(self, place: Recorder) -> dict[str, float]:
        """Return the seconds by phase."""
        return {
            str((point.attributes or {})["ml.training.phase"]): point.value  # type: ignore[union-attr]  # a sum
            for point in flushed(place).points("ml.training.time")
        }

    def duration(self, place: Recorder) -> float:
        """Return the seconds of the run."""
        return float(place.events_named(COMPLETED)[0]["ml.training.duration"])  # type: ignore[arg-type]  # a number

    def test_is_divided_into_phases(self, place: Recorder) -> None:
        """Waiting for data, evaluation, checkpoints and the rest add up to the whole run."""

        def loader() -> Iterator[int]:
            for n in range(3):
                spend(0.004)
                yield n

        with otel_ml.train("churn") as run:
            for epoch in run.epochs(2):
                for _ in epoch.batches(loader()):
                    spend(0.002)
                with epoch.evaluate():
                    spend(0.01)
                with epoch.checkpoint():
                    spend(0.005)
            spend(0.003)

        phases = self.phases(place)
        assert sum(phases.values()) == pytest.approx(self.duration(place), rel=1e-6)
        for phase, least in (("data_loading", 0.024), ("evaluation", 0.020), ("checkpoint", 0.010), ("other", 0.015)):
            assert phases[phase] >= least
        assert place.value("ml.training.checkpoint.duration") == 2

    def test_inside_a_phase_counts_once(self, place: Recorder) -> None:
        """Data waited for, or a checkpoint written, within an evaluation is not counted as evaluation as well."""

        def loader() -> Iterator[int]:
            for n in range(3):
                spend(0.01)
                yield n

        with otel_ml.train("churn") as run, run.evaluate():
            for _ in run.batches(loader()):
                spend(0.001)
            with run.checkpoint():
                spend(0.01)

        phases = self.phases(place)
        assert sum(phases.values()) == pytest.approx(self.duration(place), rel=1e-6)
        for phase, least in (("data_loading", 0.03), ("evaluation", 0.003), ("checkpoint", 0.01)):
            assert phases[phase] >= least

    def test_of_epochs_inside_a_phase_counts_once(self, place: Recorder) -> None:
        """Epochs that end while an evaluation goes on do not make its time count as something else."""
        with otel_ml.train("churn") as run, run.evaluate():
            for _ in run.epochs(3):
                spend(0.003)

        phases = self.phases(place)
        assert sum(phases.values()) == pytest.approx(self.duration(place), rel=1e-6)
        assert phases["evaluation"] >= 0.009

    def test_is_told_while_the_run_goes_on(self, place: Recorder) -> None:
        """After every epoch the phases so far are counted, so that a long run shows where its time goes."""
        with otel_ml.train("churn") as run:
            for epoch in run.epochs(2):
                with epoch.evaluate():
                    spend(0.002)
                if epoch.index == 1:
                    assert sum(self.phases(place).values()) > 0.002

    def test_of_steps(self, place: Recorder) -> None:
        """With `batches` a step lasts from batch to batch without the wait for data; else from log to log."""

        def loader() -> Iterator[list[list[float]]]:
            for _ in range(4):
                spend(0.01)
                yield [[1.0], [2.0], [3.0]]

        with otel_ml.train("churn") as run:
            for batch in run.batches(loader()):
                spend(0.001)
                run.log(loss=float(len(batch)))
        assert flushed(place).value("ml.training.step.duration") == 4
        (point,) = place.points("ml.training.step.duration")
        assert point.min < 0.01  # type: ignore[union-attr]  # a histogram
        assert place.value("ml.training.samples") == 12

        with otel_ml.train("other") as run:
            for _ in range(3):
                run.log(loss=1.0)
        assert flushed(place).value("ml.training.step.duration", ml__model__name="other") == 2

    @pytest.mark.parametrize(
        ("batch", "rows"),
        [
            ([[1.0], [2.0]], 2),
            (([[1.0], [2.0]], [0, 1]), 2),
            ({"x": np.zeros((5, 2)), "y": np.zeros(5)}, 5),
            (np.zeros((7, 3)), 7),
            ((np.zeros((4, 2)), np.zeros(4)), 4),
            ("text", 1),
            (3, 1),
        ],
        ids=["list", "pair", "mapping", "array", "arrays", "text", "number"],
    )
    def test_rows_of_batches(self, place: Recorder, batch: object, rows: int) -> None:
        """The rows of what a loader gives are counted: of features and targets, the features'."""
        with otel_ml.train("churn") as run:
            for _ in run.batches([batch]):
                pass

        assert flushed(place).value("ml.training.samples") == rows

    def test_a_loader_that_raises(self, place: Recorder) -> None:
        """A loader's exception passes through `batches` as it is."""
        raised = Error()

        def loader() -> Iterator[int]:
            yield 1
            raise raised

        with pytest.raises(Error) as caught, otel_ml.train("churn") as run:
            for _ in run.batches(loader()):
                pass

        assert caught.value is raised


class TestDecorated:
    def test_functions_of_each_kind(self, place: Recorder) -> None:
        """Plain, method, coroutine, generator and async generator: one run each, which `current()` gives inside."""
        result = object()
        seen: list[otel_ml.Call | otel_ml.Run | None] = []

        def note() -> None:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            run.log(loss=1.0)
            seen.append(run)

        @otel_ml.train
        def plain() -> object:
            note()
            return result

        class Trainer:
            @otel_ml.train(model="method", version="2", params={"a": 1}, labels={"b": "c"})
            def fit(self) -> object:
                note()
                return result

            @otel_ml.train(model="static")
            @staticmethod
            def static() -> object:
                note()
                return result

        @otel_ml.train(model="coroutine")
        async def coroutine() -> object:
            await asyncio.sleep(0)
            note()
            return result

        @otel_ml.train("generator")
        def generator() -> Iterator[object]:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            for epoch in run.epochs(2):
                span = trace.get_current_span()
                yield epoch
                assert trace.get_current_span() is span
                with epoch.evaluate():
                    pass
            note()

        @otel_ml.train("async generator")
        async def async_generator() -> AsyncIterator[object]:
            note()
            yield result
            await asyncio.sleep(0)
            note()

        async def consume() -> None:
            async for one in async_generator():
                assert one is result
                assert nothing_current()

        assert plain() is Trainer().fit() is Trainer.static() is asyncio.run(coroutine()) is result
        for _ in generator():
            assert nothing_current()
        asyncio.run(consume())
        assert nothing_current()

        flushed(place)
        names = ["plain", "method", "static", "coroutine", "generator", "async generator"]
        assert [span.name for span in place.spans if span.name.startswith("train")] == [
            f"train {name}" for name in names
        ]
        assert [event["ml.training.outcome"] for event in place.events_named(COMPLETED)] == ["success"] * 6
        assert len({id(run) for run in seen}) == 6
        assert len(place.events_named(STEP)) == 7
        parents = {span.context.span_id: span.name for span in place.spans if span.context}
        assert [parents[span.parent.span_id] for span in place.named("evaluate generator") if span.parent] == [
            "epoch generator"
        ] * 2

    @pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
    def test_functions_that_fail(self, place: Recorder, kind: str) -> None:
        """The very exception comes out, the run and its open epoch are errors, and the context is restored."""
        raised = Error()

        @otel_ml.train("m")
        def plain() -> None:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            for _ in run.epochs(2):
                raise raised

        @otel_ml.train("m")
        async def coroutine() -> None:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            for _ in run.epochs(2):
                await asyncio.sleep(0)
                raise raised

        @otel_ml.train("m")
        def generator() -> Iterator[int]:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            for _ in run.epochs(2):
                yield 1
                raise raised

        @otel_ml.train("m")
        async def async_generator() -> AsyncIterator[int]:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            for _ in run.epochs(2):
                yield 1
                raise raised

        async def consume() -> None:
            async for _ in async_generator():
                assert nothing_current()

        calls: dict[str, Callable[[], object]] = {
            "plain": plain,
            "coroutine": lambda: asyncio.run(coroutine()),
            "generator": lambda: list(generator()),
            "async generator": lambda: asyncio.run(consume()),
        }
        with pytest.raises(Error) as caught:
            calls[kind]()

        assert caught.value is raised
        assert nothing_current()
        flushed(place)
        assert [(s.name, (s.attributes or {})["ml.training.outcome"]) for s in place.spans] == [
            ("epoch m", "error"), ("train m", "error"),
        ]  # fmt: skip

    def test_a_generator_left_early(self, place: Recorder) -> None:
        """A consumer that has seen enough leaves a run partial, with its open epoch."""

        @otel_ml.train("m")
        def fit() -> Iterator[int]:
            run = otel_ml.current()
            assert isinstance(run, otel_ml.Run)
            for epoch in run.epochs(5):
                yield epoch.index

        for index in fit():
            if index == 2:
                break
        assert nothing_current()

        flushed(place)
        assert [event["ml.training.outcome"] for event in place.events_named(EPOCH)] == [
            "success",
            "success",
            "partial",
        ]
        assert place.events_named(COMPLETED)[0]["ml.training.outcome"] == "partial"

    def test_configured_anew_in_mid_run(self) -> None:
        """A run that began under one configuration goes on logging under the next; it does not begin again."""
        first, second = Recorder(), Recorder()
        otel_ml.configure(exporters=[first], set_global=False)
        with otel_ml.train("churn") as run:
            run.log(loss=1.0)
            otel_ml.configure(exporters=[second], set_global=False)
            run.log(loss=2.0)
        assert nothing_current()
        flushed(second)

        assert values(first, "loss") == [1.0]
        assert values(second, "loss") == [2.0]
        assert {event["ml.training.run.id"] for event in (*first.events_named(STEP), *second.events_named(STEP))} == {
            run.id
        }
        assert second.events_named(STARTED) == []
        assert len(second.events_named(COMPLETED)) == 1
