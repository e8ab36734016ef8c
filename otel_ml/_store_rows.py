"""Spans, events and metric points as rows of the local store's tables; one that cannot be read costs itself alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)

from otel_ml import _catalog as names
from otel_ml._store_json import encode, encode_number
from otel_ml._values import clean

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

Row = tuple[object, ...]
# Gives the id of the row that holds a resource and a scope.
Origin = Callable[["Resource | None", "InstrumentationScope | None"], int]
# Attributes that were met in a batch: the object, so that its id stays its own, its JSON, and the model it names.
Seen = dict[int, tuple[object, str, str | None]]

SPAN_COLUMNS = (
    "stored", "origin", "trace_id", "span_id", "parent_id", "flags", "trace_state", "name", "model", "kind", "start_ns",
    "end_ns", "status", "description", "attributes", "events", "links", "dropped",
)  # fmt: skip
EVENT_COLUMNS = (
    "stored", "origin", "time_ns", "observed_ns", "name", "run", "severity", "severity_text", "body", "attributes",
    "trace_id", "span_id", "flags", "dropped",
)  # fmt: skip
POINT_COLUMNS = ("stored", "series", "start_ns", "time_ns", "value", "count", "sum", "min", "max", "buckets")
ORIGIN_COLUMNS = ("resource", "scope", "scope_version", "scope_attributes")
SERIES_COLUMNS = (
    "origin", "name", "kind", "unit", "description", "temporality", "monotonic", "bounds", "attributes",
)  # fmt: skip

# The columns whose length tells how large a row is.
SPAN_TEXTS = tuple(SPAN_COLUMNS.index(name) for name in ("name", "description", "attributes", "events", "links"))
EVENT_TEXTS = tuple(EVENT_COLUMNS.index(name) for name in ("name", "body", "attributes"))
POINT_TEXTS = (POINT_COLUMNS.index("buckets"),)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Point:
    """A metric point: the columns of its series, and its own but `stored` and `series`."""

    series: Row
    own: Row


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """What could be turned into rows, and how many records could not."""

    rows: list[T]
    refused: int = 0


def span_rows(spans: Iterable[ReadableSpan], stored: int, origin: Origin) -> Rows[Row]:
    """Return spans as rows of `span`."""
    seen: Seen = {}
    return _each(spans, lambda span: _span_row(span, stored, origin, seen))


def event_rows(records: Iterable[ReadableLogRecord], stored: int, origin: Origin) -> Rows[Row]:
    """Return log records as rows of `event`."""
    return _each(records, lambda record: _event_row(record, stored, origin))


def points(data: MetricsData, origin: Origin) -> Rows[Point]:
    """Return every point of a collection of metrics."""
    found: list[Point] = []
    refused = 0
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                made = _points_of(metric, lambda r=resource, s=scope: origin(r.resource, s.scope))  # type: ignore[misc]  # bound now
                found += made.rows
                refused += made.refused
    return Rows(found, refused)


def origin_row(resource: Resource | None, scope: InstrumentationScope | None) -> Row:
    """Return a resource and a scope as a row of `origin`."""
    return (
        encode(_plain(resource.attributes if resource is not None else None)),
        _text(scope.name) if scope is not None else "",
        _text(scope.version or "") if scope is not None else "",
        encode(_plain(scope.attributes if scope is not None else None)),
    )


def _each(records: Iterable[T], row: Callable[[T], Row]) -> Rows[Row]:
    try:
        return Rows(list(map(row, records)))
    except sqlite3.Error:
        # The store's, which names an origin: no record is to blame.
        raise
    except Exception:
        # Somewhere is a record that no exporter could read: find it, and keep the others.
        rows: list[Row] = []
        refused = 0
        for record in records:
            try:
                rows.append(row(record))
            except sqlite3.Error:
                raise
            except Exception:  # only where the quick way has failed
                refused += 1
        return Rows(rows, refused)


def _span_row(span: ReadableSpan, stored: int, origin: Origin, seen: Seen) -> Row:
    # The stored field, not the property, which makes a new object each time: the spans of one function share their
    # attributes, so that one text serves all of them. Within one batch only, while the spans hold on to them.
    attributes = cast("Mapping[str, object] | None", getattr(span, "_attributes", None)) or span.attributes
    known = seen.get(id(attributes))
    if known is None:
        plain = _plain(attributes)
        known = seen[id(attributes)] = (attributes, encode(plain), _optional(plain.get(names.MODEL)))
    context, parent, status = span.context, span.parent, span.status
    events, links = span.events, span.links
    dropped = (span.dropped_attributes, span.dropped_events, span.dropped_links)
    if context is None:
        raise ValueError("a span without a context")
    return (
        stored,
        origin(span.resource, span.instrumentation_scope),
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        parent.span_id.to_bytes(8, "big") if parent is not None else None,
        int(context.trace_flags),
        _text(context.trace_state.to_header()) if context.trace_state else None,
        _text(span.name),
        known[2],
        span.kind.value,
        span.start_time,
        span.end_time,
        status.status_code.value,
        _optional(status.description),
        known[1],
        encode([(one.name, one.timestamp, _plain(one.attributes)) for one in events]) if events else None,
        encode(
            [
                (one.context.trace_id.to_bytes(16, "big").hex(), one.context.span_id.to_bytes(8, "big").hex(), _plain(one.attributes))
                for one in links
            ]
        ) if links else None,
        encode(dropped) if any(dropped) else None,
    )  # fmt: skip


def _event_row(readable: ReadableLogRecord, stored: int, origin: Origin) -> Row:
    record = readable.log_record
    attributes = _plain(record.attributes)
    severity, dropped = record.severity_number, readable.dropped_attributes
    observed = record.observed_timestamp
    return (
        stored,
        origin(readable.resource, readable.instrumentation_scope),
        record.timestamp,
        observed if observed != record.timestamp else None,
        _text(record.event_name or ""),
        _optional(attributes.get(names.RUN_ID)),
        severity.value if severity is not None else None,
        _optional(record.severity_text),
        encode(record.body) if record.body is not None else None,
        encode(attributes),
        record.trace_id.to_bytes(16, "big") if record.trace_id else None,
        record.span_id.to_bytes(8, "big") if record.span_id else None,
        int(record.trace_flags) if record.trace_id else None,
        dropped or None,
    )


def _points_of(metric: Metric, origin: Callable[[], int]) -> Rows[Point]:
    found: list[Point] = []
    refused = 0
    for point in _data_points(metric):
        try:
            found.append(_point(metric, point, origin))
        except sqlite3.Error:
            raise
        except Exception:  # one bad point costs one point
            refused += 1
    return Rows(found, refused)


def _data_points(metric: Metric) -> Iterator[NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint]:
    yield from metric.data.data_points


def _point(
    metric: Metric,
    point: NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint,
    origin: Callable[[], int],
) -> Point:
    data = metric.data
    temporality = "" if isinstance(data, Gauge) else data.aggregation_temporality.name.lower()
    bounds = encode(point.explicit_bounds) if isinstance(point, HistogramDataPoint) else ""
    series = (
        origin(),
        _text(metric.name),
        _KINDS[type(data)],
        _text(metric.unit or ""),
        _text(metric.description or ""),
        temporality,
        int(isinstance(data, Sum) and data.is_monotonic),
        bounds,
        encode(_plain(point.attributes)),
    )
    times = (point.start_time_unix_nano, point.time_unix_nano)
    if isinstance(point, NumberDataPoint):
        return Point(series, (*times, encode_number(point.value), None, None, None, None, None))
    if isinstance(point, HistogramDataPoint):
        buckets = encode(point.bucket_counts)
    else:
        positive, negative = point.positive, point.negative
        buckets = encode(
            {
                "scale": point.scale,
                "zero": point.zero_count,
                "positive": (positive.offset, positive.bucket_counts),
                "negative": (negative.offset, negative.bucket_counts),
            }
        )
    low, high = encode_number(point.min), encode_number(point.max)
    return Point(series, (*times, None, point.count, encode_number(point.sum), low, high, buckets))


_KINDS: dict[type, str] = {
    Sum: "sum",
    Gauge: "gauge",
    Histogram: "histogram",
    ExponentialHistogram: "exponential_histogram",
}


def _plain(attributes: Mapping[str, object] | None) -> dict[str, object]:
    if type(attributes) is dict:
        return cast("dict[str, object]", attributes)
    if type(attributes) is BoundedAttributes:
        return cast("dict[str, object]", attributes.copy())
    return dict(attributes) if attributes is not None else {}


def _text(value: object) -> str:
    if type(value) is str and value.isascii():
        return value
    return str(clean(value))


def _optional(value: object) -> str | None:
    return None if value is None else _text(value)
