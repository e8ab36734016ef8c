"""Has what `health()` says written to a file: once a minute by whichever sender comes first, and at the end."""

from __future__ import annotations

import os
import threading
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING

from otel_ml import _health_file
from otel_ml._request import Answer
from otel_ml._shield import shielded

if TYPE_CHECKING:
    from pathlib import Path

    from otel_ml._delivery import Parts
    from otel_ml._health import Health

EVERY_SECONDS = 60.0
# Seconds that an end whose time is up waits for a file that takes a millisecond, unless its disk hangs.
_GRACE = 0.1


def health_folder(exporters: Sequence[Parts]) -> Path | None:
    """Return where health is written: beside the local store, else in the spool; None where there is neither."""
    spools = (one.spool.root() for one in exporters if one.spool is not None)
    folders = (
        *(one.health for one in exporters if one.health is not None),
        *(root / _health_file.FOLDER for root in spools if root is not None),
    )
    return next(iter(folders), None)


class HealthWriter:
    """Writes the health of one state into `folder`; nowhere if that is None, and nothing before the first record."""

    def __init__(self, health: Callable[[], Health], folder: Path | None, service: str) -> None:
        self._health, self._folder, self._service = health, folder, service
        self._started, self._due = time(), 0.0
        self._writing = threading.Lock()
        self._ended = False

    def each_minute(self) -> None:
        """Write, unless somebody has within this minute. Senders call it after every round."""
        if self._folder is None or monotonic() < self._due or not self._writing.acquire(blocking=False):
            return
        try:
            if not self._ended:
                self._write()
        finally:
            self._writing.release()

    def last(self, deadline: float) -> None:
        """Write for the last time; return by `deadline`, or a tenth of a second after what is past already."""
        if self._folder is None:
            return
        self._ended = True
        done = Answer()

        def write() -> None:
            self._write()
            done.give(True)

        try:
            start_new_thread(write, ())
        except RuntimeError:
            # CPython 3.12.0-3.12.2 starts no thread at exit.
            write()
        done.wait(max(deadline, monotonic() + _GRACE))

    def _write(self) -> None:
        with shielded("write health"):
            health = self._health()
            if self._folder is None or not any(one.created for to in health.exporters for one in to.signals.values()):
                return
            self._due = monotonic() + EVERY_SECONDS
            if os.path.islink(self._folder.parent):  # noqa: PTH114  # which never raises
                # As with the spool itself: no link is followed.
                return
            _health_file.write(
                self._folder,
                health,
                service=self._service,
                pid=os.getpid(),
                started=self._started,
                ended=self._ended,
            )
