"""The local store's file: where it is, whether it may be opened, and what its tables hold."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from time import monotonic, sleep

from otel_ml.errors import ConfigurationError

FOLDER = ".otel_ml"
FILE = "telemetry.db"
VARIABLE = "OTEL_ML_STORE"

VERSION = 1
APPLICATION_ID = 0x6F6D6C73  # "omls"
PAGE_BYTES = 4096

# `stored` is when a row was written, in seconds: the age limit goes by it, since a replay's own times may be years old.
# `seen` is when an origin or a series was last used, so that one that no row needs any more can be deleted.
SCHEMA = """
CREATE TABLE origin (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, seen INTEGER NOT NULL,
    resource TEXT NOT NULL, scope TEXT NOT NULL, scope_version TEXT NOT NULL, scope_attributes TEXT NOT NULL
);
CREATE TABLE span (
    id INTEGER PRIMARY KEY, stored INTEGER NOT NULL, origin INTEGER NOT NULL,
    trace_id BLOB NOT NULL, span_id BLOB NOT NULL, parent_id BLOB, flags INTEGER NOT NULL, trace_state TEXT,
    name TEXT NOT NULL, model TEXT, kind INTEGER NOT NULL, start_ns INTEGER, end_ns INTEGER,
    duration_ns INTEGER GENERATED ALWAYS AS (end_ns - start_ns) VIRTUAL,
    status INTEGER NOT NULL, description TEXT, attributes TEXT NOT NULL, events TEXT, links TEXT, dropped TEXT
);
CREATE TABLE event (
    id INTEGER PRIMARY KEY, stored INTEGER NOT NULL, origin INTEGER NOT NULL,
    time_ns INTEGER, observed_ns INTEGER, name TEXT NOT NULL, run TEXT, severity INTEGER, severity_text TEXT,
    body TEXT, attributes TEXT NOT NULL, trace_id BLOB, span_id BLOB, flags INTEGER, dropped INTEGER
);
CREATE INDEX event_run ON event (run) WHERE run IS NOT NULL;
CREATE TABLE series (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, seen INTEGER NOT NULL, origin INTEGER NOT NULL,
    name TEXT NOT NULL, kind TEXT NOT NULL, unit TEXT NOT NULL, description TEXT NOT NULL, temporality TEXT NOT NULL,
    monotonic INTEGER NOT NULL, bounds TEXT NOT NULL, attributes TEXT NOT NULL
);
CREATE TABLE point (
    id INTEGER PRIMARY KEY, stored INTEGER NOT NULL, series INTEGER NOT NULL, start_ns INTEGER, time_ns INTEGER,
    value, count INTEGER, sum, min, max, buckets TEXT
);
CREATE INDEX point_series ON point (series);
"""

_MAGIC = b"SQLite format 3\0"


def default_path() -> Path:
    """Return where the store is when nobody says otherwise: `OTEL_ML_STORE`, else `.otel_ml/telemetry.db` here."""
    return Path(os.environ.get(VARIABLE) or Path(FOLDER) / FILE)


def open_to_write(path: Path, log_bytes: int, patience: float) -> sqlite3.Connection:
    """Open the store at `path`, made if it is missing; what is not a store of ours is left as it is.

    The write-ahead log is brought into the file whenever it has `log_bytes`.

    `ConfigurationError` says what is wrong with the file or folder; OSError and sqlite3.OperationalError mean a full
    disk, or a store that somebody else kept locked for `patience` seconds.
    """
    until = monotonic() + patience
    _make(path)
    inspect(path)
    while True:
        connection = _connect(path, "rw", patience)
        try:
            _set_up(connection, log_bytes)
            _refuse_newer(path, version_of(connection))
        except ConfigurationError:
            connection.close()
            raise
        except sqlite3.Error as error:
            connection.close()
            # Changing the journal mode does not wait for locks by itself.
            if is_busy(error) and monotonic() < until:
                sleep(0.01)
                continue
            raise translated(path, error) from error
        return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the store at `path` without being able to change it."""
    if not path.exists():
        raise ConfigurationError(f"There is no local store at {path}. Type `otel-ml demo` to make one.")
    inspect(path)
    if not path.stat().st_size:
        raise ConfigurationError(f"The local store at {path} is still empty. Run your program, or type `otel-ml demo`.")
    try:
        try:
            return _checked(path, "ro")
        except sqlite3.OperationalError as error:
            # In a folder that cannot be written, SQLite cannot make the index of the write-ahead log; without a log
            # the file alone is everything.
            unwritable = error_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
            if not unwritable or Path(f"{path}-wal").exists():
                raise
            return _checked(path, "ro&immutable=1")
    except sqlite3.Error as error:
        raise translated(path, error) from error


def inspect(path: Path) -> None:
    """Raise `ConfigurationError` if `path` is a link, is not ours or is too new; reads a hundred bytes, no more.

    SQLite is not asked: to open a database that belongs to another program may already change its files.
    """
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        _refuse_special(name)
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise ConfigurationError(_CANNOT.format(path=path, why=error.strerror, variable=VARIABLE)) from error
    if not header:
        return
    if header[:16] != _MAGIC or int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise ConfigurationError(
            f"{path} is not a store of otel_ml and is left as it is. "
            f"Give the store another place: {VARIABLE}=other.db, or exporters.Local('other.db')."
        )
    _refuse_newer(path, int.from_bytes(header[60:64], "big"))


def translated(path: Path, error: sqlite3.Error) -> Exception:
    """Return the error to raise for one of SQLite's: ours where the store cannot be used, else the same."""
    code = error_code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return ConfigurationError(
            f"The local store {path} is damaged and is left as it is. Move it away to begin a new one: mv {path} {path}.damaged"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return ConfigurationError(_CANNOT.format(path=path, why="it is read-only", variable=VARIABLE))
    return error


def error_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether somebody else held a lock for too long."""
    return error_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


_CANNOT = (
    "The local store {path} cannot be opened or written ({why}). Give it a place of your own: {variable}=/path/store.db"
)


def _make(path: Path) -> None:
    folder = path.parent
    try:
        _make_folder(folder)
        # 0600 from the first moment: SQLite gives its own files the same mode as this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600))
    except FileExistsError:
        return
    except (PermissionError, NotADirectoryError) as error:
        raise ConfigurationError(_CANNOT.format(path=path, why=error.strerror, variable=VARIABLE)) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise ConfigurationError(_CANNOT.format(path=path, why=error.strerror, variable=VARIABLE)) from error
        raise


def _make_folder(folder: Path) -> None:
    if folder.is_symlink() and folder.name == FOLDER:
        raise ConfigurationError(
            f"{folder} is a symbolic link, which the local store does not follow. "
            f"Name the place it points to: {VARIABLE}={folder.resolve() / FILE}"
        )
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.name == FOLDER:
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def _refuse_special(path: Path) -> None:
    try:
        found = path.lstat()
    except OSError:
        return
    if stat.S_ISLNK(found.st_mode):
        what = "is a symbolic link, which the local store does not follow"
    elif not stat.S_ISREG(found.st_mode):
        what = "is not a regular file"
    elif hasattr(os, "geteuid") and os.geteuid() not in (0, found.st_uid) and found.st_uid != 0:
        what = "belongs to another user"
    else:
        return
    raise ConfigurationError(f"{path} {what}. Give the store another place: {VARIABLE}=other.db")


def _refuse_newer(path: Path, version: int) -> None:
    if version > VERSION:
        raise ConfigurationError(
            f"{path} was written by a newer otel_ml (schema {version}; this one knows {VERSION}) and is left as it is. "
            f"Type `pip install --upgrade otel-ml`, or give another place: {VARIABLE}=other.db"
        )


def _connect(path: Path, mode: str, patience: float) -> sqlite3.Connection:
    # The class, not `sqlite3.connect`, which OpenTelemetry's instrumentation of sqlite3 replaces: we do not watch
    # ourselves. Transactions are begun and ended by hand; a lock of the store's makes threads take turns.
    return sqlite3.Connection(
        f"{path.absolute().as_uri()}?mode={mode}",
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )


def _set_up(connection: sqlite3.Connection, log_bytes: int) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    if not version_of(connection):
        # One transaction, so that at no moment there is a file that does not say whose it is; and before the journal
        # mode is changed, so that it says so itself, where `inspect` looks, and not only in the write-ahead log.
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        # Before the first table, so that a store may shrink when it is given less room.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Another process may have been first.
        if not version_of(connection):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL: a power cut may cost the latest records but never the store. OFF would save a tenth of the CPU and risk
    # the whole file; a killed process loses nothing in either.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {max(8, log_bytes // PAGE_BYTES)}")
    connection.execute(f"PRAGMA journal_size_limit = {log_bytes}")


def _checked(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(path, mode, 5.0)
    try:
        _refuse_newer(path, version_of(connection))
        connection.execute("SELECT count(*) FROM origin").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version of an open store; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
