"""The local store: spans, metric points and events in one SQLite file, bounded in bytes and age from the start."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from otel_ml import _store_rows as rows
from otel_ml._store_schema import default_path, is_busy, translated
from otel_ml._store_writer import Writer
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml._store_read import Records

MIN_BYTES = 1_000_000
# The longest that `os.fork()` waits for a transaction to end.
FORK_WAIT = 0.25


class Store:
    """One SQLite file that any number of threads and processes may write to and read from at the same time.

    The file and its write-ahead log together stay within `max_bytes`, and rows within `max_age` seconds of having been
    written: the oldest of the largest table are deleted first. The file is opened at the first write, in the process
    that writes; a forked child opens it anew and never touches what it inherited.

    Each `write_*` returns how many records it refused because they could not be read as what they claim to be. It
    raises `ConfigurationError` where the file cannot be used (not ours, newer, damaged, a link, no permission),
    BlockingIOError or sqlite3.OperationalError where it stayed locked for `patience` seconds, and OSError or
    sqlite3.OperationalError where the disk is full. What was raised for was not written; of a batch larger than a
    sixteenth of `max_bytes`, the first parts may have been.
    """

    def __init__(self, path: Path | None = None, *, max_bytes: int = 256_000_000, max_age: float = 7 * 86400.0) -> None:
        if max_bytes < MIN_BYTES:
            raise ConfigurationError(f"max_bytes={max_bytes} is too little for a store. Give at least {MIN_BYTES:_}.")
        if not max_age > 0:
            raise ConfigurationError(f"max_age={max_age} keeps nothing. Give seconds above 0, such as 7 * 86400.0.")
        self.path = (default_path() if path is None else path).absolute()
        self.max_bytes, self.max_age = max_bytes, max_age
        self._turn = threading.RLock()
        self._writer: Writer | None = None
        self._pid = 0
        self._writing = False

    def write_spans(self, spans: Sequence[ReadableSpan], *, patience: float = 1.0) -> int:
        """Store ended spans, in this order; return how many were refused."""
        with self._ready(patience) as writer:
            made = rows.span_rows(spans, writer.now(), writer.origin)
            writer.begin()
            return made.refused + writer.insert("span", rows.SPAN_COLUMNS, rows.SPAN_TEXTS, made.rows)

    def write_events(self, records: Sequence[ReadableLogRecord], *, patience: float = 1.0) -> int:
        """Store events, in this order; return how many were refused."""
        with self._ready(patience) as writer:
            made = rows.event_rows(records, writer.now(), writer.origin)
            writer.begin()
            return made.refused + writer.insert("event", rows.EVENT_COLUMNS, rows.EVENT_TEXTS, made.rows)

    def write_metrics(self, data: MetricsData, *, patience: float = 1.0) -> int:
        """Store every point of a collection of metrics; return how many were refused."""
        with self._ready(patience) as writer:
            found = rows.points(data, writer.origin)
            writer.begin()
            made: list[rows.Row] = [(writer.now(), writer.series(point.series), *point.own) for point in found.rows]
            return found.refused + writer.insert("point", rows.POINT_COLUMNS, rows.POINT_TEXTS, made)

    def close(self) -> None:
        """Bring the log into the file and close it; a later write opens it again. Does nothing in a forked child."""
        with self._turn:
            writer, self._writer = self._writer, None
            if writer is not None and self._pid == os.getpid():
                writer.close()

    @staticmethod
    def open_read(path: Path | None = None) -> Records:
        """Open a store to read from it, while others may be writing to it."""
        from otel_ml._store_read import Records

        return Records(default_path() if path is None else path)

    @contextmanager
    def _ready(self, patience: float) -> Generator[Writer]:
        until = monotonic() + patience
        turn = self._turn
        if self._pid != os.getpid():
            # Forked, perhaps while another thread had the turn: that thread does not exist here.
            self._forked()
            turn, self._pid = self._turn, os.getpid()
        if not _may_begin.is_set():
            # A fork is waiting for the turn, which locks give to whoever asks first, and a busy writer always does.
            _may_begin.wait(FORK_WAIT)
        if not turn.acquire(timeout=patience):
            raise BlockingIOError(f"another thread kept the local store busy for {patience} seconds")
        if self._writing:
            # A signal handler or finalizer of this very thread interrupts a write.
            turn.release()
            raise BlockingIOError("this thread is in the middle of a write to the local store")
        self._writing = True
        try:
            yield from self._transaction(patience, until)
        except sqlite3.Error as error:
            if not is_busy(error):
                # Begin with a fresh connection next time: the file may have been replaced, or the disk have room again.
                self.close()
            raise translated(self.path, error) from error
        finally:
            self._writing = False
            turn.release()

    def _transaction(self, patience: float, until: float) -> Generator[Writer]:
        writer = self._writer
        if writer is None or writer.moved():
            self.close()
            _watch_forks(self)
            writer = self._writer = Writer(self.path, self.max_bytes, self.max_age, patience)
        writer.prepare(until)
        try:
            yield writer
        except BaseException:
            writer.rollback()
            raise
        writer.commit()

    def _forked(self) -> None:
        self._turn, self._writer, self._writing = threading.RLock(), None, False


# ------------------------------------------------------------------------------------------------ fork
# SQLite's own locks (of its allocator, of its list of files) would stay locked for ever in a child forked while another
# thread was inside SQLite. So a fork waits until no store of this process is in mid-transaction.
_stores: list[weakref.ref[Store]] = []
_held: dict[int, list[threading.RLock]] = {}
_may_begin = threading.Event()
_may_begin.set()
_watching = False


def _watch_forks(store: Store) -> None:
    global _watching
    _stores[:] = [one for one in _stores if one() not in (None, store)]
    _stores.append(weakref.ref(store))
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


def _before_fork() -> None:
    _may_begin.clear()
    until = monotonic() + FORK_WAIT
    turns = [store._turn for store in _alive()]
    # By thread: two of them may fork at once.
    held = [turn for turn in turns if turn.acquire(timeout=max(0.0, until - monotonic()))]
    _held[threading.get_ident()] = held


def _after_fork() -> None:
    for turn in _held.pop(threading.get_ident(), ()):
        turn.release()
    _may_begin.set()


def _in_child() -> None:
    global _may_begin
    _may_begin = threading.Event()
    _may_begin.set()
    _held.clear()
    for store in _alive():
        store._forked()


def _alive() -> list[Store]:
    return [store for store in (one() for one in list(_stores)) if store is not None]
