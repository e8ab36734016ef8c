"""What the SDK makes of the same operations, and the fields in which two spans can differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Span, SpanContext, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import Attributes, AttributeValue

from otel_ml._assemble import SCOPE
from tests.recorder import Spans

Operation = Callable[[Span], None]

# ------------------------------------------------------------------------------------------------ values
# Few keys, so that they are overwritten; whatever can be encoded as UTF-8, since nothing else can be exported.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KEYS = st.sampled_from([f"key.{n}" for n in range(12)]) | TEXT.filter(bool)
SCALARS: st.SearchStrategy[AttributeValue] = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXT | st.binary(max_size=20)
)
LONG = st.integers(900, 1_200).map(lambda n: "é" * n)
VALUES: st.SearchStrategy[AttributeValue] = st.recursive(
    SCALARS | LONG,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=8,
)
ATTRIBUTES = st.none() | st.dictionaries(KEYS, VALUES, max_size=5)
TIMES = st.integers(1, 2**62)

STATES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True),
    max_size=3,
).map(lambda entries: TraceState([*entries.items()]))


ANY_FLAGS = st.sampled_from([0, 1, 2, 3])


def contexts(flags: st.SearchStrategy[int] = ANY_FLAGS) -> st.SearchStrategy[SpanContext]:
    """Return valid span contexts, remote ones and local ones."""
    return st.builds(
        SpanContext,
        st.integers(1, 2**128 - 1),
        st.integers(1, 2**64 - 1),
        st.booleans(),
        flags.map(TraceFlags),
        STATES,
    )


INVALID = st.builds(SpanContext, st.just(0), st.just(0), st.booleans(), st.just(TraceFlags(0)), STATES)
STATUSES: st.SearchStrategy[tuple[Status | StatusCode, str | None]] = (
    st.tuples(st.sampled_from(StatusCode), st.just(None))
    | st.tuples(st.just(StatusCode.ERROR), TEXT)
    | st.tuples(st.builds(Status, st.just(StatusCode.ERROR), TEXT), st.just(None))
    | st.tuples(st.builds(Status, st.sampled_from([StatusCode.OK, StatusCode.UNSET])), st.just(None))
)


class Odd(Exception):
    """An exception with a module in its name."""


def raised(kind: type[BaseException], text: str) -> BaseException:
    """Return an exception that has been raised and caught."""
    try:
        raise kind(text)
    except BaseException as error:
        return error


ERRORS = st.builds(raised, st.sampled_from([ValueError, Odd, KeyError, KeyboardInterrupt]), TEXT)


def operations() -> st.SearchStrategy[list[Operation]]:
    """Return what user code may do to its current span, in any order."""
    return st.lists(
        st.one_of(
            st.builds(lambda k, v: lambda span: span.set_attribute(k, v), KEYS, VALUES),
            st.builds(lambda a: lambda span: span.set_attributes(a), st.dictionaries(KEYS, VALUES, max_size=6)),
            st.builds(
                lambda name, a, t: lambda span: span.add_event(name, a, t), TEXT, ATTRIBUTES, TIMES
            ),
            st.builds(lambda c, a: lambda span: span.add_link(c, a), contexts() | INVALID, ATTRIBUTES),
            st.builds(lambda name: lambda span: span.update_name(name), TEXT),
            st.builds(lambda s: lambda span: span.set_status(*s), STATUSES),
            st.builds(
                lambda error, a, t, escaped: lambda span: span.record_exception(error, a, t, escaped),
                ERRORS, ATTRIBUTES, TIMES, st.booleans(),
            ),
        ),
        max_size=12,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the SDK
@dataclass(frozen=True)
class Oracle:
    """The official SDK, with the same resource, scope and limits."""

    provider: TracerProvider
    spans: Spans

    def trace(
        self, name: str, attributes: Mapping[str, AttributeValue], inside: Callable[[], None]
    ) -> list[ReadableSpan]:
        """Return the spans that end while `inside` runs in a span of this name."""
        self.spans.kept.clear()
        tracer = self.provider.get_tracer(SCOPE.name, SCOPE.version)
        with tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ):
            inside()
        return list(self.spans.kept)


def oracle(
    resource: Resource,
    limits: SpanLimits,
    sampler: Sampler | None = None,
    ids: IdGenerator | None = None,
) -> Oracle:
    """Return the SDK, set up as ours is."""
    spans = Spans()
    provider = TracerProvider(sampler, resource, False, id_generator=ids, span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Oracle(provider, spans)


# ------------------------------------------------------------------------------------------------ the fields
def exact(attributes: Attributes) -> str:
    """Return attributes as text in which order, types and NaN count."""
    return repr([*(attributes or {}).items()])


def fields(span: ReadableSpan) -> dict[str, object]:
    """Return everything of a span that does not differ from one run to the next."""
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    return {
        "name": span.name,
        "kind": span.kind,
        "is_remote": context.is_remote,
        "flags": int(context.trace_flags),
        "trace_state": context.trace_state.to_header(),
        "parent": None if parent is None else (tuple(parent)[:4], parent.trace_state.to_header()),
        "trace_id": None if parent is None else context.trace_id,
        "attributes": exact(span.attributes),
        "dropped_attributes": span.dropped_attributes,
        "events": [(e.name, e.timestamp, exact(e.attributes), e.dropped_attributes) for e in span.events],
        "dropped_events": span.dropped_events,
        "links": [(tuple(one.context)[:4], exact(one.attributes), one.dropped_attributes) for one in span.links],
        "dropped_links": span.dropped_links,
        "status": (span.status.status_code, span.status.description),
        "resource": exact(span.resource.attributes),
        "scope": span.instrumentation_scope,
        "ended": span.end_time is not None,
    }


def in_order(spans: Sequence[ReadableSpan]) -> list[dict[str, object]]:
    """Return the fields of spans, in the order in which they ended."""
    return [fields(span) for span in spans]
