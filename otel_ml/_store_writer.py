"""One process's connection to the local store: it inserts rows, within the bounds, and knows what it has named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, TypeVar

from otel_ml._store_json import encode
from otel_ml._store_rows import ORIGIN_COLUMNS, SERIES_COLUMNS, Row, origin_row
from otel_ml._store_schema import PAGE_BYTES, is_busy, open_to_write
from otel_ml._store_trim import Limits, expire, make_room

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

Done = TypeVar("Done")

# Seconds between looks at the age of what is stored, and at most between two notes that an origin is in use.
TIDY_EVERY = 60.0
# The longest that deleting what is too old may take at a time.
TIDY_FOR = 0.05
# Origins and series known without asking the store.
MAX_KNOWN = 100_000
# Bytes of a row besides its texts, indexes included; generously.
ROW_BYTES = 160
# Rows inserted by one statement, as long as there are as many, and as many values as SQLite takes. Row by row, this thread
# would give up the interpreter's lock for each with the store's in its hand: beside two threads that compute, 1,024 rows
# kept other processes out for 9 s; so they do for 0.6 s.
_AT_ONCE = (500, 50, 5, 1)
# Seconds between two looks whether another process has ended its transaction.
_LOOK_AGAIN = 0.001
# The log at which it is brought into the file: 10 ms of work.
LOG_BYTES = 4_000_000


class Writer:
    """Made, used and closed in one process, by one thread at a time (`Store` sees to both)."""

    def __init__(self, path: Path, max_bytes: int, max_age: float, patience: float) -> None:
        self._path, self._max_age = path, max_age
        self._log = Path(f"{path}-wal")
        # Together with a log of a sixteenth and one transaction of a sixteenth: at most `max_bytes`.
        pages = max_bytes // PAGE_BYTES
        self._limits = Limits(used=pages * 13 // 16, file=pages * 15 // 16)
        self._part = max_bytes // 16
        self._log_bytes, self._most_log = min(self._part, LOG_BYTES), max_bytes // 4
        self._origins: dict[tuple[int, int], tuple[int, float, object, object]] = {}
        self._series: dict[Row, tuple[int, float]] = {}
        self._tidy_at = self._until = self._patience = 0.0
        self._connection = open_to_write(path, self._log_bytes, patience)
        self._most_values = self._connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self._be_patient(0.0)
        _keep_alive(self._connection)
        self._file = _identity(path)

    def prepare(self, until: float) -> None:
        """Have room, and nothing that is too old, for a transaction that must be under way by `until` (monotonic)."""
        now = monotonic()
        self._until, self._patience = until, until - now
        self._shorten_log(self._patience)
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_EVERY if self._expire(now + TIDY_FOR) else now
        self._in_turn(self._make_room)

    def begin(self) -> None:
        """Begin a transaction. As little as can be is done in it: other processes wait."""
        self._in_turn(lambda: self._connection.execute("BEGIN IMMEDIATE"))

    def commit(self) -> None:
        """End the transaction: what was inserted is stored, and survives this process."""
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """End the transaction as if nothing had been inserted."""
        # What was named in it is named no more.
        self._forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def insert(self, table: str, columns: tuple[str, ...], texts: tuple[int, ...], rows: list[Row]) -> int:
        """Insert rows in their order; return how many were refused, because of their size or what they hold."""
        into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608  # the names are our own
        marks = f"({', '.join('?' * len(columns))})"
        refused = len(rows)
        for number, part in enumerate(self._parts(rows, texts)):
            if number:
                # So much at once would fill the log: a transaction of its own.
                self.commit()
                self._until = monotonic() + self._patience
                self._in_turn(self._make_room)
                self.begin()
            refused -= self._insert(into, marks, part)
        return refused

    def now(self) -> int:
        """Return the time that rows are marked with, in seconds."""
        return int(time())

    def origin(self, resource: Resource | None, scope: InstrumentationScope | None) -> int:
        """Return the id of the row for a resource and a scope."""
        key = (id(resource), id(scope))
        known = self._origins.get(key)
        if known is not None and known[1] > monotonic():
            return known[0]
        row = self._named("origin", ORIGIN_COLUMNS, origin_row(resource, scope))
        if len(self._origins) >= MAX_KNOWN:
            self._origins.clear()
        # The objects are kept, so that their ids stay theirs.
        self._origins[key] = (row, monotonic() + TIDY_EVERY, resource, scope)
        return row

    def series(self, series: Row) -> int:
        """Return the id of the row for a series."""
        known = self._series.get(series)
        if known is not None and known[1] > monotonic():
            return known[0]
        row = self._named("series", SERIES_COLUMNS, series)
        if len(self._series) >= MAX_KNOWN:
            self._series.clear()
        self._series[series] = (row, monotonic() + TIDY_EVERY)
        return row

    def moved(self) -> bool:
        """Say whether the file that is open is no longer the one at the path: deleted, or replaced."""
        return _identity(self._path) != self._file

    def close(self) -> None:
        """Bring the log into the file and close both."""
        self._connection.close()
        _let_go(self._connection)

    def _make_room(self) -> None:
        forgot = True
        try:
            forgot = make_room(self._connection, self._limits)
        finally:
            if forgot:
                self._forget()

    def _in_turn(self, do: Callable[[], Done]) -> Done:
        # SQLite itself looks again after up to 0.1 s, in which a busy writer has ended one transaction and begun the
        # next: beside one, what takes 1 ms took 3.9 s at worst.
        while True:
            try:
                return do()
            except sqlite3.OperationalError as error:
                if not is_busy(error) or monotonic() >= self._until:
                    raise
            sleep(_LOOK_AGAIN)

    def _expire(self, until: float) -> bool:
        try:
            return expire(self._connection, int(time() - self._max_age), until)
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            # What is too old can wait; what is new cannot.
            return False

    def _forget(self) -> None:
        self._origins.clear()
        self._series.clear()

    def _shorten_log(self, patience: float) -> None:
        # The log begins anew once all of it is in the file and nobody reads from it. Where that does not come about
        # by itself (writers that take turns without a pause, a reader that stays), ask for it, and insist at a quarter.
        size = _size(self._log)
        if size > 2 * self._part:
            self._be_patient(patience if size > self._most_log else 0.0)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._be_patient(0.0)
            if _size(self._log) > self._most_log:
                raise BlockingIOError(f"{self._path} is being read, and its log has grown as far as it may")

    def _be_patient(self, seconds: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {int(max(0.0, seconds) * 1000)}")

    def _parts(self, rows: list[Row], texts: tuple[int, ...]) -> Iterator[list[Row]]:
        part: list[Row] = []
        size = 0
        for row in rows:
            length = ROW_BYTES
            for index in texts:
                text = row[index]
                if text is not None:
                    length += len(text)  # type: ignore[arg-type]  # these columns hold texts
            if length > self._part:
                continue
            if size + length > self._part:
                yield part
                part, size = [], 0
            part.append(row)
            size += length
        yield part

    def _insert(self, into: str, marks: str, part: list[Row]) -> int:
        connection = self._connection
        connection.execute("SAVEPOINT part")
        try:
            done = 0
            for size in _AT_ONCE:
                statement = into + ", ".join([marks] * size)
                while len(part) - done >= size and size * len(part[0]) <= self._most_values:
                    connection.execute(statement, [*chain.from_iterable(part[done : done + size])])
                    done += size
        except _UNREADABLE:
            connection.execute("ROLLBACK TO part")
        else:
            return len(part)
        stored = 0
        for row in part:
            try:
                connection.execute(into + marks, row)
                stored += 1
            except _UNREADABLE:
                continue
        return stored

    def _named(self, table: str, columns: tuple[str, ...], row: Row) -> int:
        digest = blake2b(encode(row).encode(), digest_size=16).digest()
        marks = ", ".join("?" * len(columns))
        statement = (
            f"INSERT INTO {table} (digest, seen, {', '.join(columns)}) VALUES (?, ?, {marks}) "  # noqa: S608  # the names are our own
            "ON CONFLICT (digest) DO UPDATE SET seen = excluded.seen"
        )
        self._in_turn(lambda: self._connection.execute(statement, (digest, self.now(), *row)))
        found = self._connection.execute(f"SELECT id FROM {table} WHERE digest = ?", (digest,))  # noqa: S608  # the names are our own
        return int(found.fetchone()[0])


# What Python's sqlite3 says of a value that it cannot hand to SQLite, or SQLite of one that it does not take.
_UNREADABLE = (
    OverflowError, TypeError, ValueError, sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)  # fmt: skip


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _keep_alive(connection: sqlite3.Connection) -> None:
    # SQLite forbids a forked child to close a connection it inherited: rolling back would write into the parent's
    # shared memory. The garbage collector, or the end of the child's interpreter, would do so; a reference that
    # nobody gives back keeps both from it.
    _count_reference("Py_IncRef", connection)


def _let_go(connection: sqlite3.Connection) -> None:
    _count_reference("Py_DecRef", connection)


def _count_reference(function: str, connection: sqlite3.Connection) -> None:
    try:
        import ctypes

        getattr(ctypes.pythonapi, function)(ctypes.py_object(connection))
    except (ImportError, AttributeError):
        # Not CPython: then there is no count, and hardly a fork.
        return
