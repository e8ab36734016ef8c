"""What a command shows while it works: one line drawn over and over on a terminal, one quiet line anywhere else."""

from __future__ import annotations

import shutil
import sys
from time import monotonic
from types import TracebackType
from typing import TextIO

WIDTH = 24
REDRAW = 0.05


class Progress:
    """A `with` block around work of `total` parts; `to` says how many are done, and what is worth knowing so far."""

    def __init__(self, title: str, total: int, *, live: bool | None = None, out: TextIO | None = None) -> None:
        self._title, self._total, self._note = title, total, ""
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty() if live is None else live
        self._marks = "█░" if encodable("█░", self._out) else "#."
        self._drawn = -REDRAW

    def to(self, done: int, note: str) -> None:
        """Say that `done` parts are done."""
        self._note = note
        if self._live and (done >= self._total or monotonic() - self._drawn >= REDRAW):
            self._drawn = monotonic()
            self._draw(done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._out.write("\n")
        elif error is None:
            self._out.write(f"{self._title}  {self._note}\n")
        self._out.flush()

    def _draw(self, done: int) -> None:
        full = WIDTH * done // max(1, self._total)
        bar = self._marks[0] * full + self._marks[1] * (WIDTH - full)
        line = f"{self._title}  {bar}  {self._note}"[: shutil.get_terminal_size().columns - 1]
        # Erases what a longer line before has left at the end.
        self._out.write(f"\r{line}\033[K")
        self._out.flush()


def encodable(text: str, out: TextIO) -> bool:
    """Say whether `out` can show these characters."""
    try:
        text.encode(out.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
