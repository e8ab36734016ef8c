"""What `predict` and `train` are given: wrong options are refused while decorating, and never cost a call or a run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import otel_ml
from tests.recorder import Recorder


@pytest.fixture
def place() -> Recorder:
    """A configured place that keeps what it is sent."""
    made = Recorder()
    otel_ml.configure(exporters=[made], set_global=False)
    return made


def score(row: int, tid: str = "by default", *, day: str = "2024-05-06") -> str:
    """Predict, with an id and a time that need not be given."""
    return "x"


def demanding(row: int, tid: str, day: str) -> str:
    """Predict, with an id and a time that have to be given."""
    return score(row, tid, day=day)


class Scores:
    """A callable object, and methods."""

    def method(self, row: int, tid: str = "by default", *, day: str = "2024-05-06") -> str:
        return score(row, tid, day=day)

    __call__ = method


class Decorated:
    @otel_ml.predict(model="m", id="tid", at="day")
    def method(self, row: int, tid: str = "by default", *, day: str = "2024-05-06") -> str:
        return score(row, tid, day=day)


@functools.wraps(score)
def wrapped(*args: Any, **kwargs: Any) -> str:
    return score(*args, **kwargs)


def observed(function: Callable[..., str]) -> Callable[..., str]:
    """Decorate with an id and a time that are arguments."""
    return otel_ml.predict(model="m", id="tid", at="day")(function)


class TestDefaults:
    @pytest.mark.parametrize(
        "function",
        [
            observed(score), Decorated().method, observed(Scores().method), observed(Scores()), observed(wrapped),
            observed(functools.partial(score)), observed(functools.partial(demanding, tid="by default", day="2024-05-06")),
        ],
        ids=["function", "method", "bound method", "callable object", "wrapped function", "partial", "bound by a partial"],
    )  # fmt: skip
    def test_are_ids_and_times_too(self, place: Recorder, function: Callable[..., str]) -> None:
        """An argument that a call leaves out has its default value, for `id=` and `at=` as for the function."""
        function(1)
        function(1, tid="given", day="2024-07-08")
        otel_ml.feedback(["by default", "given"], actual=["x", "x"])

        assert otel_ml.flush(10.0)
        events = place.events_named("ml.ground_truth.received")
        assert [event["ml.ground_truth.result"] for event in events] == ["matched", "matched"]
        assert [event["ml.prediction.time"] for event in events] == ["2024-05-06", "2024-07-08"]


class TestLabels:
    @pytest.mark.parametrize("verb", [otel_ml.predict, otel_ml.train])
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({"": "x"}, 'labels must map names to .*. Write labels={"variant": "a"}.'),
            ({" ": "x"}, "labels must map names to "),
            ({"ml.model.name": "x"}, "labels has 'ml.model.name', which otel_ml sets itself. Give the label a name of"),
            ({"a": 1, "ml.model.version": "x"}, "labels has 'ml.model.version', which otel_ml sets itself."),
            ({"error.type": "x"}, "labels has 'error.type', which otel_ml sets itself."),
        ],
    )
    def test_that_would_pass_a_call_off_as_anothers_are_refused(
        self, verb: Callable[..., object], labels: dict[str, object], message: str
    ) -> None:
        """A label without a name, or with one that calls and runs have already, is a `ConfigurationError`."""
        with pytest.raises(otel_ml.ConfigurationError, match=message):
            verb("m", labels=labels)

    def test_of_a_call_leave_its_identity_alone(self, place: Recorder) -> None:
        """`call.label` never raises: what a call says of itself stays, on the span and on the metrics."""
        with otel_ml.predict("m") as call:
            call.label(**{"ml.model.name": "x", "": "y", "tier": "gold"})

        assert otel_ml.flush(10.0)
        attributes = dict(place.span().attributes or {})
        assert (attributes["ml.model.name"], attributes["tier"], "" in attributes) == ("m", "gold", False)
        assert place.value("ml.prediction.duration", ml__model__name="m", tier="gold") == 1


class Unreadable(Mapping[str, object]):
    """A mapping that holds a value and then fails, as a configuration with a value missing does."""

    def __getitem__(self, key: str) -> object:
        if key == "lr":
            return 0.5
        raise LookupError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["lr", "missing"])

    def __len__(self) -> int:
        return 2


class TestParams:
    def test_may_have_any_key(self, place: Recorder) -> None:
        """Keys that are no text become text, as those of `run.log` do; the run is whole."""
        params: Any = {1: 2, "lr": 1e-3, None: object()}
        with otel_ml.train("churn", params=params) as run:
            run.log(loss=1.0)

        assert otel_ml.flush(10.0)
        found = {k: v for k, v in (place.span().attributes or {}).items() if "hyperparameter" in k}
        assert found == {
            "ml.training.hyperparameter.1": 2,
            "ml.training.hyperparameter.lr": 1e-3,
            "ml.training.hyperparameter.None": "<object>",
        }
        assert len(place.events) == 3

    @pytest.mark.shielded
    def test_that_cannot_be_read_do_not_cost_the_run(self, place: Recorder, caplog: pytest.LogCaptureFixture) -> None:
        """What can be read of them is kept, the rest told in a line."""
        with otel_ml.train("churn", params=Unreadable()) as run:
            run.log(loss=1.0)

        assert otel_ml.flush(10.0)
        assert (place.span().attributes or {})["ml.training.hyperparameter.lr"] == 0.5
        assert len(place.events) == 3
        assert "otel_ml could not read params" in caplog.text


class TestWhatCanBeDecorated:
    @pytest.mark.parametrize("disabled", ["false", "true"])
    @pytest.mark.parametrize("bare", [True, False])
    @pytest.mark.parametrize(("verb", "does"), [(otel_ml.predict, "predicts"), (otel_ml.train, "trains")])
    def test_no_class(self, verb: Any, does: str, bare: bool, disabled: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """To call a class makes an object and predicts nothing, so a class is refused, also where telemetry is off."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", disabled)
        decorate = verb if bare else verb(model="m")

        with pytest.raises(
            otel_ml.ConfigurationError,
            match=rf"cannot decorate a class \(Scores\)\. Put @otel_ml\.{verb.__name__} above its method that {does}\.",
        ):
            decorate(Scores)

    @pytest.mark.parametrize("verb", [otel_ml.predict, otel_ml.train])
    def test_a_partial_stays_one(self, place: Recorder, verb: Any) -> None:
        """What comes back for a `functools.partial` is one: it can be called, looked at and bound further."""
        decorated = verb(functools.partial(score, 1))

        assert type(decorated) is functools.partial
        assert decorated(tid="a") == functools.partial(decorated, tid="b")() == decorated.func("c") == "x"
        assert otel_ml.flush(10.0)
        assert [span.name for span in place.spans] == [f"{verb.__name__} score"] * 3

    def test_a_callable_object_becomes_a_function(self, place: Recorder) -> None:
        """It has the object's own attributes as they were, and the object itself as `__wrapped__`."""
        scores = Scores()
        scores.threshold = 0.5  # type: ignore[attr-defined]  # any object may have more

        decorated: Any = otel_ml.predict(scores)

        assert decorated(1) == "x"
        assert (decorated.threshold, decorated.__wrapped__) == (0.5, scores)
        assert not hasattr(decorated, "method")
