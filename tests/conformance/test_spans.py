"""Every exported span equals, field by field, what the official SDK makes of the same operations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import time_ns

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

import otel_ml
from otel_ml._otel_private import SUPPRESS_KEY
from otel_ml._span import Ids
from otel_ml._tracing import our_limits
from tests.conformance.oracle import Operation, Oracle, contexts, fields, in_order, operations, oracle
from tests.recorder import Recorder, Spans, same_rules

# What a call has before user code touches its span.
CHURN: dict[str, AttributeValue] = {
    "ml.operation.name": "predict",
    "ml.model.name": "churn",
    "ml.model.version": "3.2",
    "variant": "a",
    "ml.prediction.batch.size": 1,
    "ml.prediction.outcome": "success",
}


@otel_ml.predict(model="churn", version="3.2", labels={"variant": "a"})
def score(rows: Sequence[object], inside: Callable[[], None]) -> None:
    inside()


class Places:
    """Our own sink, and the two official span processors, in one list."""

    def __init__(self) -> None:
        self.ours, self.simple, self.batch = Recorder(), Spans(), Spans()
        self.telemetry = otel_ml.configure(
            exporters=[self.ours, SimpleSpanProcessor(self.simple), BatchSpanProcessor(self.batch)],
            keep_slower_than=None,
            set_global=False,
        )

    def oracle(self) -> Oracle:
        """Return the SDK with our limits."""
        return oracle(self.telemetry.tracer_provider.resource, our_limits(), ids=Ids())  # type: ignore[attr-defined]  # an SDK provider

    def seen(self) -> list[ReadableSpan]:
        """Return the spans that arrived, which must be the same everywhere, and forget them."""
        assert self.telemetry.flush(10.0)
        ours = self.ours.spans
        assert in_order(ours) == in_order(self.simple.kept) == in_order(self.batch.kept)
        self.ours.forget()
        self.simple.kept.clear()
        self.batch.kept.clear()
        return ours


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The SDK logs each value it cuts."""
    loggers = [logging.getLogger(name) for name in ("opentelemetry.attributes", "opentelemetry.sdk.trace")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    yield
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


def applied(ops: Sequence[Operation]) -> Callable[[], None]:
    """Return what runs operations on the current span, as user code does."""

    def inside() -> None:
        for op in ops:
            op(trace.get_current_span())

    return inside


@contextmanager
def under(parent: SpanContext | None) -> Iterator[None]:
    """Run a block with a parent that came from elsewhere."""
    if parent is None:
        yield
        return
    with trace.use_span(NonRecordingSpan(parent)):
        yield


def on_the_wire(span: ReadableSpan) -> bytes:
    """Return the span as OTLP has it, without what differs from run to run."""
    made = encode_spans([span])
    only = made.resource_spans[0].scope_spans[0].spans[0]
    only.span_id, only.start_time_unix_nano, only.end_time_unix_nano = b"", 0, 0
    if not only.parent_span_id:
        only.trace_id = b""
    return made.SerializeToString(deterministic=True)


@same_rules
@pytest.mark.parametrize("examples", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_what_user_code_does_to_its_span(examples: int) -> None:
    """Attributes, events, links, names, statuses and exceptions end up as the SDK would have them."""
    places = Places()
    official = places.oracle()

    @settings(max_examples=examples, deadline=None)
    @given(operations(), st.none() | contexts(st.sampled_from([1, 3])))
    def check(ops: list[Operation], parent: SpanContext | None) -> None:
        before = time_ns()
        with under(parent):
            score([], applied(ops))
            (theirs,) = official.trace("predict churn", {**CHURN, "ml.prediction.batch.size": 0}, applied(ops))
        (ours,) = places.seen()

        assert fields(ours) == fields(theirs)
        assert on_the_wire(ours) == on_the_wire(theirs)
        assert ours.start_time is not None
        assert ours.end_time is not None
        assert before - 10**7 <= ours.start_time <= ours.end_time <= time_ns() + 10**7

    check()


LIMITS = {
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": st.integers(0, 20),
    "OTEL_ATTRIBUTE_COUNT_LIMIT": st.integers(0, 20),
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": st.integers(0, 20),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": st.integers(0, 20),
    "OTEL_SPAN_EVENT_COUNT_LIMIT": st.integers(0, 3),
    "OTEL_SPAN_LINK_COUNT_LIMIT": st.integers(0, 3),
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": st.integers(0, 3),
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": st.integers(0, 3),
}


@same_rules
@pytest.mark.parametrize("examples", [100, pytest.param(2_000, marks=pytest.mark.slow)])
def test_limits_set_by_variables(examples: int) -> None:
    """OpenTelemetry's limit variables override ours; what is cut and how much was dropped are the SDK's."""

    @settings(max_examples=examples, deadline=None)
    @given(st.fixed_dictionaries({}, optional=LIMITS), operations(), st.integers(0, 3))
    def check(limits: dict[str, int], ops: list[Operation], rows: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in limits.items():
                patch.setenv(name, str(value))
            places = Places()
            official = places.oracle()
            score(["a row"] * rows, applied(ops))
            (theirs,) = official.trace("predict churn", {**CHURN, "ml.prediction.batch.size": rows}, applied(ops))
            (ours,) = places.seen()
            places.telemetry.shutdown()

        assert fields(ours) == fields(theirs)

    check()


def test_our_limits_are_64_attributes_of_1024_characters() -> None:
    """Where no variable says otherwise, a span holds 64 attributes of 1,024 characters; the SDK's other limits stay."""
    ours, theirs = our_limits(), SpanLimits()

    assert (ours.max_span_attributes, ours.max_span_attribute_length, ours.max_attribute_length) == (64, 1024, 1024)
    assert (ours.max_events, ours.max_links, ours.max_event_attributes, ours.max_link_attributes) == (
        theirs.max_events, theirs.max_links, theirs.max_event_attributes, theirs.max_link_attributes,
    )  # fmt: skip


# How a tree of calls is nested: each member is a call with children, in order.
TREES = st.recursive(st.just([]), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)


def test_nested_calls_under_any_parent() -> None:
    """Ids, parents, flags and trace state of nested calls link up as the SDK's, sampled by the parent or not at all."""
    places = Places()
    official = places.oracle()

    def walk(tree: list[object], one: Callable[[Callable[[], None]], None]) -> Callable[[], None]:
        def inside() -> None:
            for child in tree:
                one(walk(child, one))  # type: ignore[arg-type]  # a tree

        return inside

    def by_us(inside: Callable[[], None]) -> None:
        score([1.0], inside)

    def by_the_sdk(inside: Callable[[], None]) -> None:
        tracer = official.provider.get_tracer("otel_ml", otel_ml.__version__)
        with tracer.start_as_current_span("predict churn", attributes=CHURN):
            inside()

    def shape(spans: Sequence[ReadableSpan], root: SpanContext | None) -> list[tuple[object, ...]]:
        ids = {root.span_id: -1} if root is not None else {}
        ids |= {one.context.span_id: n for n, one in enumerate(spans)}  # type: ignore[union-attr]  # ended spans have one
        return [
            (
                one.parent and ids[one.parent.span_id],
                one.parent and (one.parent.is_remote, int(one.parent.trace_flags)),
                len({other.context.trace_id for other in spans}),  # type: ignore[union-attr]  # likewise
                int(one.context.trace_flags),  # type: ignore[union-attr]  # likewise
                one.context.trace_state.to_header(),  # type: ignore[union-attr]  # likewise
                root is None or one.context.trace_id == root.trace_id,  # type: ignore[union-attr]  # likewise
            )
            for one in spans
        ]

    @settings(max_examples=100, deadline=None)
    @given(TREES, st.none() | contexts())
    def check(tree: list[object], parent: SpanContext | None) -> None:
        official.spans.kept.clear()
        with under(parent):
            before = trace.get_current_span()
            walk([tree], by_us)()
            assert trace.get_current_span() is before
            walk([tree], by_the_sdk)()

        ours = places.seen()
        assert shape(ours, parent) == shape(official.spans.kept, parent)
        assert len({one.context.span_id for one in ours}) == len(ours)  # type: ignore[union-attr]  # ended spans have one

    check()


def test_a_local_parent_of_the_users_own() -> None:
    """A span the user makes, with our provider or another, is the parent of the call in it, and can be its child."""
    places = Places()
    official = places.oracle()
    tracers = [p.get_tracer("app") for p in (places.telemetry.tracer_provider, official.provider)]

    def child(tracer: trace.Tracer) -> Callable[[], None]:
        def inside() -> None:
            with tracer.start_as_current_span("inner"):
                pass

        return inside

    for tracer in tracers:
        with tracer.start_as_current_span("outer") as outer:
            score([1.0], child(tracer))
            sampled = outer.get_span_context()
        spans = {span.name: span for span in [*places.seen(), *official.spans.kept]}
        call, inner = spans["predict churn"], spans["inner"]
        assert call.parent == sampled
        assert inner.parent == call.get_span_context()
        official.spans.kept.clear()


@settings(max_examples=60, deadline=None)
@given(st.none() | contexts(st.sampled_from([0, 2])))
def test_an_unsampled_call_has_no_span(parent: SpanContext | None) -> None:
    """Under an unsampled parent, or with nothing sampled, nothing is exported and user code sees that it is not."""
    places = Places()
    if parent is None:
        otel_ml.configure(exporters=[places.ours], sampling=0.0, keep_slower_than=None, set_global=False)
    official = oracle(places.ours.resource, our_limits(), ParentBased(DEFAULT_OFF), Ids())
    seen: list[tuple[bool, int, str, bool]] = []

    def inside() -> None:
        span = trace.get_current_span()
        context = span.get_span_context()
        same_trace = parent is None or context.trace_id == parent.trace_id
        seen.append((span.is_recording(), int(context.trace_flags), context.trace_state.to_header(), same_trace))
        span.set_attribute("ignored", 1)

    with under(parent):
        score([1.0], inside)
        assert official.trace("predict churn", CHURN, inside) == []

    assert seen[0] == seen[1]
    assert otel_ml.flush(10.0)
    assert places.ours.spans == []
    otel_ml.shutdown()


def test_the_ratio_is_decided_as_the_official_sampler_does() -> None:
    """For every trace id our decision is TraceIdRatioBased's: services that sample the same share keep the same traces."""
    places = Recorder()
    otel_ml.configure(exporters=[places], sampling=0.3, keep_slower_than=None, set_global=False)
    official = TraceIdRatioBased(0.3)
    contexts_seen: list[SpanContext] = []

    for _ in range(400):
        score([1.0], lambda: contexts_seen.append(trace.get_current_span().get_span_context()))

    for one in contexts_seen:
        decided = official.should_sample(None, one.trace_id, "").decision.is_sampled()
        assert decided == one.trace_flags.sampled
    assert otel_ml.flush(10.0)
    assert {one.context.trace_id for one in places.spans} == {  # type: ignore[union-attr]  # ended spans have one
        one.trace_id for one in contexts_seen if one.trace_flags.sampled
    }
    assert 60 < len(places.spans) < 180


class TestAnEndedSpan:
    def ended(self) -> tuple[Recorder, Span]:
        """Return a recorder that got one call, and the span of it."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)
        kept: list[Span] = []
        score([1.0], lambda: kept.append(trace.get_current_span()))
        return place, kept[0]

    def test_takes_nothing_more(self) -> None:
        """What is done to a span after its end is left out, as the SDK leaves it out."""
        place, span = self.ended()
        before = fields(span)  # type: ignore[arg-type]  # a light span is its own readable form

        span.set_attribute("late", 1)
        span.set_attributes({"late": 1})
        span.add_event("late")
        span.add_link(SpanContext(1, 2, True, TraceFlags(1), TraceState()))
        span.update_name("late")
        span.set_status(trace.StatusCode.OK)
        span.record_exception(ValueError())
        span.end()

        assert not span.is_recording()
        assert otel_ml.flush(10.0)
        assert fields(place.span()) == before

    def test_that_user_code_ended_is_exported_once(self) -> None:
        """A span that user code ends itself keeps that end time and is not exported again at the end of the call."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)

        score([1.0], lambda: trace.get_current_span().end(time_ns() + 5))
        score([1.0], lambda: trace.get_current_span().end(end_time=2**61))

        assert otel_ml.flush(10.0)
        assert len(place.spans) == 2
        assert place.spans[1].end_time == 2**61

    def test_has_attributes_nobody_can_change(self) -> None:
        """A reader of an exported span cannot change it, nor the next call's."""
        place, _ = self.ended()
        assert otel_ml.flush(10.0)

        with pytest.raises(TypeError):
            place.span().attributes["x"] = 1  # type: ignore[index]  # that is the point

    def test_prints_as_the_sdks_does(self) -> None:
        """`to_json`, which the official console exporter prints, has the same keys and values."""
        import json

        place, _ = self.ended()
        assert otel_ml.flush(10.0)
        official = oracle(place.resource, our_limits(), ids=Ids())
        (theirs,) = official.trace("predict churn", CHURN, lambda: None)

        ours_json, theirs_json = json.loads(place.span().to_json()), json.loads(theirs.to_json())
        for one in (ours_json, theirs_json):
            del one["context"]["trace_id"], one["context"]["span_id"], one["start_time"], one["end_time"]
        assert ours_json == theirs_json


def test_a_suppressed_call_is_not_observed() -> None:
    """Where OpenTelemetry's instrumentation is suppressed (inside an exporter), a call is neither traced nor counted."""
    place = Recorder()
    otel_ml.configure(exporters=[place], set_global=False)
    token = context.attach(context.set_value(SUPPRESS_KEY, True))
    try:
        score([1.0], lambda: None)
    finally:
        context.detach(token)
    score([1.0, 2.0], lambda: None)

    assert otel_ml.flush(10.0)
    assert len(place.spans) == 1
    assert place.value("ml.prediction.duration") == 1
    assert place.value("ml.prediction.active") == 0
