"""Spans beyond what the SDK would make: late ones, stages, foreign values, and what a queue has to hold."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

import otel_ml
from otel_ml import _late
from tests.recorder import Recorder, Spans, same_rules


@pytest.fixture
def place() -> Recorder:
    """A configured place that keeps what it is sent."""
    made = Recorder()
    otel_ml.configure(exporters=[made], set_global=False)
    return made


def attributes(span: ReadableSpan) -> dict[str, AttributeValue]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def only(place: Recorder) -> ReadableSpan:
    """Return the one span there is."""
    assert otel_ml.flush(10.0)
    return place.span()


def test_a_call_has_its_model_rows_and_outcome(place: Recorder) -> None:
    """Name, kind and attributes are the catalogue's; there is a resource and a scope."""

    @otel_ml.predict(model="churn", version="3.2", labels={"variant": "a", "shadow": True, "share": 0.5})
    def score(rows: list[list[float]]) -> None: ...

    score([[1.0], [2.0], [3.0]])
    span = only(place)

    assert (span.name, span.kind, span.parent) == ("predict churn", SpanKind.INTERNAL, None)
    assert attributes(span) == {
        "ml.operation.name": "predict",
        "ml.model.name": "churn",
        "ml.model.version": "3.2",
        "variant": "a",
        "shadow": True,
        "share": 0.5,
        "ml.prediction.batch.size": 3,
        "ml.prediction.outcome": "success",
    }
    assert span.resource is place.resource
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("otel_ml", otel_ml.__version__)


class TestValuesOfTheUsers:
    class Trap:
        """Runs no code of its own: each of these would fail the test, or take its time."""

        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __str__

        def __iter__(self) -> Iterator[object]:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

        def __bool__(self) -> bool:
            raise AssertionError

        def __hash__(self) -> int:
            raise AssertionError

    @same_rules
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.float32(0.5), 0.5),
            (np.int64(3), 3),
            (np.bool_(True), True),
            (np.str_("text"), "text"),
            (np.zeros((2, 3)), "<numpy.ndarray shape=(2, 3) dtype=float64>"),
            (np.array(7.0), 7.0),
            ([np.float64(1.0), "a"], (1.0, "a")),
            ({"a": np.int8(1)}, {"a": 1}),
            (Trap(), f"<{__name__}.TestValuesOfTheUsers.Trap>"),
            ("\ud800", "?"),
            (float, "<type>"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_are_cleaned_without_running_their_code(self, place: Recorder, value: object, expected: object) -> None:
        """Arrays become shape and dtype, numpy scalars numbers, and objects their class; no `__str__` is called."""
        with otel_ml.predict("m") as call:
            call.set(a=value)  # type: ignore[arg-type]  # whatever users pass
            trace.get_current_span().set_attribute("b", value)  # type: ignore[arg-type]  # likewise
            trace.get_current_span().add_event("event", {"c": value})  # type: ignore[dict-item]  # likewise
        span = only(place)

        assert attributes(span)["a"] == attributes(span)["b"] == (span.events[0].attributes or {})["c"] == expected
        assert span.to_json()

    def test_are_cut_to_1024_characters(self, place: Recorder) -> None:
        """Strings are cut, in lists too, so that one value cannot fill a queue."""
        with otel_ml.predict("m") as call:
            call.set(a="x" * 5_000, b=["y" * 5_000])
        found = attributes(only(place))

        assert found["a"] == "x" * 1_024
        assert found["b"] == ("y" * 1_024,)

    @pytest.mark.parametrize("key", ["", 5, None])
    def test_under_a_key_that_is_none_are_dropped_and_counted(self, place: Recorder, key: object) -> None:
        """An attribute without a name is counted as dropped, as in the SDK."""
        with otel_ml.predict("m"):
            trace.get_current_span().set_attribute(key, 1)  # type: ignore[arg-type]  # that is the point
        span = only(place)

        assert span.dropped_attributes == 1
        assert key not in attributes(span)

    @pytest.mark.shielded
    def test_that_cannot_be_read_cost_nothing_else(self, place: Recorder) -> None:
        """A mapping that raises while it is read is left out; the call and its span are whole."""

        class Broken(dict[str, AttributeValue]):
            def items(self) -> None:  # type: ignore[override]  # raises
                raise ZeroDivisionError

        with otel_ml.predict("m"):
            span = trace.get_current_span()
            span.set_attributes(Broken(a=1))
            span.add_event("event", Broken(a=1))
            span.add_link(SpanContext(1, 2, True), Broken(a=1))
            span.record_exception(ValueError(), Broken(a=1))
            span.set_attribute("b", 2)

        assert attributes(only(place))["b"] == 2


class TestLateSpans:
    def slow(self, recorder: Recorder, **options: object) -> tuple[Recorder, list[SpanContext]]:
        """Configure so that nothing is sampled and everything is slow; return what was handed out inside."""
        otel_ml.configure(exporters=[recorder], sampling=0.0, keep_slower_than=1e-9, set_global=False)
        seen: list[SpanContext] = []

        @otel_ml.predict(model="churn", version="1", **options)  # type: ignore[call-overload]  # its options
        def score(rows: list[list[float]]) -> None:
            seen.append(trace.get_current_span().get_span_context())
            assert not trace.get_current_span().is_recording()
            call = otel_ml.current()
            assert isinstance(call, otel_ml.Call)
            call.set(tier="gold")
            time.sleep(0.001)

        score([[1.0], [2.0]])
        return recorder, seen

    def test_of_slow_calls(self) -> None:
        """A slow unsampled call has a span afterwards: with the ids handed out, sampled, what was set on it, and why."""
        place, (handed,) = self.slow(Recorder())
        span = only(place)

        assert span.context is not None
        assert (span.context.trace_id, span.context.span_id) == (handed.trace_id, handed.span_id)
        assert (int(handed.trace_flags) & 1, int(span.context.trace_flags)) == (0, 3)
        assert attributes(span) == {
            "ml.operation.name": "predict",
            "ml.model.name": "churn",
            "ml.model.version": "1",
            "ml.prediction.batch.size": 2,
            "ml.prediction.outcome": "success",
            "ml.sampling.reason": "slow",
            "tier": "gold",
        }
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time - span.start_time >= 10**6
        assert place.value("ml.prediction.duration") == 1

    def test_of_failed_calls(self) -> None:
        """A failed unsampled call has one too, however fast it was."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=0.0, set_global=False)

        with pytest.raises(ZeroDivisionError), otel_ml.predict("m"):
            raise ZeroDivisionError
        with pytest.raises(GeneratorExit), otel_ml.predict("m"):
            raise GeneratorExit
        span = only(place)

        assert attributes(span)["ml.sampling.reason"] == "error"
        assert attributes(span)["error.type"] == "ZeroDivisionError"
        assert span.status.status_code is StatusCode.ERROR

    def test_reach_processors_too(self) -> None:
        """A standard processor in the list gets them as it gets others."""
        spans, place = Spans(), Recorder()
        processor = SimpleSpanProcessor(spans)
        otel_ml.configure(exporters=[place, processor], sampling=0.0, keep_slower_than=1e-9, set_global=False)
        with otel_ml.predict("m"):
            time.sleep(0.001)

        assert only(place) is spans.kept[0]

    def test_are_ten_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An outage does not export everything: ten a second for the whole process; `health()` counts the rest, as no loss."""
        now = [100.0]
        monkeypatch.setattr(_late, "monotonic", lambda: now[0])
        place, other = Recorder(), Recorder()
        tenant = otel_ml.configure(exporters=[other], sampling=0.0, current=False)
        otel_ml.configure(exporters=[place], sampling=0.0, set_global=False)

        def fail(times: int) -> None:
            for n in range(times):
                with pytest.raises(ZeroDivisionError), otel_ml.predict(f"m-{n % 3}"):
                    raise ZeroDivisionError

        fail(50)
        now[0] += 0.5
        fail(5)
        now[0] += 0.6
        fail(3)

        assert otel_ml.flush(10.0)
        assert len(place.spans) == 13
        assert place.value("ml.prediction.errors") == 58
        assert (otel_ml.health().unkept, otel_ml.health().dropped) == (45, 0)
        with tenant.use():
            fail(8)
        assert tenant.shutdown()
        assert len(other.spans) == 7
        assert tenant.health().unkept == otel_ml.health().unkept == 46
        assert otel_ml.health().ok

    def test_are_not_made_where_nobody_wants_them(self) -> None:
        """`keep_slower_than=None`: neither slow nor failed calls are kept."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=0.0, keep_slower_than=None, set_global=False)

        with pytest.raises(ZeroDivisionError), otel_ml.predict("m"):
            raise ZeroDivisionError

        assert otel_ml.flush(10.0)
        assert place.spans == []

    @pytest.mark.parametrize("sampler", ["", "always_off", "parentbased_always_off", "traceidratio"])
    @pytest.mark.parametrize("flags", [0, 1])
    def test_are_of_root_calls_only(self, monkeypatch: pytest.MonkeyPatch, sampler: str, flags: int) -> None:
        """Under a parent the parent's decision stands, also where a sampler decides against a sampled parent."""
        if sampler:
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
            monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=None if sampler else 0.0, keep_slower_than=1e-9, set_global=False)
        parent = SpanContext(5, 6, True, TraceFlags(flags), TraceState())

        with trace.use_span(trace.NonRecordingSpan(parent)):
            with otel_ml.predict("m"):
                time.sleep(0.001)
            with pytest.raises(ZeroDivisionError), otel_ml.predict("m"):
                raise ZeroDivisionError

        assert otel_ml.flush(10.0)
        assert place.value("ml.prediction.duration") == 2
        followed = flags and sampler in {"", "parentbased_always_off"}
        assert [attributes(span).get("ml.sampling.reason") for span in place.spans] == [None, None] * bool(followed)

    def test_nested_in_an_unsampled_call_are_left_out(self) -> None:
        """Only the outermost call of an unsampled trace is kept: the ones in it have no span to hang from."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=0.0, keep_slower_than=1e-9, set_global=False)

        with otel_ml.predict("outer"), otel_ml.predict("inner") as call, call.stage("inference"):
            time.sleep(0.001)

        assert only(place).name == "predict outer"


class TestStages:
    def test_are_children_of_their_call(self, place: Recorder) -> None:
        """A stage is a span of its own name below the call's, current while it lasts, and a duration by stage."""
        with otel_ml.predict("m", version="2") as call:
            outer = trace.get_current_span()
            with call.stage("preprocess"):
                assert otel_ml.current() is call
                with otel_ml.predict("embedder"):
                    pass
            assert trace.get_current_span() is outer
            with call.stage("inference"), call.stage("matmul"):
                pass
            assert trace.get_current_span() is outer

        assert otel_ml.flush(10.0)
        spans = {span.name: span for span in place.spans}
        parents = {name: span.parent and span.parent.span_id for name, span in spans.items()}
        ids = {name: span.context.span_id for name, span in spans.items() if span.context}
        assert parents == {
            "predict m": None,
            "preprocess": ids["predict m"],
            "predict embedder": ids["preprocess"],
            "inference": ids["predict m"],
            "matmul": ids["inference"],
        }
        assert attributes(spans["inference"]) == {
            "ml.model.name": "m", "ml.model.version": "2", "ml.prediction.stage": "inference",
        }  # fmt: skip
        assert place.value("ml.prediction.stage.duration") == 3
        assert place.value("ml.prediction.stage.duration", ml__prediction__stage="matmul") == 1

    def test_that_fail(self, place: Recorder) -> None:
        """A stage in which an exception passes is an error with a place; one that is cancelled is not."""
        raised = ValueError("secret")
        with pytest.raises(ValueError, match="secret") as caught, otel_ml.predict("m") as call, call.stage("a"):
            raise raised
        with pytest.raises(GeneratorExit), otel_ml.predict("m") as call, call.stage("b"):
            raise GeneratorExit

        assert caught.value is raised
        assert otel_ml.flush(10.0)
        (failed,), (cancelled,) = place.named("a"), place.named("b")
        assert failed.status.status_code is StatusCode.ERROR
        assert attributes(failed)["error.type"] == "ValueError"
        assert attributes(failed)["code.function.name"] == "TestStages.test_that_fail"
        assert "secret" not in failed.to_json()
        assert cancelled.status.status_code is StatusCode.UNSET

    def test_of_calls_without_a_span_are_counted_all_the_same(self) -> None:
        """Where the call is not sampled, its stages are measured but have no span."""
        place = Recorder()
        otel_ml.configure(exporters=[place], sampling=0.0, keep_slower_than=None, set_global=False)

        with otel_ml.predict("m") as call, call.stage("a"):
            pass
        with otel_ml.predict("m", spans=False) as call, call.stage("a"):
            pass

        assert otel_ml.flush(10.0)
        assert place.spans == []
        assert place.value("ml.prediction.stage.duration") == 2


class TestAQueuedSpan:
    def test_that_holds_more_takes_more_room(self) -> None:
        """A queue is bounded by bytes: spans with much on them fill it sooner, and what does not fit is counted."""
        gate = threading.Event()

        class Blocked(Spans):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                gate.wait(20.0)
                return super().export(spans)

        def dropped(attributes: int, events: int, calls: int = 3_000) -> int:
            gate.clear()
            place = Blocked()
            otel_ml.configure(exporters=[place], set_global=False)
            for _ in range(calls):
                with otel_ml.predict("m"):
                    span = trace.get_current_span()
                    for n in range(attributes):
                        span.set_attribute(f"key.{n}", "x" * 1_024)
                    for _ in range(events):
                        span.add_event("event", {"text": "x" * 1_024})
            gate.set()
            delivered = otel_ml.flush(20.0)
            (exporter,) = otel_ml.health().exporters
            account = exporter.signals["spans"]
            assert account.created == calls
            assert delivered is not bool(account.dropped)
            assert account.delivered == len(place.kept)
            return calls - len(place.kept)

        assert dropped(attributes=0, events=0) == 0
        # 12 MB hold about 600 spans of 20 kB.
        assert 1_500 < dropped(attributes=20, events=0) < 2_700
        assert 1_500 < dropped(attributes=0, events=20) < 2_900

    def test_shares_what_is_constant(self, place: Recorder) -> None:
        """Spans of one function share name, resource, scope and attributes, until attributes are first written."""

        @otel_ml.predict(model="m")
        def score(rows: list[str], write: bool = False) -> None:
            if write:
                trace.get_current_span().set_attribute("a", 1)

        for write in (False, True, False):
            score(["a"], write)
        assert otel_ml.flush(10.0)
        first, second, third = place.spans

        assert first.__dict__.keys() == third.__dict__.keys()
        assert "_attributes" not in first.__dict__
        assert attributes(first) == attributes(third) == {k: v for k, v in attributes(second).items() if k != "a"}
        assert sum(map(sys.getsizeof, first.__dict__.values())) < 1_000


def test_the_ids_of_an_unsampled_call_stay_the_same() -> None:
    """Whoever asks for the context of an unsampled call gets the same ids each time, and they are valid."""
    otel_ml.configure(exporters=[], sampling=0.0, set_global=False)
    with otel_ml.predict("m"):
        span = trace.get_current_span()
        first = span.get_span_context()
        span.set_attribute("a", 1)
        span.add_event("e")
        span.set_status(StatusCode.ERROR)
        span.record_exception(ValueError())
        span.end()

        assert first is span.get_span_context()
        assert first.is_valid
        assert not first.trace_flags.sampled
