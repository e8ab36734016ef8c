"""One process's folder in the spool: segment files that are appended to, read in order, and deleted when delivered.

A folder belongs to whoever holds the lock on its `lease` file. The system takes the lock back when a process ends, however
it ends; then another process may claim the folder and send what is in it.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path
from struct import Struct
from time import time_ns
from zlib import crc32

from otel_ml import _segment
from otel_ml._delivery import Parcel

try:
    import fcntl
except ImportError:  # Windows: there is no spool
    fcntl = None  # type: ignore[assignment]  # told apart where it is used

# A segment is closed when it has grown past this; room is made by deleting whole ones.
SEGMENT_BYTES = 1024 * 1024
# A drained segment that is no larger goes on being written to.
_SMALL = 64 * 1024
# As much of a file is read at once; no segment of ours is larger.
_MOST_READ = 2 * _segment.MAX_FRAME
FULL, CORRUPT = "spool_full", "spool_corrupt"

_LEASE, _SEGMENT, _ACKNOWLEDGED = "lease", ".seg", ".ack"
_ACK = Struct("<Q")
_CHECK = Struct("<I")


class Segment:
    """One file: what was written into it, and how far it has been delivered. Counts are records of the account."""

    __slots__ = ("busy", "count", "path", "position", "settled", "size")

    def __init__(self, path: Path, size: int = 0, count: int = 0, position: int = 0) -> None:
        self.path, self.size, self.count, self.position = path, size, count, position
        self.settled = 0
        # Something read from it is on its way.
        self.busy = False

    @property
    def left(self) -> int:
        """Records that are neither delivered nor dropped."""
        return self.count - self.settled


class Load:
    """Parcels from the head of a shelf, on their way. `lost` records beside them could not be read, for `reason`."""

    __slots__ = ("count", "end", "lost", "parcels", "reason", "segment", "shelf")

    def __init__(self, shelf: Shelf, segment: Segment, parcels: tuple[Parcel, ...], end: int, reason: str) -> None:
        self.shelf, self.segment, self.parcels, self.end, self.reason = shelf, segment, parcels, end, reason
        self.count = sum(parcel.count for parcel in parcels)
        self.lost = max(0, segment.left - self.count) if end >= segment.size else 0


class Shelf:
    """The folder of one process, held by its lease. Not for several threads at once; may raise `OSError`."""

    def __init__(self, folder: Path, lease: int) -> None:
        self.folder, self._lease = folder, lease
        self.segments: deque[Segment] = deque()
        self._writer = -1
        self._latest = 0
        _open.add(self)

    @property
    def left(self) -> int:
        """Records in it."""
        return sum(segment.left for segment in self.segments)

    def put(self, data: bytes, count: int) -> None:
        """Append the frames of a parcel; leaves the file as it was if there is no room for all of it."""
        segment = self.segments[-1] if self._writer >= 0 else self._begin()
        try:
            written = os.write(self._writer, data)
            while written < len(data):
                written += os.write(self._writer, data[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._writer, segment.size)
            raise
        segment.size += len(data)
        segment.count += count

    def full(self, limit: int) -> bool:
        """Say whether the next parcel begins a new segment."""
        return self._writer < 0 or self.segments[-1].size >= limit

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
            _acknowledge(segment.path, segment.position)

    def remove(self, segment: Segment) -> None:
        """Delete a segment."""
        if self._writer >= 0 and segment is self.segments[-1]:
            self.close_segment()
        self.segments.remove(segment)
        for path in (segment.path, segment.path.with_suffix(_ACKNOWLEDGED)):
            with suppress(FileNotFoundError):
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
        self.disown()

    def disown(self) -> None:
        """Close our files. In a forked child this says nothing: the lock is the parent's."""
        self.close_segment()
        if self._lease >= 0:
            os.close(self._lease)
            self._lease = -1
        _open.discard(self)
        _ours.discard(str(self.folder))

    def _begin(self) -> Segment:
        # By the clock, so that folders can be read in order; but never backwards, whatever the clock does.
        self._latest = max(self._latest + 1, time_ns())
        segment = Segment(self.folder / f"{self._latest:020d}{_SEGMENT}")
        self._writer = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _NOFOLLOW, 0o600)
        self.segments.append(segment)
        return segment

    def _load(self, segment: Segment, most_records: int, most_bytes: int) -> Load:
        reason = CORRUPT
        try:
            data = _content(segment.path, segment.position, segment.size)
        except FileNotFoundError:
            # Another process has made room.
            data, reason = b"", FULL
        parcels: list[Parcel] = []
        end, records = segment.size, 0
        for parcel, parcel_end in _segment.read(data):
            if parcels and (records + parcel.count > most_records or parcel_end > most_bytes):
                break
            parcels.append(parcel)
            records += parcel.count
            end = segment.position + parcel_end
        else:
            end = segment.size
        segment.busy = True
        return Load(self, segment, tuple(parcels), end, reason)


def begin(parent: Path) -> Shelf:
    """Make a folder of our own in `parent`, locked before anybody else can see it."""
    name = f"{os.getpid()}-{os.urandom(6).hex()}"
    hidden, folder = parent / f".{name}", parent / name
    hidden.mkdir(mode=0o700)
    lease = os.open(hidden / _LEASE, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    try:
        _lock(lease)
        hidden.rename(folder)
    except OSError:
        os.close(lease)
        raise
    _ours.add(str(folder))
    return Shelf(folder, lease)


def claim(folder: Path) -> Shelf | None:
    """Take over the folder of a process that has ended; None while it belongs to somebody."""
    if str(folder) in _ours or folder.name.startswith("."):
        return None
    try:
        lease = os.open(folder / _LEASE, os.O_RDWR | _NOFOLLOW)
    except FileNotFoundError:
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
    _ours.add(str(folder))
    shelf = Shelf(folder, lease)
    for path in sorted(folder.glob(f"*{_SEGMENT}")):
        found = _found(path)
        if found is not None:
            shelf.segments.append(found)
    return shelf


def segments(parent: Path) -> list[tuple[str, int, Path, bool]]:
    """Return all segments below `parent`, oldest first: name, bytes, path, and whether it is its folder's newest."""
    found: list[tuple[str, int, Path, bool]] = []
    for folder in parent.glob("*/*"):
        paths = sorted(folder.glob(f"*{_SEGMENT}"))
        for path in paths:
            with suppress(OSError):
                found.append((path.name, path.lstat().st_size, path, path is paths[-1]))
    return sorted(found)


def sweep(folder: Path, oldest_ns: int) -> int:
    """Delete the segments of a shelf that were begun before `oldest_ns`; return how many bytes they had."""
    freed = 0
    for path in folder.glob(f"*{_SEGMENT}"):
        if path.name[:20].isdigit() and int(path.name[:20]) < oldest_ns:
            with suppress(OSError):
                freed += path.lstat().st_size
                path.unlink()
                path.with_suffix(_ACKNOWLEDGED).unlink(missing_ok=True)
    return freed


def _found(path: Path) -> Segment | None:
    """Return a segment as an earlier process left it; None if it is no file of ours."""
    try:
        size = path.lstat().st_size
        position = min(_acknowledged(path), size)
        return Segment(path, size, _segment.count(_content(path, position, size)), position)
    except OSError:
        return None


def _content(path: Path, start: int, end: int) -> bytes:
    file = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return b""
        return os.pread(file, min(end - start, _MOST_READ), start)
    finally:
        os.close(file)


def _acknowledge(path: Path, position: int) -> None:
    packed = _ACK.pack(position)
    file = os.open(path.with_suffix(_ACKNOWLEDGED), os.O_WRONLY | os.O_CREAT | _NOFOLLOW, 0o600)
    try:
        os.pwrite(file, packed + _CHECK.pack(crc32(packed)), 0)
    finally:
        os.close(file)


def _acknowledged(path: Path) -> int:
    """Return how far a segment was delivered; 0 where that cannot be read, for twice is better than never."""
    try:
        held = _content(path.with_suffix(_ACKNOWLEDGED), 0, _ACK.size + _CHECK.size)
    except OSError:
        return 0
    whole = len(held) == _ACK.size + _CHECK.size and _CHECK.unpack(held[_ACK.size :])[0] == crc32(held[: _ACK.size])
    return int(_ACK.unpack(held[: _ACK.size])[0]) if whole else 0


def _lock(lease: int) -> None:
    # A lock of POSIX: a forked child does not inherit it, and it ends with the process.
    fcntl.lockf(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)


_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
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
