"""One process's folder in the spool: segment files that are appended to, read in order, and deleted when delivered.

A folder belongs to whoever holds the lock on its `lease` file. The system takes the lock back when a process ends, however
it ends; then another process may claim the folder and send what is in it.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import time_ns

from otel_ml import _segment
from otel_ml._delivery import Parcel
from otel_ml._segment_file import ACKNOWLEDGED, NOFOLLOW, NONBLOCK, SEGMENT, Segment, acknowledge, content, found, paths

# Windows has none, and no spool.
if sys.platform != "win32":
    import fcntl

# A segment is closed when it has grown past this; room is made by deleting whole ones.
SEGMENT_BYTES = 1024 * 1024
# A drained segment that is no larger goes on being written to.
_SMALL = 64 * 1024
FULL, CORRUPT = "spool_full", "spool_corrupt"

_LEASE = "lease"


class Load:
    """Parcels from the head of a shelf, on their way. `lost` records beside them could not be read, for `reason`."""

    __slots__ = ("count", "end", "lost", "parcels", "reason", "segment", "shelf")

    def __init__(self, shelf: Shelf, segment: Segment, parcels: tuple[Parcel, ...], end: int, reason: str) -> None:
        self.shelf, self.segment, self.parcels, self.end, self.reason = shelf, segment, parcels, end, reason
        self.count = sum(parcel.count for parcel in parcels)
        self.lost = max(0, segment.left - self.count) if end >= segment.size else 0


class Shelf:
    """The folder of one process, held by its lease. Not for several threads at once; may raise `OSError`."""

    def __init__(self, folder: Path, lease: int, *, of_others: bool = False) -> None:
        self.folder, self._lease, self.of_others = folder, lease, of_others
        self.segments: deque[Segment] = deque()
        self._writer = -1
        self._latest = 0
        self._key = os.path.realpath(folder)
        _open.add(self)
        _ours.add(self._key)

    @property
    def left(self) -> int:
        """Records in it."""
        return sum(segment.left for segment in self.segments)

    def put(self, parcel: Parcel) -> None:
        """Append a parcel; leaves the file as it was if there is no room for all of it."""
        segment = self.segments[-1] if self._writer >= 0 else self._begin()
        data = _segment.write(parcel, segment.key)
        try:
            written = os.write(self._writer, data)
            while written < len(data):
                written += os.write(self._writer, data[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._writer, segment.size)
            raise
        segment.size += len(data)
        segment.count += parcel.count

    def full(self, more: int, limit: int) -> bool:
        """Say whether a parcel of so many bytes begins a new segment."""
        return self._writer < 0 or self.segments[-1].size + more > limit

    def close_segment(self) -> None:
        """Have the next parcel begin a new segment."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def load(self, most_records: int, most_bytes: int) -> Load | None:
        """Return what comes next, or None if nothing is left."""
        for segment in self.segments:
            if segment.position >= segment.size:
                continue
            return self._load(segment, most_records, most_bytes)
        return None

    def settle(self, load: Load) -> None:
        """Take note that a load is delivered or dropped; a segment that is done is deleted."""
        segment = load.segment
        segment.busy = False
        segment.position = load.end
        segment.settled += load.count + load.lost
        if segment not in self.segments or self._lease < 0:
            return
        writing = self._writer >= 0 and segment is self.segments[-1]
        if segment.position >= segment.size and (not writing or segment.size > _SMALL):
            self.remove(segment)
        else:
            # Whatever lies in its place, and whoever deleted the folder: then it may be delivered twice.
            with suppress(OSError):
                acknowledge(segment.path, segment.position)

    def remove(self, segment: Segment) -> None:
        """Delete a segment."""
        if self._writer >= 0 and segment is self.segments[-1]:
            self.close_segment()
        self.segments.remove(segment)
        for path in (segment.path, segment.path.with_suffix(ACKNOWLEDGED)):
            with suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Give the folder back: to another process if something is left in it, else to nobody."""
        self.close_segment()
        with suppress(OSError):
            if all(segment.position >= segment.size for segment in self.segments):
                for segment in list(self.segments):
                    self.remove(segment)
                (self.folder / _LEASE).unlink()
                self.folder.rmdir()
                # Fails where others have something in it; where they are about to, they make it again.
                self.folder.parent.rmdir()
        self.disown()

    def disown(self) -> None:
        """Close our files. In a forked child this says nothing: the lock is the parent's."""
        self.close_segment()
        if self._lease >= 0:
            os.close(self._lease)
            self._lease = -1
        _open.discard(self)
        _ours.discard(self._key)

    def _begin(self) -> Segment:
        # By the clock, so that folders can be read in order; but never backwards, whatever the clock does.
        self._latest = max(self._latest + 1, time_ns())
        segment = Segment(self.folder / f"{self._latest:020d}{SEGMENT}")
        self._writer = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | NOFOLLOW, 0o600)
        self.segments.append(segment)
        return segment

    def _load(self, segment: Segment, most_records: int, most_bytes: int) -> Load:
        reason = CORRUPT
        try:
            data = content(segment.path, segment.position, segment.size)
        except FileNotFoundError:
            # Another process has made room.
            data, reason = b"", FULL
        parcels: list[Parcel] = []
        end, records = segment.size, 0
        for parcel, parcel_end in _segment.read(data, segment.key):
            if parcels and (records + parcel.count > most_records or parcel_end > most_bytes):
                break
            parcels.append(parcel)
            records += parcel.count
            end = segment.position + parcel_end
        else:
            end = segment.size
        segment.busy = True
        load = Load(self, segment, tuple(parcels), end, reason)
        if load.lost and segment is self.segments[-1]:
            # Somebody has cut or deleted the file that is being written to.
            self.close_segment()
        return load


def begin(parent: Path) -> Shelf:
    """Make a folder of our own in `parent`, locked before anybody else can see it."""
    name = f"{os.getpid()}-{os.urandom(6).hex()}"
    hidden, folder = parent / f".{name}", parent / name
    hidden.mkdir(mode=0o700)
    lease = -1
    try:
        lease = os.open(hidden / _LEASE, os.O_RDWR | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o600)
        _lock(lease)
        hidden.rename(folder)
    except OSError:
        if lease >= 0:
            os.close(lease)
        _clear(hidden)
        raise
    return Shelf(folder, lease)


def claim(folder: Path) -> Shelf | None:
    """Take over the folder of a process that has ended; None while it belongs to somebody, or if it is no such folder."""
    if os.path.realpath(folder) in _ours:
        return None
    try:
        lease = os.open(folder / _LEASE, os.O_RDWR | NOFOLLOW | NONBLOCK)
    except OSError:
        # Gone, another user's, or no file at all.
        return None
    try:
        _lock(lease)
        # Whoever had it may have been done with it just now, and have deleted it.
        gone = not os.path.samestat(os.fstat(lease), (folder / _LEASE).stat())
    except OSError:
        gone = True
    if gone:
        os.close(lease)
        return None
    if folder.name.startswith("."):
        # Its process was killed while it made the folder: nothing is in it.
        os.close(lease)
        _clear(folder)
        return None
    shelf = Shelf(folder, lease, of_others=True)
    shelf.segments.extend(left for left in map(found, paths(folder)) if left is not None)
    return shelf


def folders(parent: Path) -> list[Path]:
    """Return the folders of all processes below `parent`, for whatever destination; no link is followed."""
    return [one for destination in _folders_in(parent) for one in _folders_in(destination)]


def _folders_in(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        # Gone just now, or another user's.
        return []


def segments(parent: Path) -> list[tuple[str, int, Path, bool]]:
    """Return all segments below `parent`, oldest first: name, bytes on disk, path, and whether it is its folder's newest."""
    found: list[tuple[str, int, Path, bool]] = []
    for folder in folders(parent):
        held = paths(folder)
        for path in held:
            with suppress(OSError):
                on_disk = path.lstat()
                # A sparse file takes no room.
                taken = min(on_disk.st_size, getattr(on_disk, "st_blocks", on_disk.st_size) * 512)
                found.append((path.name, taken, path, path is held[-1]))
    return sorted(found)


def _clear(hidden: Path) -> None:
    with suppress(OSError):
        (hidden / _LEASE).unlink(missing_ok=True)
    with suppress(OSError):
        hidden.rmdir()


def _lock(lease: int) -> None:
    # A lock of POSIX: a forked child does not inherit it, and it ends with the process.
    if sys.platform != "win32":
        fcntl.lockf(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Folders of this process: closing another descriptor of their lease would give the lock away.
_ours: set[str] = set()
_open: set[Shelf] = set()


def _in_child() -> None:
    for shelf in list(_open):
        with suppress(OSError):
            shelf.disown()
    _ours.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
