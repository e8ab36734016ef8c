"""The stream that lines are written to: whole lines anywhere, colours and one live line on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

# Puts a text in a style: `Paint` for terminals, `plain` for everything else.
Paint = Callable[[str, str], str]

_STYLES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_CLEAR = "\r\x1b[K"


def plain(text: str, style: str) -> str:  # the same shape as `coloured`
    """Return the text as it is."""
    return text


def coloured(text: str, style: str) -> str:
    """Return the text in a colour, for a terminal."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text else text


class Screen:
    """Where lines go; shared by the exporters of spans and events, which one thread calls in turn."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._live = False

    @property
    def paint(self) -> Paint:
        """How to style text for the stream as it is now."""
        return coloured if self._is_terminal() and not os.environ.get("NO_COLOR") else plain

    def write(self, lines: Sequence[str], live: str = "") -> bool:
        """Write whole lines, then on a terminal a live one that the next write replaces; False if the stream is gone."""
        terminal = self._is_terminal()
        if not terminal:
            live = ""
        if not lines and not live:
            return True
        text = _CLEAR if self._live else ""
        text += "".join(f"{line}\n" for line in lines)
        text += live[: shutil.get_terminal_size().columns - 1]
        self._live = bool(live)
        return self._put(text)

    def end(self) -> None:
        """Take the live line away: the shell's prompt, or the program's own last word, comes next."""
        if self._live:
            self._live = False
            self._put(_CLEAR)

    def _put(self, text: str) -> bool:
        stream = self._current()
        try:
            if stream is None:
                return False
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode("ascii", "backslashreplace").decode())
            flush = getattr(stream, "flush", None)
            if flush is not None:
                flush()
        except Exception:
            # A closed stream is a ValueError, a reader that has gone an OSError, and somebody's own stream may raise
            # whatever it likes.
            return False
        return True

    def _current(self) -> TextIO | None:
        # `sys.stderr` is None in a program without a console.
        return self._stream if self._stream is not None else sys.stderr

    def _is_terminal(self) -> bool:
        try:
            stream = self._current()
            return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        except Exception:
            return False
