"""Log records for OTLP: the same bytes as OpenTelemetry's encoder makes, several times as fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry._logs import SeverityNumber

from otel_ml.exporters._encode_attributes import any_value, key_values
from otel_ml.exporters._protobuf import UnsureError, delimited, fixed, small, text

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord


def encode_record(readable: ReadableLogRecord) -> bytes:
    """Return a `LogRecord`; raise whatever comes up if only OpenTelemetry's encoder can tell what it is."""
    record = readable.log_record
    severity, body = record.severity_number, record.body
    pieces = [
        fixed(b"\x09", record.timestamp),
        _INFO if severity is SeverityNumber.INFO else _severity(severity),
        text(b"\x1a", record.severity_text),
        b"\x2a\x00" if body is None else delimited(b"\x2a", any_value(body)),
        key_values(b"\x32", record.attributes),
    ]
    if dropped := readable.dropped_attributes:
        pieces.append(small(b"\x38", dropped))
    if (flags := record.trace_flags) != 0:
        pieces += (b"\x45", int.to_bytes(flags, 4, "little"))
    if (trace_id := record.trace_id) != 0:
        pieces += (b"\x4a\x10", int.to_bytes(trace_id, 16, "big"))
    if (span_id := record.span_id) != 0:
        pieces += (b"\x52\x08", int.to_bytes(span_id, 8, "big"))
    pieces += (fixed(b"\x59", record.observed_timestamp), text(b"\x62", record.event_name))
    return b"".join(pieces)


_INFO = b"\x10\x09"


def _severity(severity: object) -> bytes:
    if severity is None:
        return b""
    if type(severity) is not SeverityNumber:
        raise UnsureError
    return small(b"\x10", severity.value)
