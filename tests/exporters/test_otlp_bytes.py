"""What we encode for OTLP ourselves is, byte for byte, what OpenTelemetry's encoders make of the same records."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

import otel_ml
from otel_ml.exporters import _encode_attributes
from otel_ml.exporters._encode import body, pack
from otel_ml.exporters._encode_records import encode_record
from otel_ml.exporters._encode_spans import span_encoder
from tests.conformance.oracle import (
    ATTRIBUTES,
    INVALID,
    KEYS,
    TEXT,
    TIMES,
    VALUES,
    Operation,
    contexts,
    operations,
    oracle,
)
from tests.otlp_records import RESOURCE, SCOPE, make_events, make_metrics, make_spans
from tests.recorder import Recorder

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MORE = pytest.mark.parametrize("examples", [60, pytest.param(1_000, marks=pytest.mark.slow)])


class Level(enum.IntEnum):
    """A whole number of a class of its own."""

    HIGH = 3


class Word(str):
    """A text of a class of its own."""

    __slots__ = ()


# What is left out of a record, or taken by its base class.
ODD = st.sampled_from(
    [2**63, -(2**70), "\ud800", Level.HIGH, Word("word"), range(3), {1: 2, "": 3}, {1, 2}, [object()]]
)
WILD = st.none() | st.dictionaries(KEYS | st.just(Word("key")), VALUES | ODD, max_size=6)
BOUNDED = st.builds(BoundedAttributes, st.integers(0, 3), ATTRIBUTES)
ANY = cast("st.SearchStrategy[Mapping[str, AttributeValue] | None]", WILD | BOUNDED)
MAYBE_TIMES = st.none() | st.just(0) | TIMES

# The second and the third are equal, but not the same. None are only equal once encoded.
RESOURCES = [
    Resource({}),
    Resource({"service.name": "é", "rank": 1, "hosts": ("a", "b")}, "https://example.com/r"),
    Resource({"hosts": ["a", "b"], "rank": 1, "service.name": "é"}, "https://example.com/r"),
    Resource({"service.name": "other"}),
    Resource({"service.name": "other"}, "https://example.com/r"),
]
SCOPES = [
    None,
    InstrumentationScope("a"),
    InstrumentationScope("a", "1", "https://example.com/s"),
    InstrumentationScope("a", "1", "https://example.com/s"),
    InstrumentationScope("a", "1", "https://example.com/s", {"key": True}),
]


def bounded(kept: Sequence[object], most: int) -> BoundedList[object]:
    """Return what the SDK keeps events and links in, with the rest dropped."""
    made = BoundedList[object](most)
    made.extend(kept)
    return made


EVENTS = st.lists(st.builds(Event, TEXT, ANY, st.none() | TIMES), max_size=3)
LINKS = st.lists(st.builds(Link, contexts() | INVALID, ANY), max_size=3)
SPANS = st.builds(
    ReadableSpan,
    name=TEXT,
    context=contexts() | INVALID,
    parent=st.none() | contexts() | INVALID,
    resource=st.sampled_from(RESOURCES),
    attributes=ANY,
    events=EVENTS | EVENTS.map(tuple) | st.builds(bounded, EVENTS, st.integers(0, 2)),
    links=LINKS | LINKS.map(tuple) | st.builds(bounded, LINKS, st.integers(0, 2)),
    kind=st.sampled_from(SpanKind),
    status=st.builds(Status, st.sampled_from(StatusCode)) | st.builds(Status, st.just(StatusCode.ERROR), TEXT),
    start_time=MAYBE_TIMES,
    end_time=MAYBE_TIMES | st.just(2**64 - 1),
    instrumentation_scope=st.sampled_from(SCOPES),
)


def log_record(facts: dict[str, object], resource: Resource, scope: InstrumentationScope | None) -> ReadableLogRecord:
    """Return a log record that holds just these facts."""
    made = LogRecord()
    for name, value in facts.items():
        setattr(made, name, value)
    return ReadableLogRecord(made, resource, scope)


RECORDS = st.builds(
    log_record,
    st.fixed_dictionaries(
        {
            "timestamp": MAYBE_TIMES,
            "observed_timestamp": MAYBE_TIMES,
            "trace_id": st.just(0) | st.integers(1, 2**128 - 1),
            "span_id": st.just(0) | st.integers(1, 2**64 - 1),
            "trace_flags": st.integers(0, 255).map(TraceFlags),
            "severity_text": st.none() | TEXT,
            "severity_number": st.none() | st.sampled_from(SeverityNumber) | st.just(9),
            "body": VALUES | st.sampled_from([Level.HIGH, Word("word"), range(3), {1: 2, "": 3}]),
            "attributes": ANY,
            "event_name": st.none() | TEXT,
        }
    ),
    st.sampled_from(RESOURCES),
    st.sampled_from(SCOPES),
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The SDK logs each value that it cuts, and its encoder each that it leaves out."""
    found = logging.getLogger("opentelemetry")
    level = found.level
    found.setLevel(logging.CRITICAL + 1)
    yield
    found.setLevel(level)


def same_spans(batch: Sequence[ReadableSpan]) -> bool:
    """Say whether we encode spans as OpenTelemetry does, none left out."""
    packed = pack("traces", batch)
    assert (packed.rejected, sum(parcel.count for parcel in packed.parcels)) == (0, len(batch))
    return body(packed.parcels) == encode_spans(batch).SerializeToString()


def same_records(batch: Sequence[ReadableLogRecord]) -> bool:
    """Say whether we encode log records as OpenTelemetry does, none left out."""
    packed = pack("logs", batch)
    assert (packed.rejected, sum(parcel.count for parcel in packed.parcels)) == (0, len(batch))
    return body(packed.parcels) == encode_logs(batch).SerializeToString()


def with_attributes(values: Sequence[object], key: str = "key") -> list[ReadableSpan]:
    """Return spans that have one attribute, of one value each."""
    context = trace.SpanContext(1, 2, False)
    return [
        ReadableSpan("x", context, resource=RESOURCE, instrumentation_scope=SCOPE, attributes={key: value})  # type: ignore[dict-item]  # any value
        for value in values
    ]


class TestSpans:
    @MORE
    def test_any_span(self, examples: int) -> None:
        """Spans of all kinds, of several resources and scopes that alternate, are encoded as OpenTelemetry does."""

        @settings(SETTINGS, max_examples=examples)
        @given(st.lists(SPANS, max_size=6))
        def check(batch: list[ReadableSpan]) -> None:
            assert same_spans(batch)

        check()

    def test_spans_of_watched_functions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Our own spans are, whatever user code does to them and however much is dropped."""
        for name, limit in LIMITS.items():
            monkeypatch.setenv(name, limit)
        recorder = Recorder()
        telemetry = otel_ml.configure(exporters=[recorder], set_global=False)

        @otel_ml.predict(model="churn", version="3.2")
        def score(ops: Sequence[Operation]) -> None:
            applied(ops)()

        @SETTINGS
        @given(st.lists(operations(), min_size=1, max_size=3), st.none() | contexts(st.sampled_from([1, 3])))
        def check(each: list[list[Operation]], parent: trace.SpanContext | None) -> None:
            with trace.use_span(trace.NonRecordingSpan(parent) if parent else trace.INVALID_SPAN):
                for ops in each:
                    score(ops)
            assert telemetry.flush(10.0)
            assert len(recorder.spans) == len(each)
            assert same_spans(recorder.spans)
            recorder.forget()

        check()
        telemetry.shutdown()

    @SETTINGS
    @given(operations())
    def test_spans_of_the_sdk(self, ops: list[Operation]) -> None:
        """Spans of OpenTelemetry's SDK are, whatever user code does to them and however much is dropped."""
        limits = SpanLimits(
            max_span_attributes=4, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1
        )
        official = oracle(RESOURCE, limits)

        assert same_spans(official.trace("span", {"first": "é"}, applied(ops)))

    def test_equal_keys_of_different_types(self) -> None:
        """Values that Python holds equal are not taken for each other, nor not-a-number for another one."""
        values = [1, True, 1.0, 0, False, 0.0, -0.0, float("nan"), -float("nan"), "1", b"1", "", b"", None]

        for order in (values, values[::-1]):
            assert same_spans(with_attributes(order))

    def test_sizes_at_which_lengths_grow(self) -> None:
        """Texts, numbers and records around 127 and 16,383 bytes have the right lengths before them."""
        lengths = [*range(90, 132), *range(16_340, 16_390), 2_097_152]
        powers = [sign * 2**power + by for power in range(63) for sign in (1, -1) for by in (-1, 0)]

        assert same_spans(with_attributes(["x" * length for length in lengths]))
        assert same_spans(with_attributes(powers))

    def test_what_is_kept_of_attributes_is_bounded(self) -> None:
        """However many attributes are seen, some 1,024 of each type are kept; long ones never are."""
        for kind in (str, int, float):
            spans = with_attributes([kind(n) for n in range(3_000)])
            spans += [one for n in range(3_000) for one in with_attributes([kind(n)], f"key {n}")]
            assert same_spans(spans)
        assert same_spans(with_attributes(["x" * 1_000], "long") + with_attributes([0.5], "k" * 1_000))

        caches = [*_encode_attributes._seen.values(), _encode_attributes._real]
        assert all(0 < len(cache) <= 1_024 for cache in caches[:2] + caches[3:])
        assert all(len(made) <= 128 for cache in caches for made in cache.values())  # type: ignore[attr-defined]  # dicts of bytes

    def test_a_class_that_hides_something(self) -> None:
        """Of a span whose class shows other attributes than it stores, those shown are encoded."""

        class Redacted(ReadableSpan):
            @property
            def attributes(self) -> Mapping[str, AttributeValue]:
                return {"key": "***"}

        (told,) = with_attributes(["secret"])
        hides = Redacted("x", told.context, resource=RESOURCE, instrumentation_scope=SCOPE, attributes=told.attributes)
        batch = [told, hides]

        assert same_spans(batch)
        assert b"***" in pack("traces", batch).parcels[0].records[1]
        assert b"secret" not in pack("traces", batch).parcels[0].records[1]

    def test_deep_values(self) -> None:
        """Values are encoded as deep as protocol buffers can be read; OpenTelemetry's encoder says what becomes of others."""
        value: list[object] = []
        outcomes: set[str] = set()
        for _ in range(60):
            value = [value]
            batch = with_attributes([value])
            packed = pack("traces", batch)
            try:
                expected = encode_spans(batch).SerializeToString()
            except Exception:
                assert (list(packed.parcels), packed.rejected) == ([], 1)
                outcomes.add("left out")
            else:
                assert (body(packed.parcels), packed.rejected) == (expected, 0)
                outcomes.add("encoded")

        assert outcomes == {"left out", "encoded"}

    def test_ours_need_no_help(self) -> None:
        """Spans of watched functions and of the SDK are encoded by our encoder, not by the slow one behind it."""
        recorder = Recorder()
        telemetry = otel_ml.configure(exporters=[recorder], set_global=False)
        otel_ml.predict(model="churn", version="3.2")(lambda x: x)(1)
        assert telemetry.flush(10.0)
        telemetry.shutdown()

        for batch in (recorder.spans, make_spans()):
            encode = span_encoder(batch)
            assert [encode(span) for span in batch] == list(pack("traces", batch).parcels[0].records)


class TestLogRecords:
    @MORE
    def test_any_record(self, examples: int) -> None:
        """Log records of all kinds, of several resources and scopes that alternate, are encoded as OpenTelemetry does."""

        @settings(SETTINGS, max_examples=examples)
        @given(st.lists(RECORDS, max_size=6))
        def check(batch: list[ReadableLogRecord]) -> None:
            assert same_records(batch)

        check()

    def test_events_of_training(self) -> None:
        """Our own events are, and by our own encoder."""
        recorder = Recorder()
        telemetry = otel_ml.configure(exporters=[recorder], set_global=False)
        with otel_ml.train("churn", version="3.2") as run:
            run.log(loss=0.5, step=3, note="é", skipped=None)
        assert telemetry.flush(10.0)
        telemetry.shutdown()

        assert len(recorder.events) > 2
        assert same_records(recorder.events)
        encoded = [encode_record(event) for event in recorder.events]
        assert encoded == list(pack("logs", recorder.events).parcels[0].records)


class TestMetrics:
    def test_several_resources_and_scopes(self) -> None:
        """Metrics are encoded as OpenTelemetry does, and each counts for its points."""
        (resource,) = make_metrics().resource_metrics
        (scope,) = resource.scope_metrics
        others = [replace(scope, scope=one, schema_url=one.schema_url) for one in SCOPES[1:3] if one is not None]
        batch = MetricsData([
            replace(resource, resource=RESOURCES[1], scope_metrics=[*others, scope]),
            replace(resource, resource=RESOURCES[3], scope_metrics=[scope, *others]),
        ])  # fmt: skip
        packed = pack("metrics", batch)

        assert [list(parcel.counts) for parcel in packed.parcels] == [[2, 2, 1, 1]] * 6
        assert body(packed.parcels) == encode_metrics(batch).SerializeToString()


class TestParcels:
    def test_one_for_each_resource_and_scope(self) -> None:
        """There is a parcel for each resource and scope, in the order of their first records."""
        batch = [
            log_record({"event_name": str(n)}, resource, scope)
            for n, (resource, scope) in enumerate(
                [(RESOURCES[1], SCOPES[2]), (RESOURCES[0], None), (RESOURCES[1], None), (RESOURCES[2], SCOPES[3])]
            )
        ]
        parcels = pack("logs", batch).parcels

        assert [parcel.count for parcel in parcels] == [2, 1, 1]
        assert len({parcel.header for parcel in parcels}) == 3

    @SETTINGS
    @given(st.lists(SPANS, max_size=6), st.integers(0, 6))
    def test_batches_are_joined(self, batch: list[ReadableSpan], at: int) -> None:
        """Batches encoded one by one make the request that they make together, where their resources look the same."""
        batch = [span for span in batch if span.resource != RESOURCES[1]]
        parcels = [*pack("traces", batch[:at]).parcels, *pack("traces", batch[at:]).parcels]

        assert body(parcels) == encode_spans(batch).SerializeToString()

    def test_none(self) -> None:
        """No records make no parcels, and no parcels an empty request."""
        (resource,) = make_metrics().resource_metrics
        bare = [replace(scope, metrics=[]) for scope in resource.scope_metrics]
        batch = MetricsData([replace(resource, scope_metrics=bare)])

        assert [*pack("traces", []).parcels, *pack("logs", []).parcels, *pack("metrics", batch).parcels] == []
        assert body([]) == b""

    def test_a_resource_that_cannot_be_encoded(self) -> None:
        """Records whose resource cannot be encoded are left out and counted, in every signal."""
        bad = Resource({}, "\ud800")
        spans = [ReadableSpan("x", trace.SpanContext(1, 2, False), resource=one) for one in (bad, RESOURCE)]
        records = [replace(make_events(1)[0], resource=one) for one in (bad, RESOURCE)]
        (metrics,) = make_metrics().resource_metrics

        for packed in (pack("traces", spans), pack("logs", records)):
            assert (sum(parcel.count for parcel in packed.parcels), packed.rejected) == (1, 1)
        packed = pack("metrics", MetricsData([replace(metrics, resource=bad)]))
        assert (list(packed.parcels), packed.rejected) == ([], 6)


LIMITS = {
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "7",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "1",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1",
}


def applied(ops: Sequence[Operation]) -> Callable[[], None]:
    """Return what runs operations on the current span, as user code does."""

    def inside() -> None:
        for op in ops:
            op(trace.get_current_span())

    return inside
