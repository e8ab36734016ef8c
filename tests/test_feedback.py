"""Labels find their predictions: by id, now or much later, one or many, and each is counted once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

import otel_ml
from otel_ml._outcomes import MAX_REMEMBERED
from tests.recorder import Recorder

RECEIVED = "ml.ground_truth.received"


@pytest.fixture
def place() -> Recorder:
    """A configured place that keeps what it is sent."""
    made = Recorder()
    otel_ml.configure(exporters=[made], set_global=False)
    return made


def labels(place: Recorder) -> list[dict[str, object]]:
    """Return the events of the labels that came."""
    assert otel_ml.flush(10.0)
    return place.events_named(RECEIVED)


def results(place: Recorder) -> dict[object, float]:
    """Return how many labels there were, by what became of them."""
    assert otel_ml.flush(10.0)
    return {(p.attributes or {})["ml.ground_truth.result"]: p.value for p in place.points("ml.ground_truth.labels")}  # type: ignore[union-attr]  # a sum


def confusions(place: Recorder) -> dict[tuple[object, object], float]:
    """Return how many labels there were by actual and predicted class."""
    assert otel_ml.flush(10.0)
    return {
        ((p.attributes or {})["ml.class.actual"], (p.attributes or {})["ml.class.predicted"]): p.value  # type: ignore[union-attr]  # a sum
        for p in place.points("ml.evaluation.confusions")
    }


@otel_ml.predict(model="fraud", version="7", id="transaction", output=lambda result: result["label"])
def check(transaction: object, amount: float) -> dict[str, str]:
    return {"label": "fraud" if amount > 1000 else "fine"}


class TestWhatBecomesOfALabel:
    def test_matched(self, place: Recorder) -> None:
        """A label finds its prediction, of this model and version, and lies in its trace."""
        check("t-1", 2500.0)
        otel_ml.feedback("t-1", actual="fine", at="2024-02-01")
        (event,) = labels(place)
        (span,) = place.spans

        assert event == {
            "ml.prediction.id": "t-1",
            "ml.model.name": "fraud",
            "ml.model.version": "7",
            "ml.ground_truth.result": "matched",
            "ml.ground_truth.time": "2024-02-01",
            "ml.class.actual": "fine",
            "ml.class.predicted": "fraud",
        }
        record = place.events[0].log_record
        assert span.context is not None
        assert (record.trace_id, record.span_id, record.trace_flags) == (
            span.context.trace_id, span.context.span_id, span.context.trace_flags,
        )  # fmt: skip
        attributes = dict(span.attributes or {})
        assert attributes["ml.prediction.id"] == "t-1"
        assert attributes["ml.prediction.class.name"] == "fraud"
        assert results(place) == {"matched": 1}
        assert confusions(place) == {("fine", "fraud"): 1}

    def test_unmatched_duplicate_and_matched_again(self, place: Recorder) -> None:
        """Nobody knows it; it has a label already; it was predicted anew: each is counted as what it is."""
        otel_ml.feedback("unknown", actual="fine", model="fraud")
        check("t-1", 1.0)
        otel_ml.feedback("t-1", actual="fine")
        otel_ml.feedback("t-1", actual="fraud")
        otel_ml.feedback("t-1", actual="fraud", predicted="fraud", model="fraud")
        check("t-1", 1.0)
        otel_ml.feedback("t-1", actual="fine")

        assert [event["ml.ground_truth.result"] for event in labels(place)] == [
            "unmatched", "matched", "duplicate", "duplicate", "matched",
        ]  # fmt: skip
        assert confusions(place) == {("fine", "fine"): 2}
        counted = {
            k: place.value("ml.ground_truth.labels", ml__ground_truth__result=k)
            for k in ("matched", "duplicate", "unmatched")
        }
        assert counted == {"matched": 2, "duplicate": 2, "unmatched": 1}

    def test_duplicates_count_for_the_model_of_the_first(self, place: Recorder) -> None:
        """A second label is one of the same model and version, by whichever way they were known at the first."""
        check("t-1", 1.0)
        otel_ml.feedback(["t-1", "t-1"], actual=["fine", "fraud"])
        otel_ml.feedback("t-2", actual="dry", predicted="rain", model="rain", version="1")
        otel_ml.feedback("t-2", actual="rain")
        otel_ml.feedback(["t-3", "t-3"], actual=["a", "b"])
        otel_ml.feedback("t-3", actual="c", model="late")
        otel_ml.feedback("t-3", actual="d")

        duplicates = [event for event in labels(place) if event["ml.ground_truth.result"] == "duplicate"]
        assert [(event["ml.model.name"], event.get("ml.model.version")) for event in duplicates] == [
            ("fraud", "7"), ("rain", "1"), ("_OTHER", None), ("late", None), ("late", None),
        ]  # fmt: skip
        assert place.value("ml.ground_truth.labels", ml__model__name="fraud", ml__ground_truth__result="duplicate") == 1

    def test_expired(self, place: Recorder) -> None:
        """100,000 predictions are remembered; the oldest go and are counted, and their labels find nothing."""
        with otel_ml.predict("churn") as call:
            call.ids(range(MAX_REMEMBERED + 5))
            call.outputs([1] * (MAX_REMEMBERED + 5))
        for id in (0, 4, 5, MAX_REMEMBERED + 4):
            otel_ml.feedback(id, actual=1, model="churn")

        assert [event["ml.ground_truth.result"] for event in labels(place)] == [
            "unmatched", "unmatched", "matched", "matched",
        ]  # fmt: skip
        assert results(place) == {"expired": 5, "unmatched": 2, "matched": 2}

    def test_told_in_another_job(self, place: Recorder) -> None:
        """With `predicted` given nothing has to be remembered; the model and version are those given."""
        otel_ml.feedback(
            "t-9", actual="rain", predicted="dry", score=0.3, model="rain", version="1", at=date(2014, 6, 5)
        )
        (event,) = labels(place)

        assert event == {
            "ml.prediction.id": "t-9",
            "ml.model.name": "rain",
            "ml.model.version": "1",
            "ml.ground_truth.result": "matched",
            "ml.ground_truth.time": "2014-06-05",
            "ml.prediction.score": 0.3,
            "ml.class.actual": "rain",
            "ml.class.predicted": "dry",
        }
        assert place.events[0].log_record.trace_id == 0
        assert confusions(place) == {("rain", "dry"): 1}

    def test_of_a_number(self, place: Recorder) -> None:
        """For a regression the values are kept, in the event alone: they are no classes."""

        @otel_ml.predict(model="price", id="house")
        def price(house: int) -> float:
            return -12.5

        price(17)
        otel_ml.feedback(17, actual=13.0)
        (event,) = labels(place)

        assert (event["ml.ground_truth.value"], event["ml.prediction.value"]) == (13.0, -12.5)
        assert event["ml.prediction.id"] == "17"
        assert confusions(place) == {}
        assert results(place) == {"matched": 1}

    @pytest.mark.parametrize(
        ("actual", "predicted", "expected"),
        [
            (True, 1, ("1", "1")),
            (np.bool_(False), 0, ("0", "0")),
            (np.int64(2), "2", ("2", "2")),
            (np.str_("a"), "b", ("a", "b")),
            (3, [4], ("3", "4")),
        ],
    )
    def test_of_classes_of_any_type(
        self, place: Recorder, actual: str, predicted: str, expected: tuple[str, str]
    ) -> None:
        """Whole numbers, booleans and text are classes; True and 1 are the same one, as they are to numpy."""
        otel_ml.feedback("a", actual=actual, predicted=predicted, model="m")

        assert confusions(place) == {expected: 1}

    def test_of_more_classes_than_anyone_looks_at(self, place: Recorder) -> None:
        """A model's first 20 classes have names of their own, the rest are `_OTHER`; the counts still add up."""
        for n in range(30):
            otel_ml.feedback(n, actual=f"class {n}", predicted="class 0", model="many")
        otel_ml.feedback("a", actual="new", predicted="new", model="other model")

        found = confusions(place)
        assert sum(found.values()) == 31
        assert len(found) == 22
        assert found["_OTHER", "class 0"] == 10
        assert found["new", "new"] == 1
        assert {event["ml.class.actual"] for event in labels(place)} >= {f"class {n}" for n in range(30)}


class TestIds:
    def test_named_by_position_or_keyword(self, place: Recorder) -> None:
        """`id=` finds its argument however it is passed; numbers become text."""
        check("a", 1.0)
        check(amount=1.0, transaction=np.int64(7))

        @otel_ml.predict(model="m", id="key")
        def keyword(*rows: float, key: str, **more: object) -> str:
            return "x"

        @otel_ml.predict(model="m", id="other")
        def collected(**more: object) -> str:
            return "x"

        keyword(1.0, 2.0, key="b")
        collected(other="c")
        otel_ml.feedback(["a", "7", "b", "c"], actual=["fine", "fine", "x", "x"])

        assert [event["ml.prediction.id"] for event in labels(place)] == ["a", "7", "b", "c"]
        assert results(place) == {"matched": 2} or sum(results(place).values()) == 2
        assert {event["ml.ground_truth.result"] for event in labels(place)} == {"matched"}

    def test_of_methods_and_coroutines(self, place: Recorder) -> None:
        """`id=` and `at=` may be functions of the arguments, also of methods and coroutines."""

        class Model:
            name = "n"

            @otel_ml.predict(model="m", id=lambda self, row: f"{self.name}-{row['id']}", at=lambda self, row: row["at"])
            async def score(self, row: dict[str, str]) -> str:
                return "x"

        asyncio.run(Model().score({"id": "1", "at": "2024-01-01"}))
        otel_ml.feedback("n-1", actual="x")
        (event,) = labels(place)

        assert (event["ml.ground_truth.result"], event["ml.prediction.time"]) == ("matched", "2024-01-01")

    def test_of_a_batch(self, place: Recorder) -> None:
        """`id=` may name a column: one id a row, whatever holds them; results are remembered row by row."""

        @otel_ml.predict(model="m", id=lambda frame: frame["id"])
        def score(frame: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return np.array([0, 1, 1])

        score(pd.DataFrame({"id": ["a", "b", "c"], "x": [1.0, 2.0, 3.0]}))
        otel_ml.feedback(pd.Series(["c", "a", "b"]), actual=np.array([1, 1, 0]))

        assert {event["ml.ground_truth.result"] for event in labels(place)} == {"matched"}
        assert confusions(place) == {("1", "1"): 1, ("1", "0"): 1, ("0", "1"): 1}

    def test_set_and_read_inside(self, place: Recorder) -> None:
        """`call.id` may be set or read, `call.ids` given; all as text."""
        with otel_ml.predict("m") as call:
            call.id = 5
            call.outputs("x")
        with otel_ml.predict("m") as call:
            made = call.id
            assert call.id == made
            call.outputs("x")
        with otel_ml.predict("m") as call:
            assert call.ids(np.array([8, 9])) == ["8", "9"]
            call.outputs(["x", "y"])
        otel_ml.feedback([5, made, 8, "9"], actual=["x", "x", "x", "x"])

        assert len({made}) == 1
        assert len(made) == 32
        assert {event["ml.ground_truth.result"] for event in labels(place)} == {"matched"}
        assert confusions(place) == {("x", "x"): 3, ("x", "y"): 1}
        assert [dict(span.attributes or {}).get("ml.prediction.id") for span in place.spans] == ["5", made, None]

    def test_read_after_the_block(self, place: Recorder) -> None:
        """`call.id` may be read once the block has ended, also that of a decorated function; results are there still."""
        kept: list[otel_ml.Call] = []

        @otel_ml.predict(model="m")
        def score() -> str:
            call = otel_ml.current()
            assert isinstance(call, otel_ml.Call)
            kept.append(call)
            return "y"

        with otel_ml.predict("m") as call:
            call.outputs("x")
        score()
        with otel_ml.predict("m") as late:
            pass
        late.outputs("z")
        otel_ml.feedback([call.id, kept[0].id, late.id], actual=["x", "x", "x"])

        assert {event["ml.ground_truth.result"] for event in labels(place)} == {"matched"}
        assert confusions(place) == {("x", "x"): 1, ("x", "y"): 1, ("x", "z"): 1}

    def test_nobody_touched_remember_nothing(self, place: Recorder) -> None:
        """A call whose id nobody named, read or set leaves nothing to be remembered."""
        telemetry = otel_ml.configure(exporters=[place], set_global=False)
        for _ in range(10):
            with otel_ml.predict("m") as call:
                call.outputs("x")

        assert len(telemetry.state.outcomes) == 0

    def test_of_calls_that_failed_remember_nothing(self, place: Recorder) -> None:
        """A call that raised or was cancelled predicted nothing."""
        telemetry = otel_ml.configure(exporters=[place], set_global=False)
        for error in (ValueError(), GeneratorExit()):
            with contextlib.suppress(type(error)), otel_ml.predict("m") as call:
                call.id = "a"
                raise error

        assert len(telemetry.state.outcomes) == 0

    @pytest.mark.parametrize("sampling", [0.0, 1.0])
    @pytest.mark.parametrize("spans", [True, False])
    def test_of_calls_without_a_span(self, sampling: float, spans: bool) -> None:
        """Labels are joined whether a call has a span or not."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=sampling, keep_slower_than=None, set_global=False)

        @otel_ml.predict(model="m", id="key", spans=spans)
        def score(key: str) -> str:
            return "x"

        score("a")
        otel_ml.feedback("a", actual="x")

        assert results(place) == {"matched": 1}
        record = place.events[0].log_record
        assert bool(record.trace_id) == spans
        assert bool(int(record.trace_flags or 0) & 1) == (spans and sampling == 1.0)


class TestOutput:
    def test_alone_has_a_prediction_remembered(self, place: Recorder) -> None:
        """`output=` without an id: the class is on the span, with an id made for it, under which it is remembered."""

        @otel_ml.predict(model="m", output=lambda result: result[0])
        def score() -> tuple[str, float]:
            return "cat", 0.9

        score()
        with otel_ml.predict("m", output=lambda result: result * 2) as call:
            call.outputs(2.5)
        assert otel_ml.flush(10.0)
        first, second = (dict(span.attributes or {}) for span in place.spans)
        assert first["ml.prediction.class.name"] == "cat"
        assert second["ml.prediction.value"] == 5.0

        otel_ml.feedback(str(first["ml.prediction.id"]), actual="dog")
        assert confusions(place) == {("dog", "cat"): 1}

    @pytest.mark.shielded
    @pytest.mark.parametrize("part", ["output", "id", "at"])
    def test_that_raises_costs_only_the_label(self, place: Recorder, part: str) -> None:
        """A function of the user's that fails leaves the call, its span and its metrics whole."""

        def broken(*args: object) -> str:
            raise ZeroDivisionError

        options: dict[str, Callable[..., object]] = {part: broken}
        score = otel_ml.predict(model="m", **options)(lambda: "x")  # type: ignore[call-overload]  # one of its options

        assert score() == "x"
        assert otel_ml.flush(10.0)
        assert len(place.spans) == 1
        assert place.value("ml.prediction.duration") == 1
        assert place.value("ml.prediction.active") == 0

    def test_of_a_batch_leaves_the_span_alone(self, place: Recorder) -> None:
        """What is remembered of a batch is no single class: nothing about it stands on the span."""
        with otel_ml.predict("m", output=lambda result: result["labels"]) as call:
            call.ids(["a", "b"])
            call.outputs({"labels": ["x", "y"]})
        with otel_ml.predict("m", output=lambda result: result) as call:
            call.outputs(["x", "y"])
        otel_ml.feedback(["a", "b"], actual=["x", "x"])

        assert confusions(place) == {("x", "x"): 1, ("x", "y"): 1}
        assert all("ml.prediction.class.name" not in (span.attributes or {}) for span in place.spans)


class TestTimes:
    @pytest.mark.parametrize(
        ("at", "expected"),
        [
            ("2014-06-05", "2014-06-05"),
            (date(2014, 6, 5), "2014-06-05"),
            (datetime(2014, 6, 5, 12, tzinfo=UTC), "2014-06-05T12:00:00+00:00"),
            (np.datetime64("2014-06-05"), "2014-06-05"),
            (pd.Timestamp("2014-06-05 12:00"), "2014-06-05T12:00:00"),
            (0, "1970-01-01T00:00:00+00:00"),
            (1_401_969_600.5, "2014-06-05T12:00:00.500000+00:00"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_in_any_form(self, place: Recorder, at: str, expected: str) -> None:
        """Text, dates, datetimes, numpy's and pandas' times and seconds since 1970 all become ISO 8601."""

        @otel_ml.predict(model="m", id="key", at="when")
        def score(key: str, when: object) -> str:
            return "x"

        score("a", at)
        otel_ml.feedback("a", actual="x", at=at)
        (event,) = labels(place)

        assert event["ml.prediction.time"] == event["ml.ground_truth.time"] == expected
        assert dict(place.spans[0].attributes or {})["ml.prediction.time"] == expected

    def test_set_on_the_call(self, place: Recorder) -> None:
        """`call.at` is the prediction's own time."""
        with otel_ml.predict("m") as call:
            assert call.at is None
            call.at = date(2014, 6, 5)
            call.id = "a"
            call.outputs("x")
        otel_ml.feedback("a", actual="x")

        assert labels(place)[0]["ml.prediction.time"] == call.at == "2014-06-05"

    @pytest.mark.shielded
    def test_that_are_none_are_left_out(self, place: Recorder) -> None:
        """What is no time is told once in the log, never raised; the label itself may be told again."""
        with otel_ml.predict("m") as call:
            call.at = object()  # type: ignore[assignment]  # that is the point
            call.id = "a"
        otel_ml.feedback("a", actual="x", at=[])  # type: ignore[arg-type]  # likewise

        assert call.at is None
        assert otel_ml.health().failures


class TestBatches:
    @pytest.mark.parametrize(
        "many",
        [
            lambda values: list(values),
            lambda values: tuple(values),
            lambda values: np.array(values),
            lambda values: pd.Series(values),
            lambda values: iter(values),
            lambda values: dict(enumerate(values)).values(),
        ],
        ids=["list", "tuple", "array", "series", "iterator", "values"],
    )
    def test_from_anything_that_holds_several(
        self, place: Recorder, many: Callable[[list[object]], Iterable[str]]
    ) -> None:
        """Ids, labels, predictions and scores may come in lists, arrays, series or iterators."""
        otel_ml.feedback(
            many(["a", "b", "c"]),
            actual=many(["x", "y", "x"]),
            predicted=many(["x", "x", "y"]),
            score=many([0.1, 0.2, 0.3]),  # type: ignore[arg-type]  # numbers
            model="m",
        )

        assert confusions(place) == {("x", "x"): 1, ("y", "x"): 1, ("x", "y"): 1}
        assert [event["ml.prediction.score"] for event in labels(place)] == [0.1, 0.2, 0.3]

    def test_of_different_lengths(self, place: Recorder, caplog: pytest.LogCaptureFixture) -> None:
        """Ids without a label are labels of nothing in particular; one line says that the numbers differ."""
        otel_ml.feedback(["a", "b", "c"], actual=["x"], predicted=["x", "x", "x"], model="m")

        assert confusions(place) == {("x", "x"): 1}
        assert len(labels(place)) == 3
        assert "3 ids but 1 values" in caplog.text

    @pytest.mark.shielded
    @pytest.mark.parametrize("ids", [object(), None, 1.5, [object()], [[]], {"a": 1}, b"x", np.array(3)])
    def test_of_nonsense_never_raise(self, place: Recorder, ids: str) -> None:
        """Whatever is passed, `feedback` does not raise."""
        otel_ml.feedback(ids, actual="x", model="m")
        otel_ml.feedback("a", actual=ids, predicted=ids, score=ids, model=ids, version=ids)  # type: ignore[arg-type]  # that is the point


def test_unconfigured_does_nothing() -> None:
    """Without `configure()` a label is let go."""
    check("t-1", 1.0)
    otel_ml.feedback("t-1", actual="fine")


def test_tenants_and_configurations_do_not_share_what_they_remember(place: Recorder) -> None:
    """A label joins predictions of its own configuration only."""
    check("t-1", 1.0)
    other = Recorder()
    otel_ml.configure(exporters=[other], set_global=False)
    otel_ml.feedback("t-1", actual="fine", model="fraud")

    assert results(other) == {"unmatched": 1}
