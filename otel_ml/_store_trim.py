"""How the local store stays within its bytes and its age: the oldest rows of the largest table go first."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from time import monotonic

# Rows deleted in one transaction: about 10 ms, the longest that another process waits.
CHUNK = 2_048
# Rows looked at to tell how large those of a table are.
SAMPLE = 64
# Bytes of a row besides its texts, indexes included.
ROW = 120
# A row is deleted with what it refers to only after nobody can still be about to use that again.
SLACK = 600

# Table by table: how many bytes of text a row holds.
_SIZES = {
    "span": "length(attributes) + length(coalesce(events, '')) + length(coalesce(links, '')) + length(name)",
    "event": "length(attributes) + length(coalesce(body, '')) + length(name)",
    "point": "length(coalesce(buckets, ''))",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Pages in use before old rows are deleted, and pages the file may have."""

    used: int
    file: int


def make_room(connection: sqlite3.Connection, limits: Limits) -> bool:
    """Delete old rows until few enough pages are in use. Call it outside of a transaction.

    True if even the origins and series had to go, so that nobody may go on using their ids.
    """
    forgot = False
    if used_pages(connection) > limits.used:
        # A little more than is needed, or the next batch would have to make room again.
        target = limits.used - limits.used // 32
        while (over := used_pages(connection) - target) > 0 and not forgot:
            table = _largest(connection)
            if table is None:
                _forget_all(connection)
                forgot = True
            else:
                _delete_oldest(connection, table, over)
    while (surplus := _pragma(connection, "page_count") - limits.file) > 0:
        # A statement that returns rows works only as long as they are fetched.
        connection.execute(f"PRAGMA incremental_vacuum({min(surplus, CHUNK)})").fetchall()
        if _pragma(connection, "page_count") - limits.file == surplus:
            break
    return forgot


def expire(connection: sqlite3.Connection, before: int, until: float) -> bool:
    """Delete the rows written earlier than `before` (seconds); False if `until` (monotonic) came before the end."""
    for table in _SIZES:
        while True:
            first, last = _ends(connection, table)
            if first is None or last is None or _stored(connection, table, first) >= before:
                break
            if monotonic() > until:
                return False
            if _stored(connection, table, last) < before:
                # Without a condition SQLite drops whole pages.
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  # the tables are our own
                break
            stop = min(first + CHUNK, last)
            if _stored(connection, table, stop) >= before:
                stop = _first_since(connection, table, before)
            connection.execute(f"DELETE FROM {table} WHERE id < ?", (stop,))  # noqa: S608  # the tables are our own
    _forget_unused(connection)
    return True


def used_pages(connection: sqlite3.Connection) -> int:
    """Return how many pages of the file are in use; freed ones are used again before the file grows."""
    return _pragma(connection, "page_count") - _pragma(connection, "freelist_count")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _largest(connection: sqlite3.Connection) -> str | None:
    sizes = {table: _bytes(connection, table) for table in _SIZES}
    largest = max(sizes, key=sizes.__getitem__)
    return largest if sizes[largest] else None


def _bytes(connection: sqlite3.Connection, table: str) -> int:
    first, last = _ends(connection, table)
    if first is None or last is None:
        return 0
    # Rows are appended at one end and deleted at the other, so their numbers count them.
    return int((last - first + 1) * _row_bytes(connection, table))


def _row_bytes(connection: sqlite3.Connection, table: str) -> float:
    query = f"SELECT avg(size) FROM (SELECT {_SIZES[table]} AS size FROM {table} ORDER BY id LIMIT {SAMPLE})"  # noqa: S608  # the tables are our own
    return ROW + float(connection.execute(query).fetchone()[0] or 0)


def _delete_oldest(connection: sqlite3.Connection, table: str, pages: int) -> None:
    first, last = _ends(connection, table)
    if first is None or last is None:
        return
    wanted = int(pages * _pragma(connection, "page_size") / _row_bytes(connection, table)) + 1
    stop = min(first + min(wanted, CHUNK), last + 1)
    connection.execute(f"DELETE FROM {table} WHERE id < ?", (stop,))  # noqa: S608  # the tables are our own


def _ends(connection: sqlite3.Connection, table: str) -> tuple[int | None, int | None]:
    # Two queries: SQLite finds one end in the index, but walks the table for both at once.
    first = connection.execute(f"SELECT min(id) FROM {table}").fetchone()[0]  # noqa: S608  # the tables are our own
    last = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]  # noqa: S608  # the tables are our own
    return first, last


def _stored(connection: sqlite3.Connection, table: str, row: int) -> int:
    query = f"SELECT stored FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"  # noqa: S608  # the tables are our own
    found = connection.execute(query, (row,)).fetchone()
    return int(found[0]) if found is not None else 0


def _first_since(connection: sqlite3.Connection, table: str, stored: int) -> int:
    query = f"SELECT id FROM {table} WHERE stored >= ? ORDER BY id LIMIT 1"  # noqa: S608  # the tables are our own
    return int(connection.execute(query, (stored,)).fetchone()[0])


def _forget_unused(connection: sqlite3.Connection) -> None:
    """Delete origins and series that were last used before the oldest row that is left was written."""
    firsts = [(table, _ends(connection, table)[0]) for table in _SIZES]
    oldest = min((_stored(connection, table, first) for table, first in firsts if first is not None), default=None)
    if oldest is not None:
        connection.execute("DELETE FROM series WHERE seen < ?", (oldest - SLACK,))
        connection.execute("DELETE FROM origin WHERE seen < ?", (oldest - SLACK,))


def _forget_all(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM series")
    connection.execute("DELETE FROM origin")
