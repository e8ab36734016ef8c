"""Encode a batch for OTLP record by record, so that one bad record costs one record, and put requests together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import MetricsData

from otel_ml._delivery import Packed, Parcel
from otel_ml.exporters._encode_metrics import encode_good_metrics, points_in, points_of
from otel_ml.exporters._encode_records import encode_record
from otel_ml.exporters._encode_spans import span_encoder
from otel_ml.exporters._protobuf import cut, delimited, varint

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_ml.exporters._wire import Signal


def pack(signal: Signal, batch: Sequence[ReadableSpan] | Sequence[ReadableLogRecord] | MetricsData) -> Packed:
    """Encode a batch of one signal; what cannot be encoded is left out and counted. Never raises.

    There is a parcel for each resource and scope; its header is a `ResourceSpans` (or the like) without records.
    """
    if isinstance(batch, MetricsData):
        return _metrics(batch)
    if signal == "traces":
        spans = cast("Sequence[ReadableSpan]", batch)
        return _records(spans, span_encoder(spans), _spans_request)
    return _records(cast("Sequence[ReadableLogRecord]", batch), encode_record, _logs_request)


def body(parcels: Sequence[Parcel]) -> bytes:
    """Return the request that holds the records of these parcels, those of one resource and scope together.

    Equal to what OpenTelemetry's encoder makes of the records, except that resources or scopes whose encoded forms are
    equal are never repeated.
    """
    resources: dict[tuple[bytes, bytes], dict[tuple[bytes, bytes], list[bytes]]] = {}
    for parcel in parcels:
        resource, (inner,), url = cut(parcel.header, _SCOPES)
        scope, _, scope_url = cut(inner, _RECORDS)
        resources.setdefault((resource, url), {}).setdefault((scope, scope_url), []).extend(parcel.records)
    return b"".join(
        delimited(b"\x0a", b"".join((resource, *map(_scoped, scopes, scopes.values()), url)))
        for (resource, url), scopes in resources.items()
    )


# The requests of the three signals have the same shape, and the same numbers of fields.
_RESOURCES, _SCOPES, _RECORDS = 1, 2, 2


def _scoped(around: tuple[bytes, bytes], records: Sequence[bytes]) -> bytes:
    scope, url = around
    held = b"".join([piece for record in records for piece in (b"\x12", varint(len(record)), record)])
    return delimited(b"\x12", b"".join((scope, held, url)))


class _Record(Protocol):
    @property
    def resource(self) -> Resource: ...
    @property
    def instrumentation_scope(self) -> InstrumentationScope | None: ...


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  # protobuf's own name


T = TypeVar("T", bound=_Record)


def _records(batch: Sequence[T], encode: Callable[[T], bytes], request: Callable[[Sequence[T]], bytes]) -> Packed:
    groups, rejected = _Groups(request), 0
    last: tuple[object, object] | None = None
    group: list[bytes] = []
    for record in batch:
        try:
            try:
                data = encode(record)
            except Exception:  # OpenTelemetry's encoder decides: it may know the record, or do without an attribute
                data = _parcel(request([record])).records[0]
            resource, scope = record.resource, record.instrumentation_scope
            if last is None or resource is not last[0] or scope is not last[1]:
                group, last = groups.of(record, resource, scope), (resource, scope)
            group.append(data)
        except Exception:  # whatever a record of somebody else's holds, it costs that record alone
            rejected += 1
    return Packed(groups.parcels(), rejected)


class _Groups(Generic[T]):
    """Records by resource and scope."""

    def __init__(self, request: Callable[[Sequence[T]], bytes]) -> None:
        self._request = request
        self._resources: dict[Resource, tuple[bytes, bytes]] = {}
        self._made: dict[tuple[Resource, InstrumentationScope | None], tuple[bytes, list[bytes]]] = {}
        # By identity, since a resource takes 20 µs to hash; what is identified is held, too.
        self._met: dict[tuple[int, int], tuple[Resource, InstrumentationScope | None, list[bytes]]] = {}

    def of(self, record: T, resource: Resource, scope: InstrumentationScope | None) -> list[bytes]:
        """Return where a record goes that has this resource and scope."""
        met = self._met.get((id(resource), id(scope)))
        if met is not None:
            return met[2]
        made = self._made.get((resource, scope))
        if made is None:
            head, (inner,), url = cut(_parcel(self._request([record])).header, _SCOPES)
            # Equal resources may have their attributes in another order; the first one stands for all.
            head, url = self._resources.setdefault(resource, (head, url))
            made = self._made[resource, scope] = (head + delimited(b"\x12", inner) + url, [])
        self._met[id(resource), id(scope)] = (resource, scope, made[1])
        return made[1]

    def parcels(self) -> list[Parcel]:
        """Return them, in the order of their first records."""
        return [Parcel(header, records) for header, records in self._made.values()]


def _metrics(batch: MetricsData) -> Packed:
    parcels = [
        Parcel(parcel.header, parcel.records, [points_of(metric) for metric in parcel.records])
        for parcel in _parcels(encode_good_metrics(batch))
        if parcel.records
    ]
    return Packed(parcels, points_in(batch) - sum(parcel.count for parcel in parcels))


def _parcel(request: bytes) -> Parcel:
    (only,) = _parcels(request)
    return only


def _parcels(request: bytes) -> Iterator[Parcel]:
    for group in cut(request, _RESOURCES)[1]:
        resource, scopes, url = cut(group, _SCOPES)
        for scope in scopes:
            head, records, tail = cut(scope, _RECORDS)
            yield Parcel(resource + delimited(b"\x12", head + tail) + url, records)


def _spans_request(batch: Sequence[ReadableSpan]) -> bytes:
    return cast("_Message", encode_spans(batch)).SerializeToString()


def _logs_request(batch: Sequence[ReadableLogRecord]) -> bytes:
    return cast("_Message", encode_logs(batch)).SerializeToString()
