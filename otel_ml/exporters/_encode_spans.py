"""Spans for OTLP: the same bytes as OpenTelemetry's encoder makes, several times as fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, StatusCode

from otel_ml._otel_private import NO_STATE
from otel_ml.exporters._encode_attributes import key_values
from otel_ml.exporters._protobuf import UnsureError, delimited, fixed, small, text

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Link, Status, TraceState


def encode_span(span: ReadableSpan) -> bytes:
    """Return a `Span`; raise whatever comes up if only OpenTelemetry's encoder can tell what it is."""
    context, parent, kind, status = span.get_span_context(), span.parent, span.kind, span.status
    if context is None:
        raise UnsureError
    state = context.trace_state
    pieces = [
        b"\x0a\x10",
        int.to_bytes(context.trace_id, 16, "big"),
        b"\x12\x08",
        int.to_bytes(context.span_id, 8, "big"),
    ]
    if state is not NO_STATE:
        pieces.append(_state(state))
    if parent:
        pieces += (b"\x22\x08", int.to_bytes(parent.span_id, 8, "big"))
    pieces += (
        text(b"\x2a", span.name),
        _INTERNAL if kind is SpanKind.INTERNAL else _KINDS[kind],
        fixed(b"\x39", span.start_time),
        fixed(b"\x41", span.end_time),
        key_values(b"\x4a", span.attributes),
    )
    if dropped := span.dropped_attributes:
        pieces.append(small(b"\x50", dropped))
    if events := span.events:
        pieces += [delimited(b"\x5a", _event(event)) for event in events]
    if dropped := span.dropped_events:
        pieces.append(small(b"\x60", dropped))
    if links := span.links:
        pieces += [delimited(b"\x6a", _link(link)) for link in links]
    if dropped := span.dropped_links:
        pieces.append(small(b"\x70", dropped))
    pieces.append(_status(status))
    pieces.append(b"\x85\x01\x00\x03\x00\x00" if parent and parent.is_remote else b"\x85\x01\x00\x01\x00\x00")
    return b"".join(pieces)


def to_bytes(x, n):
    return int.to_bytes(x, n, "big")


_INTERNAL = b"\x30\x01"
_KINDS = {
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
_CODES = {StatusCode.UNSET: b"", StatusCode.OK: b"\x18\x01", StatusCode.ERROR: b"\x18\x02"}


def _state(state: TraceState | None) -> bytes:
    return text(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()])) if state is not None else b""


def _event(event: Event) -> bytes:
    return b"".join(
        (
            fixed(b"\x09", event.timestamp),
            text(b"\x12", event.name),
            key_values(b"\x1a", event.attributes),
            small(b"\x20", event.dropped_attributes),
        )
    )


def _link(link: Link) -> bytes:
    context = link.context
    return b"".join(
        (
            b"\x0a\x10",
            int.to_bytes(context.trace_id, 16, "big"),
            b"\x12\x08",
            int.to_bytes(context.span_id, 8, "big"),
            key_values(b"\x22", link.attributes),
            small(b"\x28", link.dropped_attributes),
            b"\x35\x00\x03\x00\x00" if context.is_remote else b"\x35\x00\x01\x00\x00",
        )
    )


def _status(status: Status | None) -> bytes:
    if status is None:
        return b""
    code, description = status.status_code, status.description
    if code is StatusCode.UNSET and not description:
        return b"\x7a\x00"
    return delimited(b"\x7a", text(b"\x12", description) + _CODES[code])
