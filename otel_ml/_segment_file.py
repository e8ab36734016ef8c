"""One file of the spool: what was written into it, and beside it how far it has been delivered."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from struct import Struct
from zlib import crc32

from otel_ml import _segment

SEGMENT, ACKNOWLEDGED = ".seg", ".ack"
# Nobody's link is followed, and no child inherits a file.
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# No pipe is waited for.
NONBLOCK = getattr(os, "O_NONBLOCK", 0)

_NAME = re.compile(r"[0-9]{20}\.seg")
# As much of a file is read at once; no segment of ours is larger.
_MOST_READ = 2 * _segment.MAX_FRAME
_NUMBER = Struct("<Q")
_CHECK = Struct("<I")
# Bytes of the file beside a segment, and of the one that says how full the spool is.
NUMBER_BYTES = _NUMBER.size + _CHECK.size


class Segment:
    """One file: what was written into it, and how far it has been delivered. Counts are records of the account."""

    __slots__ = ("busy", "count", "key", "path", "position", "settled", "size")

    def __init__(self, path: Path, size: int = 0, count: int = 0, position: int = 0) -> None:
        self.path, self.size, self.count, self.position = path, size, count, position
        self.settled, self.key = 0, _segment.key_of(path.name)
        # Something read from it is on its way.
        self.busy = False

    @property
    def left(self) -> int:
        """Records that are neither delivered nor dropped."""
        return self.count - self.settled


def paths(folder: Path) -> list[Path]:
    """Return the segments in a folder, oldest first; what is called otherwise is none of ours."""
    return sorted(path for path in folder.glob(f"*{SEGMENT}") if _NAME.fullmatch(path.name))


def found(path: Path) -> Segment | None:
    """Return a segment as an earlier process left it; None if it is no file of ours."""
    try:
        held = path.lstat()
        if not stat.S_ISREG(held.st_mode):
            return None
        size = held.st_size
        position = min(acknowledged(path), size)
        return Segment(path, size, _segment.count(content(path, position, size), _segment.key_of(path.name)), position)
    except OSError:
        return None


def content(path: Path, start: int, end: int) -> bytes:
    """Return a part of a file; nothing of what is no file."""
    file = os.open(path, os.O_RDONLY | NOFOLLOW | NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return b""
        return os.pread(file, min(end - start, _MOST_READ), start)
    finally:
        os.close(file)


def acknowledge(path: Path, position: int) -> None:
    """Write down how far a segment was delivered; where that fails, it may be delivered twice."""
    file = os.open(path.with_suffix(ACKNOWLEDGED), os.O_WRONLY | os.O_CREAT | NOFOLLOW | NONBLOCK, 0o600)
    try:
        os.pwrite(file, pack(position), 0)
    finally:
        os.close(file)


def acknowledged(path: Path) -> int:
    """Return how far a segment was delivered; 0 where that cannot be read, for twice is better than never."""
    try:
        return unpack(content(path.with_suffix(ACKNOWLEDGED), 0, NUMBER_BYTES)) or 0
    except OSError:
        return 0


def pack(number: int) -> bytes:
    """Return a number as a file holds it, with a checksum."""
    packed = _NUMBER.pack(number)
    return packed + _CHECK.pack(crc32(packed))


def unpack(held: bytes) -> int | None:
    """Return the number; None if it was not written to its end, or is damaged."""
    whole = len(held) == NUMBER_BYTES and _CHECK.unpack(held[_NUMBER.size :])[0] == crc32(held[: _NUMBER.size])
    return int(_NUMBER.unpack(held[: _NUMBER.size])[0]) if whole else None
