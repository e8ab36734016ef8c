"""A host's samplers, id generators, limits and processors decide about our spans as they do about its own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState
from opentelemetry.util.types import Attributes

import otel_ml
from tests.conformance.oracle import Operation, Oracle, contexts, fields, operations, oracle
from tests.conformance.test_spans import CHURN, applied, quiet, score, under
from tests.recorder import Spans, same_rules

__all__ = ["quiet"]

RESOURCE = Resource({"service.name": "host"})
LIMITS = SpanLimits(max_span_attributes=9, max_attribute_length=30, max_events=2, max_links=2, max_event_attributes=2)


class Told(Sampler):
    """Decides as it was told, adds attributes and trace state, and keeps what it was asked."""

    def __init__(self, decision: Decision, adds: Attributes, keeps: bool, state: TraceState | None) -> None:
        self._told = (decision, adds, keeps, state)
        self.asked: list[tuple[object, ...]] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        self.asked.append((trace_id, parent, name, kind, {**(attributes or {})}, tuple(links or ()), trace_state))
        decision, adds, keeps, state = self._told
        return SamplingResult(decision, {**(attributes or {} if keeps else {}), **(adds or {})} or None, state)

    def get_description(self) -> str:
        return "Told"


def told() -> st.SearchStrategy[Sampler]:
    """Return samplers of a host's own."""
    state = st.none() | st.just(TraceState([("vendor", "x")]))
    adds: st.SearchStrategy[Attributes] = st.none() | st.just({"sampler.rule": 7, "ml.model.name": "theirs"})
    return st.builds(Told, st.sampled_from(Decision), adds, st.booleans(), state)


STANDARD: st.SearchStrategy[Sampler] = st.sampled_from(
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        ParentBased(ALWAYS_OFF),
        ParentBased(ALWAYS_ON),
        TraceIdRatioBased(0.5),
        ParentBased(TraceIdRatioBased(0.5)),
        ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF),
        ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON),
    ]
)


class Counting(IdGenerator):
    """Ids in a row, so that two runs give the same; they do not claim to be random."""

    def __init__(self, start: int) -> None:
        self._next = start

    def generate_span_id(self) -> int:
        self._next += 0x1234567
        return self._next & (2**64 - 1) or 1

    def generate_trace_id(self) -> int:
        self._next += 0x987654321
        return self._next << 56 | self._next

    def is_trace_id_random(self) -> bool:
        return False


class Started(SpanProcessor):
    """A processor that writes on spans when they start, and keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for key, value in baggage.get_all(parent_context).items():
            span.set_attribute(key, str(value))
        self.seen.append(
            ("start", span.name, dict(span.attributes or {}), span.is_recording(), span.start_time is not None)
        )

    def on_end(self, span: ReadableSpan) -> None:
        self.seen.append(("end", span.name, dict(span.attributes or {}), span.end_time is not None))


def host(sampler: Sampler, ids: IdGenerator, limits: SpanLimits = LIMITS) -> tuple[Oracle, Started]:
    """Return an application's provider: with a sampler, ids, limits and processors of its own."""
    made = oracle(RESOURCE, limits, sampler, ids)
    started = Started()
    made.provider.add_span_processor(started)
    return made, started


@same_rules
@settings(max_examples=200, deadline=None)
@given(STANDARD | told(), st.integers(1, 2**60), st.none() | contexts(), operations(), st.integers(0, 2), st.booleans())
def test_a_joined_host_decides(
    sampler: Sampler, start: int, parent: SpanContext | None, ops: list[Operation], rows: int, bags: bool
) -> None:
    """Decision, ids, flags, trace state, added attributes, limits, resource and processors are all the host's."""
    ours, our_started = host(sampler, Counting(start))
    theirs, their_started = host(sampler, Counting(start))
    asked = getattr(sampler, "asked", [])
    inside: list[tuple[object, ...]] = []

    def look() -> None:
        span = trace.get_current_span()
        inside.append((span.is_recording(), span.get_span_context().trace_flags, span.get_span_context().trace_id))
        applied(ops)()

    with otel_ml.configure(tracer_provider=ours.provider), under(parent):
        token = context.attach(baggage.set_baggage("user", "u1")) if bags else None
        score(["a row"] * rows, look)
        by_us, asked[:] = [*asked], []
        expected = theirs.trace("predict churn", {**CHURN, "ml.prediction.batch.size": rows}, look)
        if token is not None:
            context.detach(token)

    assert by_us == asked
    assert [fields(span) for span in ours.spans.kept] == [fields(span) for span in expected]
    assert [span.context for span in ours.spans.kept] == [span.context for span in expected]
    assert our_started.seen == their_started.seen
    assert inside[0] == inside[1]


@settings(max_examples=40, deadline=None)
@given(told(), st.integers(1, 2**60), st.none() | contexts())
def test_a_joined_host_decides_about_stages_and_runs(sampler: Sampler, start: int, parent: SpanContext | None) -> None:
    """Runs, epochs and stages ask the host's sampler and draw the host's ids too."""
    ours, _ = host(sampler, Counting(start), SpanLimits())
    theirs, _ = host(sampler, Counting(start), SpanLimits())

    with otel_ml.configure(tracer_provider=ours.provider), under(parent):
        with otel_ml.train("churn") as run:
            for _ in run.epochs(1):
                pass
        with otel_ml.predict("churn") as call, call.stage("inference"):
            pass
    tracer = theirs.provider.get_tracer("otel_ml", otel_ml.__version__)
    with under(parent):
        with tracer.start_as_current_span("train churn"), tracer.start_as_current_span("epoch churn"):
            pass
        with tracer.start_as_current_span("predict churn"), tracer.start_as_current_span("inference"):
            pass

    def links(spans: Sequence[ReadableSpan]) -> list[tuple[object, ...]]:
        return [(one.name, one.context, one.parent) for one in spans]

    if getattr(sampler, "_told")[0] is Decision.DROP:  # noqa: B009  # not a public name
        assert ours.spans.kept == theirs.spans.kept == []
    else:
        assert links(ours.spans.kept) == links(theirs.spans.kept)


def test_record_only_spans_reach_processors_but_no_exporter() -> None:
    """RECORD_ONLY: processors see the span, exporters do not, and nothing counts it as lost."""
    ours, started = host(Told(Decision.RECORD_ONLY, None, True, None), RandomIdGenerator())

    with otel_ml.configure(tracer_provider=ours.provider):
        score([1.0], lambda: trace.get_current_span().set_attribute("x", 1))

    assert [one[0] for one in started.seen] == ["start", "end"]
    assert "x" in started.seen[1][2]  # type: ignore[operator]  # the attributes
    assert ours.spans.kept == []


@pytest.mark.parametrize("joined", ["to nobody", "to a host", "to a host with a sampler of its own"])
def test_ids_do_not_repeat_after_the_user_seeds(joined: str) -> None:
    """`random.seed(42)` does not repeat our ids, also in a host with the SDK's default generator; nor do we draw from it."""
    spans = Spans()
    sampler = Told(Decision.RECORD_AND_SAMPLE, None, True, None) if "sampler" in joined else None
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    processor = SimpleSpanProcessor(spans)
    provider.add_span_processor(processor)
    if joined == "to nobody":
        otel_ml.configure(exporters=[processor], set_global=False)
    else:
        otel_ml.configure(tracer_provider=provider)
    for _ in range(2):
        random.seed(42)
        expected = random.Random(42)
        score([1.0], lambda: None)
        with otel_ml.train("churn"):
            pass
        assert random.random() == expected.random()

    ids = [(span.context.trace_id, span.context.span_id) for span in spans.kept if span.context]
    assert len(ids) == 4
    assert len({one for pair in ids for one in pair}) == 8


@pytest.mark.shielded
@pytest.mark.parametrize("raises", ["sampler", "ids", "start", "end"])
def test_a_hosts_mistake_stays_out_of_the_call(raises: str) -> None:
    """A host's sampler, id generator or processor that raises costs the span, never the call."""

    class Broken(Told):
        def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:  # type: ignore[override]  # raises
            raise ZeroDivisionError

    class BrokenIds(Counting):
        def generate_span_id(self) -> int:
            raise ZeroDivisionError

    class BrokenProcessor(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            assert raises != "start"

        def on_end(self, span: ReadableSpan) -> None:
            assert raises != "end"

    sampler = Broken(Decision.DROP, None, True, None) if raises == "sampler" else ALWAYS_ON
    ours, _ = host(sampler, BrokenIds(1) if raises == "ids" else Counting(1))
    ours.provider.add_span_processor(BrokenProcessor())

    with otel_ml.configure(tracer_provider=ours.provider) as telemetry:
        before = trace.get_current_span()
        result = object()
        assert otel_ml.predict(lambda: result)() is result
        with otel_ml.predict("churn"), otel_ml.train("churn"):
            pass
        assert trace.get_current_span() is before
        assert telemetry.health().failures


def test_a_tracer_the_host_switched_off() -> None:
    """A host that disables our tracer by its configurator gets no spans of ours."""
    from opentelemetry.sdk.trace import _TracerConfig

    spans = Spans()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    provider._set_tracer_configurator(tracer_configurator=lambda scope: _TracerConfig(scope.name != "otel_ml"))

    with otel_ml.configure(tracer_provider=provider):
        score([1.0], lambda: None)

    assert spans.kept == []
