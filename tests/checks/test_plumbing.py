"""From calls, labels and runs to checks, and from checks to events, metrics, `on_finding` and the log."""

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import otel_ml
from otel_ml import Finding
from otel_ml.checks import EpochEnd, Labels, Rows, Step
from otel_ml.checks._said import Happened, Reading, Said
from tests.recorder import Recorder, attributes_of, wait_for

MODEL = "churn"


@dataclass
class Noting:
    """A user's own check of a model: it notes what it is shown, and says what it is told to say."""

    says: Sequence[Said] = ()
    fails: type[BaseException] | None = None
    model: str | None = None
    seen: list[object] = field(default_factory=list)
    hold: threading.Event | None = None

    def watch(self) -> "Noting":
        return self

    def rows(self, rows: Rows) -> Iterable[Said]:
        return self._note(rows)

    def labels(self, labels: Labels) -> Iterable[Said]:
        return self._note(labels)

    def passed(self, now: float) -> Iterable[Said]:
        return ()

    def _note(self, what: object) -> Iterable[Said]:
        if self.hold is not None:
            self.hold.wait(10.0)
        self.seen.append(what)
        if self.fails is not None:
            raise self.fails
        return self.says

    @property
    def rows_seen(self) -> list[Rows]:
        return [one for one in self.seen if isinstance(one, Rows)]


@dataclass
class NotingRuns:
    """A user's own check of training runs."""

    says: Sequence[Said] = ()
    seen: list[object] = field(default_factory=list)

    def watch(self) -> "NotingRuns":
        return self

    def step(self, step: Step) -> Iterable[Said]:
        self.seen.append(step)
        return self.says

    def epoch(self, epoch: EpochEnd) -> Iterable[Said]:
        self.seen.append(epoch)
        return ()

    def passed(self, seconds: float) -> Iterable[Said]:
        return ()

    def ended(self, seconds: float) -> Iterable[Said]:
        self.seen.append("ended")
        return ()


@otel_ml.predict(model=MODEL)
def score(batch: Any) -> Any:
    """Return one number for each row, and spoil what it was given."""
    result = np.asarray(batch)[:, 0].copy()
    batch[:] = -1.0
    return result


class TestCalls:
    def test_rows_are_seen_as_they_were_at_the_call(self, place: Recorder) -> None:
        """What the function, or its caller afterwards, does to the batch changes nothing."""
        check = Noting()
        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            score(np.arange(6.0).reshape(3, 2))
            telemetry.flush()

            (rows,) = [one for one in check.rows_seen if one.columns]
            assert {name: list(column) for name, column in rows.columns.items()} == {
                "0": [0.0, 2.0, 4.0],
                "1": [1.0, 3.0, 5.0],
            }
            (outputs,) = [one for one in check.rows_seen if not one.columns]
            assert outputs.predicted is not None
            assert list(outputs.predicted) == [0.0, 2.0, 4.0]

    def test_a_with_block_is_seen_too(self, place: Recorder) -> None:
        """By what it is told of inputs and outputs."""
        check = Noting()
        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            with otel_ml.predict(MODEL) as call:
                call.inputs(np.ones((4, 2)))
                call.outputs([0.5, 0.25, 0.125, 1.0])
            telemetry.flush()

            assert [one.count for one in check.rows_seen] == [4, 4]

    def test_a_check_sees_the_model_that_it_is_for(self, place: Recorder) -> None:
        """Others' calls are not copied for it."""
        mine, other = Noting(model=MODEL), Noting(model="another")
        with otel_ml.configure(exporters=[place], checks=[mine, other]) as telemetry:
            score(np.ones((2, 2)))
            telemetry.flush()

            assert (len(mine.seen), len(other.seen)) == (2, 0)

    def test_a_call_that_fails_has_inputs_but_no_outputs(self, place: Recorder) -> None:
        """Its exception passes as ever."""
        check = Noting()

        @otel_ml.predict(model=MODEL)
        def fails(batch: object) -> object:
            raise ValueError

        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            with pytest.raises(ValueError):
                fails(np.ones((2, 2)))
            telemetry.flush()

            assert [bool(one.columns) for one in check.rows_seen] == [True]

    def test_the_time_of_a_call_is_its_own(self, place: Recorder) -> None:
        """Where a time was given, rows are of that time."""
        check = Noting()

        @otel_ml.predict(model=MODEL, at="day")
        def at_a_day(batch: object, day: str) -> object:
            return 1.0

        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            at_a_day(np.ones((2, 2)), "2013-06-01")
            telemetry.flush()

            assert check.rows_seen[0].at == 1370044800.0

    def test_nothing_is_copied_and_no_thread_runs_without_checks(self, place: Recorder) -> None:
        """Whoever has no check pays nothing for them."""
        with otel_ml.configure(exporters=[place]) as telemetry:
            score(np.ones((2, 2)))
            telemetry.flush()

            assert not [one for one in threading.enumerate() if one.name == "otel_ml-checks"]


class TestLabels:
    def test_they_are_seen_with_the_time_of_their_predictions(self, place: Recorder) -> None:
        """Together, in the order in which they came, with what divides them."""
        check = Noting()
        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            otel_ml.feedback(
                ["a", "b"], actual=["yes", "no"], predicted=["yes", "yes"], score=[0.9, 0.6], model=MODEL,
                at="2013-06-01", segment={"plan": ["basic", None]},
            )  # fmt: skip
            telemetry.flush()

        (labels,) = check.seen
        assert labels == Labels(
            ["yes", "no"], ["yes", "yes"], [0.9, 0.6], [1370044800.0] * 2, {"plan": ["basic", None]}
        )

    def test_what_divides_them_is_not_exported(self, place: Recorder) -> None:
        """It is for checks alone."""
        with otel_ml.configure(exporters=[place], checks=[Noting()]) as telemetry:
            otel_ml.feedback("a", actual="yes", predicted="yes", model=MODEL, segment={"plan": "basic"})
            telemetry.flush()

            assert "basic" not in repr(place.events)


class TestRuns:
    def test_steps_and_epochs_are_seen_in_order(self, place: Recorder) -> None:
        """With their numbers, and under `loss` the mean of an epoch's steps."""
        check = NotingRuns()
        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            with otel_ml.train(MODEL) as run:
                for epoch in run.epochs(2):
                    for loss in (1.0, 2.0):
                        run.log(loss=loss, lr=0.1, note="text")
                    epoch.log(val_loss=3.0)
            telemetry.flush()

        kinds = [type(one).__name__ for one in check.seen]
        assert kinds == ["Step", "Step", "EpochEnd", "Step", "Step", "EpochEnd", "str"]
        step, epoch = check.seen[0], check.seen[2]
        assert isinstance(step, Step)
        assert (step.index, step.epoch, step.values) == (0, 0, {"loss": 1.0, "lr": 0.1})
        assert isinstance(epoch, EpochEnd)
        assert (epoch.index, epoch.values) == (0, {"loss": 1.5, "val_loss": 3.0})
        times = [one.seconds for one in check.seen if isinstance(one, Step | EpochEnd)]
        assert times == sorted(times)
        assert times[0] >= 0.0


FOUND = Finding(
    "overfit", "warning", "Accuracy fell by 0.05.", "Stop earlier.", "val_accuracy", {"n": 500, "fall": 0.05}
)


class TestFindings:
    def test_a_finding_goes_everywhere_once(self, place: Recorder, caplog: pytest.LogCaptureFixture) -> None:
        """An event in the run's trace, a count, the user's function, one line."""
        told: list[Finding] = []
        check = NotingRuns([FOUND])
        with otel_ml.configure(exporters=[place], checks=[check], on_finding=told.append) as telemetry:
            with caplog.at_level(logging.INFO, "otel_ml"), otel_ml.train(MODEL, version="2") as run:
                run.log(loss=1.0)
            telemetry.flush()
            (event,) = [one for one in place.events if one.log_record.event_name == "ml.diagnostic.finding"]
            (span,) = place.spans

            assert event.log_record.trace_id == span.context.trace_id
            assert {key.rpartition("ml.diagnostic.")[2]: value for key, value in attributes_of(event).items()} == {
                "ml.model.name": MODEL, "ml.model.version": "2", "ml.training.run.id": run.id, "rule.id": "overfit",
                "severity": "warning", "state": "open", "subject": "val_accuracy", "message": "Accuracy fell by 0.05.",
                "advice": "Stop earlier.", "evidence.n": 500, "evidence.fall": 0.05,
            }  # fmt: skip
            about = {"ml.diagnostic.rule.id": "overfit", "ml.diagnostic.severity": "warning", "ml.model.name": MODEL}
            assert place.value("ml.diagnostic.findings", **about) == 1
        assert [(one.rule, one.model, one.version, one.run) for one in told] == [("overfit", MODEL, "2", run.id)]
        assert caplog.messages == ["churn: Accuracy fell by 0.05."]

    def test_readings_are_metrics(self, place: Recorder) -> None:
        """Counters add up, gauges keep the latest, with the model's identity."""
        from otel_ml import _catalog as names

        says = [
            Reading(names.DRIFT_PSI, 0.5, {names.FEATURE_NAME: "age"}),
            Reading(names.FEATURE_VALUES, 3, {names.FEATURE_NAME: "age", names.FEATURE_BIN: "0"}),
            Happened(names.EVALUATION_RESULT, {names.EVALUATION_NAME: "f1"}, 5.0),
        ]
        with otel_ml.configure(exporters=[place], checks=[Noting(says)]) as telemetry:
            for id in ("a", "b"):
                otel_ml.feedback(id, actual="x", predicted="x", model=MODEL)
                telemetry.flush()

            assert place.value("ml.drift.psi", **{"ml.feature.name": "age"}) == 0.5
            assert place.value("ml.feature.values", **{"ml.feature.name": "age", "ml.feature.bin": "0"}) == 6
            results = [one for one in place.events if one.log_record.event_name == "ml.evaluation.result"]
            assert [one.log_record.timestamp for one in results] == [5_000_000_000] * 2

    @pytest.mark.shielded
    @pytest.mark.parametrize("fails", [ValueError, SystemExit, KeyboardInterrupt])
    def test_a_check_that_fails_costs_nobody_else(self, place: Recorder, fails: type[BaseException]) -> None:
        """Other checks are asked, and it is asked again."""
        bad, good = Noting(fails=fails), Noting()
        with otel_ml.configure(exporters=[place], checks=[bad, good]) as telemetry:
            for _ in range(3):
                score(np.ones((2, 2)))
                telemetry.flush()

        assert len(bad.seen) == len(good.seen) == 6

    @pytest.mark.shielded
    def test_a_function_that_fails_costs_nothing(self, place: Recorder) -> None:
        """What `on_finding` raises is counted, and the finding is told all the same."""

        def fail(_: Finding) -> None:
            raise ValueError

        with otel_ml.configure(exporters=[place], checks=[NotingRuns([FOUND])], on_finding=fail) as telemetry:
            with otel_ml.train(MODEL) as run:
                run.log(loss=1.0)
            telemetry.flush()

            assert len(place.events_named("ml.diagnostic.finding")) == 1
            assert otel_ml.health().failures == {"call on_finding": 1}


class TestTooMuch:
    def test_what_comes_too_fast_is_left_out_and_counted(
        self, place: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A check that hangs holds up no call; what it does not see is a number."""
        from otel_ml import _watching

        monkeypatch.setattr(_watching, "MAX_WAITING", 100)
        check = Noting(hold=threading.Event())
        with otel_ml.configure(exporters=[place], checks=[check]) as telemetry:
            for _ in range(1_000):
                score(np.ones((2, 2)))
            assert check.hold is not None
            check.hold.set()
            assert telemetry.flush()
            rows = sum(one.count for one in check.rows_seen)
            assert wait_for(lambda: telemetry.flush() and place.points("otel_ml.checks.dropped"))

            assert rows < 4_000
            assert place.value("otel_ml.checks.dropped") == 4_000 - rows

    def test_a_check_that_hangs_does_not_hold_up_the_end(self, place: Recorder) -> None:
        """`flush` and `shutdown` keep to their time."""
        from tests.stopwatch import stopwatch

        check = Noting(hold=threading.Event())
        telemetry = otel_ml.configure(exporters=[place], checks=[check])
        score(np.ones((2, 2)))
        with stopwatch() as took:
            telemetry.flush(0.4)
            telemetry.shutdown(0.4)
        assert check.hold is not None
        check.hold.set()

        assert took.seconds < 0.8 + 0.5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_has_checks_of_its_own(place: Recorder) -> None:
    """What the parent's checks had seen is not seen again; what the child does is."""
    check = Noting()
    with otel_ml.configure(exporters=[lambda: place], checks=[check]) as telemetry:
        score(np.ones((2, 2)))
        telemetry.flush()
        seen = len(check.seen)
        pid = os.fork()
        if pid == 0:
            score(np.ones((3, 2)))
            otel_ml.flush()
            os._exit(len(check.seen) - seen)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 2


@pytest.fixture
def place() -> Recorder:
    """A place that keeps everything."""
    return Recorder()
