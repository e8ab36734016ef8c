"""The three standard OpenTelemetry exporters behind `exporters.Local`; they share one store."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ml._delivery import DELIVERED, Delivery
from otel_ml._shield import tell
from otel_ml._store_schema import is_busy
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml._store import Store

# The longest that one try waits for other processes that write, in seconds.
PATIENCE = 1.0
# How long `export` goes on trying; `deliver` leaves that to its caller.
EXPORT_WITHIN = 5.0
AGAIN_AFTER = 0.1
# What the operating system says when there is no room: on the disk, in a quota, under a limit of file size.
# SQLite says FULL for a full disk, and of a quota or a limit only that a write failed.
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class LocalSpans(SpanExporter):
    """A standard `SpanExporter` whose `deliver` also says what became of a batch."""

    def __init__(self, store: Store) -> None:
        self._store, self._closed = store, False

    def deliver(self, batch: Sequence[ReadableSpan], deadline: float) -> Delivery:
        """Store a batch in one transaction; return by `deadline` (on `time.monotonic()`)."""
        if self._closed:
            return Delivery(len(batch), "shutdown")
        store = self._store
        return _stored(store, lambda patience: store.write_spans(batch, patience=patience), len(batch), deadline)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Store a batch, trying again while others keep the store locked."""
        return SpanExportResult.SUCCESS if _insist(lambda d: self.deliver(spans, d)) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self) -> None:
        """Close the file; nothing is stored after this."""
        self._closed = True
        self._store.close()


class LocalMetrics(MetricExporter):
    """A standard `MetricExporter` whose `deliver` also says what became of a collection; its records are data points."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store, self._closed = store, False

    def deliver(self, batch: MetricsData, deadline: float) -> Delivery:
        """Store a collection in one transaction; return by `deadline` (on `time.monotonic()`)."""
        size = _points(batch)
        if self._closed:
            return Delivery(size, "shutdown")
        store = self._store
        return _stored(store, lambda patience: store.write_metrics(batch, patience=patience), size, deadline)

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # as the interface has it
        **kwargs: object,  # likewise
    ) -> MetricExportResult:
        """Store a collection, trying again while others keep the store locked."""
        done = _insist(lambda deadline: self.deliver(metrics_data, deadline))
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:  # as the interface has it
        """Close the file; nothing is stored after this."""
        self._closed = True
        self._store.close()


class LocalEvents(LogRecordExporter):
    """A standard `LogRecordExporter` whose `deliver` also says what became of a batch."""

    def __init__(self, store: Store) -> None:
        self._store, self._closed = store, False

    def deliver(self, batch: Sequence[ReadableLogRecord], deadline: float) -> Delivery:
        """Store a batch in one transaction; return by `deadline` (on `time.monotonic()`)."""
        if self._closed:
            return Delivery(len(batch), "shutdown")
        store = self._store
        return _stored(store, lambda patience: store.write_events(batch, patience=patience), len(batch), deadline)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Store a batch, trying again while others keep the store locked."""
        done = _insist(lambda deadline: self.deliver(batch, deadline))
        return LogRecordExportResult.SUCCESS if done else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self) -> None:
        """Close the file; nothing is stored after this."""
        self._closed = True
        self._store.close()


def _stored(store: Store, write: Callable[[float], int], size: int, deadline: float) -> Delivery:
    """Write once and say what became of it; nothing that can go wrong with a file is raised."""
    try:
        refused = write(max(0.0, min(PATIENCE, deadline - monotonic())))
    except ConfigurationError as error:
        tell(f"store:{store.path}", f"{error} Nothing is stored until then; your program goes on.")
        return Delivery(size, "store_unusable")
    except BlockingIOError:
        return Delivery(retry_after=AGAIN_AFTER)
    except (OSError, sqlite3.Error) as error:
        return _failed(store, error, size)
    return Delivery(refused, "unreadable_record") if refused else DELIVERED


def _failed(store: Store, error: OSError | sqlite3.Error, size: int) -> Delivery:
    if isinstance(error, sqlite3.Error) and is_busy(error):
        return Delivery(retry_after=AGAIN_AFTER)
    if _is_full(error):
        tell(
            f"full:{store.path}",
            f"There is no room to write the local store {store.path}. Make room, or type OTEL_ML_STORE=/another/disk/store.db; "
            "records are dropped and counted until then.",
        )
        return Delivery(size, "disk_full")
    tell(
        f"store:{store.path}",
        f"The local store {store.path} could not be written ({type(error).__name__}: {error}). "
        "Give it another place: OTEL_ML_STORE=other.db; your program goes on.",
    )
    return Delivery(size, "store_unusable")


def _is_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    return getattr(error, "sqlite_errorcode", 0) in _NO_ROOM


def _insist(deliver: Callable[[float], Delivery]) -> bool:
    deadline = monotonic() + EXPORT_WITHIN
    while True:
        delivery = deliver(deadline)
        if delivery.retry_after is None:
            return not delivery.rejected
        if monotonic() + delivery.retry_after >= deadline:
            return False
        sleep(delivery.retry_after)


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
