"""Reading the local store: spans, events and metric points as small values, in the order they were written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

from otel_ml._store_json import decode, decode_number
from otel_ml._store_records import (
    Attributes,
    EventRecord,
    Number,
    Origin,
    PointRecord,
    SpanEvent,
    SpanLink,
    SpanRecord,
)
from otel_ml._store_schema import open_to_read, translated
from otel_ml._values import Value

# Rows read at a time. Between two portions nothing is held open, so that however slowly somebody iterates, the
# writers' log is not kept from beginning anew.
PORTION = 1_000

_STATUS = ("UNSET", "OK", "ERROR")
_KINDS = ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")

Row = tuple[object, ...]
T = TypeVar("T")


class Records:
    """A local store, opened for reading only; writers go on meanwhile. Also a context manager that closes it.

    Everything is read in the order it was written, a portion at a time, so that a loop may take as long as it likes.
    `after` leaves out what has been seen: pass the last record's `id` to follow a store that grows. A record that
    cannot be read is left out and counted in `unreadable`. Use it in the thread that made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable = 0
        self._connection = open_to_read(path)
        self._origins: dict[int, Origin] = {}

    def spans(
        self, name: str | None = None, *, model: str | None = None, since: float | None = None, after: int = 0
    ) -> Iterator[SpanRecord]:
        """Iterate over spans; `since` is when they started at the earliest, in seconds since 1970."""
        conditions = {
            "name = ?": name,
            "model = ?": model,
            "start_ns >= ?": since if since is None else int(since * 1e9),
        }
        return self._read(_SPANS, conditions, after, self._span)

    def events(self, name: str | None = None, *, run: str | None = None, after: int = 0) -> Iterator[EventRecord]:
        """Iterate over events, of one training run if `run` names one."""
        return self._read(_EVENTS, {"name = ?": name, "run = ?": run}, after, self._event)

    def metrics(self, name: str | None = None, *, after: int = 0) -> Iterator[PointRecord]:
        """Iterate over metric points."""
        return self._read(_POINTS, {"series.name = ?": name}, after, self._point)

    def latest(self, name: str | None = None) -> Iterator[PointRecord]:
        """Iterate over the last point of every series: of cumulative ones, everything since the process began.

        Each process is a series of its own, so what several replicas counted is the sum of their points.
        """
        return self._read(_POINTS, {"series.name = ?": name, _IS_LAST: True}, 0, self._point)

    def counts(self) -> dict[str, int]:
        """Return how many spans, events and metric points there are."""
        with self._translating():
            return {
                plural: int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608  # the tables are our own
                for plural, table in (("spans", "span"), ("events", "event"), ("points", "point"))
            }

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(
        self, query: str, conditions: Mapping[str, object], after: int, record: Callable[[Row], T]
    ) -> Iterator[T]:
        given = {condition: value for condition, value in conditions.items() if value is not None}
        where = " AND ".join(["t.id > ?", *given])
        values = [value for condition, value in given.items() if "?" in condition]
        while True:
            with self._translating():
                portion: list[Row] = self._connection.execute(
                    f"{query} WHERE {where} ORDER BY t.id LIMIT {PORTION}", (after, *values)
                ).fetchall()
            for row in portion:
                after = cast("int", row[0])
                try:
                    made = record(row)
                except (ValueError, TypeError, LookupError, RecursionError):
                    self.unreadable += 1
                else:
                    yield made
            if len(portion) < PORTION:
                return

    @contextmanager
    def _translating(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    def _origin(self, row: object) -> Origin:
        number = cast("int", row)
        found = self._origins.get(number)
        if found is None:
            stored = self._connection.execute(_ORIGIN, (number,)).fetchone()
            # Its row is gone where it was as old as the oldest records; they are worth more than nothing.
            resource, scope, version, attributes = stored if stored is not None else ("{}", "", "", "{}")
            found = self._origins[number] = Origin(_mapping(resource), scope, version, _mapping(attributes))
        return found

    def _span(self, row: Row) -> SpanRecord:
        number, origin, trace_id, span_id, parent_id, flags, state, name, model, kind, start, end, status, *rest = row
        description, attributes, events, links, dropped = rest
        return SpanRecord(
            id=_int(number),
            origin=self._origin(origin),
            trace_id=_hex(trace_id) or "",
            span_id=_hex(span_id) or "",
            parent_id=_hex(parent_id),
            flags=_int(flags),
            trace_state=_text(state) or "",
            name=_text(name) or "",
            model=_text(model),
            kind=_KINDS[_int(kind)],
            start_ns=_int(start),
            end_ns=_int(end),
            status=_STATUS[_int(status)],
            description=_text(description),
            attributes=_mapping(attributes),
            events=tuple(SpanEvent(*cast("tuple[str, int, Attributes]", one)) for one in _sequence(events)),
            links=tuple(SpanLink(*cast("tuple[str, str, Attributes]", one)) for one in _sequence(links)),
            dropped=cast("tuple[int, int, int]", _sequence(dropped) or (0, 0, 0)),
        )

    def _event(self, row: Row) -> EventRecord:
        number, origin, time, observed, name, run, severity, severity_text, body, attributes, *rest = row
        trace_id, span_id, flags, dropped = rest
        return EventRecord(
            id=_int(number),
            origin=self._origin(origin),
            time_ns=_int(time if time is not None else observed),
            observed_ns=_int(observed if observed is not None else time),
            name=_text(name) or "",
            run=_text(run),
            severity=None if severity is None else _int(severity),
            severity_text=_text(severity_text),
            body=None if body is None else decode(cast("str", body)),
            attributes=_mapping(attributes),
            trace_id=_hex(trace_id),
            span_id=_hex(span_id),
            flags=_int(flags),
            dropped=_int(dropped),
        )

    def _point(self, row: Row) -> PointRecord:
        number, origin, series, name, kind, unit, description, temporality, monotonic, bounds, attributes, *own = row
        start, time, value, count, total, low, high, buckets = own
        return PointRecord(
            id=_int(number),
            origin=self._origin(origin),
            series=_int(series),
            name=_text(name) or "",
            kind=_text(kind) or "",
            unit=_text(unit) or "",
            description=_text(description) or "",
            temporality=_text(temporality) or "",
            monotonic=bool(monotonic),
            attributes=_mapping(attributes),
            start_ns=None if start is None else _int(start),
            time_ns=_int(time),
            value=_number(value),
            count=None if count is None else _int(count),
            sum=_number(total),
            min=_number(low),
            max=_number(high),
            bounds=cast("tuple[float, ...]", _sequence(bounds)),
            buckets=None if buckets is None else decode(cast("str", buckets)),
        )


_SPANS = """
SELECT t.id, t.origin, t.trace_id, t.span_id, t.parent_id, t.flags, t.trace_state, t.name, t.model, t.kind, t.start_ns,
t.end_ns, t.status, t.description, t.attributes, t.events, t.links, t.dropped FROM span AS t"""
_EVENTS = """
SELECT t.id, t.origin, t.time_ns, t.observed_ns, t.name, t.run, t.severity, t.severity_text, t.body, t.attributes,
t.trace_id, t.span_id, t.flags, t.dropped FROM event AS t"""
_POINTS = """
SELECT t.id, series.origin, t.series, series.name, series.kind, series.unit, series.description, series.temporality,
series.monotonic, series.bounds, series.attributes, t.start_ns, t.time_ns, t.value, t.count, t.sum, t.min, t.max,
t.buckets FROM point AS t JOIN series ON series.id = t.series"""
_ORIGIN = "SELECT resource, scope, scope_version, scope_attributes FROM origin WHERE id = ?"
_IS_LAST = "t.id IN (SELECT max(id) FROM point GROUP BY series)"


def _hex(value: object) -> str | None:
    return None if value is None else cast("bytes", value).hex()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _int(value: object) -> int:
    return int(cast("int", value)) if value is not None else 0


def _number(value: object) -> Number | None:
    return None if value is None else decode_number(cast("Number | str", value))


def _mapping(text: object) -> Attributes:
    decoded = decode(cast("str", text))
    if not isinstance(decoded, dict):
        raise TypeError("not a mapping")
    return decoded


def _sequence(text: object) -> tuple[Value, ...]:
    decoded = decode(cast("str", text)) if text else ()
    if not isinstance(decoded, tuple):
        raise TypeError("not a sequence")
    return decoded
