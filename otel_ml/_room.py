"""How full a spool is: a number in a file that its processes share, so that together they keep within its bytes.

Whoever writes locks the file and adds to the number first, so that it is never too small, whenever a process is killed.
Nobody subtracts from it: who finds the spool full measures it, and writes down what there is.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from otel_ml._segment_file import NOFOLLOW, NONBLOCK, pack, unpack

# Windows has none, and no spool.
if sys.platform != "win32":
    import fcntl

NAME = ".room"
# Seconds that a process waits for one that is writing, which takes far less; it may have been stopped in the middle of it.
_PATIENCE = 0.05
_open: set[int] = set()


class Room:
    """What is `taken` of the spool; None where that is not known, and has to be measured."""

    __slots__ = ("_file", "taken")

    def __init__(self, file: int) -> None:
        self._file = file
        self.taken: int | None = None
        with suppress(OSError):
            self.taken = unpack(os.pread(file, 64, 0))

    def note(self, taken: int) -> None:
        """Write down how much is taken from now on."""
        self.taken = taken
        try:
            os.pwrite(self._file, pack(taken), 0)
        except OSError:
            # Not known is right, too little is not.
            with suppress(OSError):
                os.ftruncate(self._file, 0)

    def add(self, more: int) -> None:
        """Write down that so much more is taken, before it is; where nobody knows how much, nobody needs to."""
        if self.taken is not None:
            self.note(self.taken + more)


@contextmanager
def room(folder: Path) -> Generator[Room]:
    """Nobody else writes into a spool while the block runs; but who was stopped meanwhile is not waited for for ever."""
    file = _locked(folder / NAME)
    try:
        yield Room(file)
    finally:
        if file >= 0:
            _open.discard(file)
            # A child that was forked meanwhile has the lock too, until one of both lets go of it.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _locked(path: Path) -> int:
    """Return the file, locked; -1 if it cannot be."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | NOFOLLOW | NONBLOCK, 0o600)
    except OSError:
        return -1
    until = monotonic() + _PATIENCE
    while stat.S_ISREG(os.fstat(file).st_mode):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if monotonic() >= until:
                break
            sleep(0.001)
        else:
            _open.add(file)
            return file
    os.close(file)
    return -1


def _in_child() -> None:
    for file in list(_open):
        with suppress(OSError):
            os.close(file)
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
