"""What waits on disk for one destination: written by one thread, sent by another, bounded, and shared by processes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from otel_ml import _segment, _shelf
from otel_ml._room import room
from otel_ml._segment_file import NUMBER_BYTES
from otel_ml._shelf import FULL, SEGMENT_BYTES, Load, Shelf
from otel_ml._shield import tell
from otel_ml._spool_folder import home, private, version

if TYPE_CHECKING:
    from otel_ml._delivery import Parcel
    from otel_ml._spool import Spool
    from otel_ml._tally import Tally

# What nobody has sent for so long is of no use to anybody: as with the local store.
MAX_AGE = 7 * 24 * 3_600
# Seconds after which a spool that could not be used, and what others left, is looked at again.
_AGAIN = 60.0
# Seconds that somebody else's work on the disk is waited for, and for which a disk that hangs is left alone.
_PATIENCE, _HANGS = 0.2, 1.0
_RECORDS, _BYTES = 512, 1024 * 1024
# Where many processes write, their files are smaller than usual, but no smaller than this.
_LEAST_SEGMENT = 64 * 1024
_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Backlog:
    """Records on disk, oldest first. Any thread but a caller's may use it; nothing raises, everything is counted."""

    def __init__(self, spool: Spool, destination: str, tally: Tally) -> None:
        self._root, self._limit = spool.root(), spool.max_bytes - NUMBER_BYTES
        self._segment_bytes = min(SEGMENT_BYTES, self._limit // 8)
        self._destination, self._tally = destination, tally
        self._lock = threading.Lock()
        self._own: Shelf | None = None
        self._left_by_others: list[Shelf] = []
        self._look_at = self._try_at = self._hangs_until = 0.0
        self._told = False

    def look(self, *, now: bool = False) -> None:
        """Take over what processes have left that ended: once a minute, or `now`, at most once a second."""
        if monotonic() < self._look_at - (_AGAIN - 1.0 if now else 0.0) or not self._locked():
            return
        try:
            self._look_at = monotonic() + _AGAIN
            if self._root is not None:
                self._claim()
        except OSError as error:
            # What is not found, somebody was done with at this moment.
            if not isinstance(error, FileNotFoundError):
                self._complain(error)
        finally:
            self._lock.release()

    def doubt(self) -> None:
        """Write nothing for a while: the disk seems to hang."""
        self._hangs_until = monotonic() + _HANGS

    def put(self, parcel: Parcel) -> bool:
        """Keep a parcel; False if it cannot be kept now, and is still the caller's."""
        if (
            monotonic() < max(self._try_at, self._hangs_until)
            or _segment.size(parcel) + NUMBER_BYTES > self._limit
            or max(map(len, parcel.records), default=0) > _segment.MAX_FRAME
            or not self._locked()
        ):
            return False
        try:
            if self._root is None or not self._kept(parcel):
                return False
            self._told = False
            self._tally.spool(parcel.count)
            return True
        finally:
            self._lock.release()

    def _kept(self, parcel: Parcel) -> bool:
        try:
            self._append(parcel)
        except FileNotFoundError as error:
            self._begin_anew()
            if not self._appended(parcel):
                self._complain(error)
                return False
        except OSError as error:
            # What is oldest makes room for what is new.
            if error.errno not in _NO_ROOM or not self._drop_oldest() or not self._appended(parcel):
                self._complain(error)
                return False
        return True

    def load(self) -> Load | None:
        """Return the oldest records, to be settled before the next are asked for; None if there are none."""
        if not self._locked():
            return None
        try:
            while True:
                load = self._oldest()
                if load is None or load.parcels:
                    return load
                # Nothing in it could be read.
                self._settled(load, {})
        finally:
            self._lock.release()

    def settle(self, load: Load, rejected: Mapping[str, int]) -> None:
        """Take note that a load has been delivered, but for the records rejected."""
        with self._lock:
            self._settled(load, rejected)

    def release(self, load: Load) -> None:
        """Keep a load for a later try."""
        load.segment.busy = False

    def close(self, until: float) -> None:
        """Give the folders back, to whoever sends what is in them."""
        if monotonic() < self._hangs_until or not self._lock.acquire(timeout=max(0.0, until - monotonic())):
            return
        try:
            for shelf in self._shelves():
                shelf.close()
            self._own, self._left_by_others, self._root = None, [], None
        finally:
            self._lock.release()

    def _locked(self) -> bool:
        """Take the lock; False if whoever has it waits for a disk that hangs, which nobody else is to wait for."""
        if not self._lock.acquire(timeout=_PATIENCE if monotonic() >= self._hangs_until else 0.0):
            self.doubt()
            return False
        return True

    # ------------------------------------------------------------------------------ with the lock held
    def _shelves(self) -> list[Shelf]:
        return self._left_by_others + ([self._own] if self._own is not None else [])

    def _oldest(self) -> Load | None:
        for shelf in self._shelves():
            try:
                load = shelf.load(_RECORDS, _BYTES)
            except OSError as error:
                self._complain(error)
                continue
            if load is not None:
                return load
            if shelf is not self._own:
                self._left_by_others.remove(shelf)
                shelf.close()
        return None

    def _settled(self, load: Load, rejected: Mapping[str, int]) -> None:
        try:
            load.shelf.settle(load)
        except OSError as error:
            self._complain(error)
        if load.count:
            self._tally.settle(load.count, rejected, spooled=True, of_others=load.shelf.of_others)
        self._tally.drop(load.reason, load.lost, spooled=load.lost, of_others=load.shelf.of_others)

    def _append(self, parcel: Parcel) -> None:
        assert self._root is not None  # noqa: S101  # whoever writes has a root
        if self._own is None:
            self._own = _shelf.begin(home(self._root, self._destination))
        size = _segment.size(parcel)
        if self._own.full(size, self._segment_bytes):
            self._own.close_segment()
        with room(version(self._root)) as shared:
            # As if it began a segment.
            more = size + NUMBER_BYTES
            if shared.taken is None or shared.taken + more > self._limit:
                shared.note(self._make_room(more))
            shared.add(more)
            self._own.put(parcel)

    def _begin_anew(self) -> None:
        """Somebody has deleted our folder: what was in it is counted when it comes to be read, and a new one is made."""
        if self._own is not None:
            self._own.close_segment()
            self._left_by_others.append(self._own)
            self._own = None

    def _appended(self, parcel: Parcel) -> bool:
        try:
            self._append(parcel)
        except OSError:
            return False
        return True

    def _make_room(self, more: int) -> int:
        """Delete what is oldest, whoever's it is, until `more` bytes fit; return how many are taken then."""
        assert self._root is not None and self._own is not None  # noqa: S101, PT018  # whoever writes has both
        found = _shelf.segments(version(self._root))
        taken = sum(size + NUMBER_BYTES for _, size, _, _ in found)
        if taken + more > self._limit:
            self._own.close_segment()
            writers = sum(newest for *_, newest in found)
            most = max(_LEAST_SEGMENT, self._limit // (2 * max(writers, 1)))
            self._segment_bytes = min(SEGMENT_BYTES, self._limit // 8, most)
            for _, size, path, newest in found:
                # For more than this one parcel, so as not to measure at each.
                if taken + max(more, self._segment_bytes) <= self._limit:
                    break
                if size and (self._drop(path) or self._drop_of_others(path, newest=newest)):
                    taken -= size + NUMBER_BYTES
        if taken + more > self._limit:
            # Files that other processes are writing to take all there is.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken

    def _drop_of_others(self, path: Path, *, newest: bool) -> bool:
        if any(segment.path == path for shelf in self._shelves() for segment in shelf.segments):
            return False
        shelf = _shelf.claim(path.parent)
        if shelf is not None:
            # Of a process that has ended, so that nobody else counts it.
            for segment in [one for one in shelf.segments if one.path == path]:
                shelf.remove(segment)
                self._tally.drop(FULL, segment.left, of_others=True)
            shelf.close()
            return not path.exists()
        if not newest:
            # Its process finds out when it comes to read it, and counts it then.
            with suppress(OSError):
                path.unlink()
                return True
        return False

    def _drop_oldest(self) -> bool:
        # Not the only one there is beside what is being written: new records wait in memory sooner than all others go.
        return any(self._drop(segment.path) for shelf in self._shelves() for segment in list(shelf.segments)[:-2])

    def _drop(self, path: Path) -> bool:
        """Drop one of our segments that is not on its way."""
        for shelf in self._shelves():
            for segment in list(shelf.segments):
                if segment.path == path and not segment.busy:
                    left = segment.left
                    shelf.remove(segment)
                    self._tally.drop(FULL, left, spooled=left, of_others=shelf.of_others)
                    return True
        return False

    def _claim(self) -> None:
        assert self._root is not None  # noqa: S101  # whoever looks has a root
        folder = version(self._root)
        if not folder.exists():
            return
        private(self._root, mine=False)
        private(folder)
        self._delete_old(folder)
        if not (folder / self._destination).exists():
            return
        for one in sorted(home(self._root, self._destination).iterdir()):
            shelf = _shelf.claim(one) if one.is_dir() and not one.is_symlink() else None
            if shelf is None:
                continue
            if shelf.left:
                self._left_by_others.append(shelf)
                self._tally.add(spooled=shelf.left)
            else:
                shelf.close()
        self._left_by_others.sort(key=lambda shelf: shelf.segments[0].path.name if shelf.segments else "")

    def _delete_old(self, folder: Path) -> None:
        """Delete what has waited for more than a week, for whatever destination: credentials change, and nobody comes."""
        oldest = f"{time_ns() - MAX_AGE * 1_000_000_000:020d}"
        for name, _, path, newest in _shelf.segments(folder):
            if name >= oldest:
                return
            tell("spool:age", f"otel_ml deletes telemetry that waited in {folder} for more than a week.")
            if not self._drop(path):
                self._drop_of_others(path, newest=newest)

    def _complain(self, error: OSError) -> None:
        """Say once what is wrong; go on without, and try again in a minute."""
        if error.errno in _NO_ROOM:
            what, cure = "has no room left", "Make room on its disk, or allow more with Spool(max_bytes=...)"
        else:
            what, cure = f"cannot be used ({error.strerror or type(error).__name__})", "Mend it"
            self._try_at = monotonic() + _AGAIN
        if not self._told:
            self._told = True
            tell(
                f"spool:{self._root}",
                f"The spool {self._root} {what}; what cannot be delivered is kept in memory, as far as it fits. "
                f'{cure}, or write exporters.OTLP(..., spool=exporters.Spool("/another/folder")), or spool=None.',
            )
