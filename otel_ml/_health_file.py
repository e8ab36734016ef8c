"""What `health()` says, in a small file for other processes: written now and then, read by `otel-ml doctor`.

One file a process, `health-<pid>.json`, with an entry for each of its configurations. Nothing in it is secret, and whatever
lies there instead of such a file is passed over.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from time import time
from typing import cast

from otel_ml._health import Account, ExporterHealth, Health
from otel_ml._process import birth, host, runs

FOLDER = "health"
FORMAT = 1
# A file that is larger is none of ours.
MAX_BYTES = 256 * 1024
# Entries of a process, and files of processes that have ended, at most.
MAX_ENTRIES, MAX_FILES = 16, 256
DAY = 86_400.0
# Seconds to wait for another configuration of this process, which writes to the same file.
_PATIENCE = 1.0
_NAME = re.compile(r"health-([1-9][0-9]{0,9})\.json")
_LEFT_OVER = re.compile(r"\.health-[0-9]+-[0-9a-f]+\.tmp")
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Report:
    """What one configuration of one process wrote. Times are seconds since 1970.

    `alive` says whether the process still runs, `ended` whether this configuration of it was shut down.
    """

    service: str
    pid: int
    alive: bool
    started: float
    written: float
    ended: bool
    health: Health


def beside(store: Path) -> Path:
    """Return the folder that belongs to a store.

    >>> from pathlib import Path
    >>> beside(Path(".otel_ml/telemetry.db")).as_posix(), beside(Path("runs.db")).as_posix()
    ('.otel_ml/health', 'runs.db-health')
    """
    # In a folder of the user's, a name that cannot be one of theirs.
    return store.with_name(FOLDER if store.parent.name == ".otel_ml" else f"{store.name}-{FOLDER}")


def write(folder: Path, health: Health, *, service: str, pid: int, started: float, ended: bool = False) -> None:
    """Write what became of telemetry, and remove what processes left that ended more than a day ago.

    `started` tells the configurations of one process apart. Where it cannot be written there is no file.
    """
    turn = _turn
    if not turn.acquire(timeout=_PATIENCE):
        # Another configuration's disk hangs.
        return
    try:
        _make(folder)
        path = folder / f"health-{pid}.json"
        others = [one for one in _others(path, pid) if one["started"] != started and not _is_over(one)]
        entry = {"service": service, "started": started, "written": time(), "ended": ended, "health": asdict(health)}
        whole = {"format": FORMAT, "pid": pid, "host": host(), "birth": birth(pid)}
        text = json.dumps({**whole, "entries": [*others[1 - MAX_ENTRIES :], entry]}, separators=(",", ":"))
        if len(text) <= MAX_BYTES:
            _replace(path, text.encode())
        _remove_old(folder)
    except OSError:
        # No folder, no right, no room: telemetry itself is not affected.
        return
    finally:
        turn.release()


def read(folder: Path) -> list[Report]:
    """Return what processes wrote in a folder, the newest first."""
    reports: list[Report] = []
    with suppress(OSError):
        _check(folder)
        for path in folder.iterdir():
            found = _content(path)
            if found is not None:
                alive = found.alive
                reports += [_report(one, found.pid, alive=alive) for one in found.entries]
    return sorted(reports, key=lambda one: one.written, reverse=True)


# ------------------------------------------------------------------------------------------------ the folder
def _make(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
        # In a folder of a user's, it would be one more thing that git asks about.
        ignored = folder / ".gitignore"
        ignored.touch(0o600)
        ignored.write_text("*\n", encoding="utf-8")
    _check(folder)
    if folder.lstat().st_mode & 0o077:
        folder.chmod(0o700)


def _check(folder: Path) -> None:
    """Raise OSError unless a folder is one, ours, and where it seems to be."""
    found = folder.lstat()
    # Of a user's own folders any may be a link; ours are none.
    linked = folder.name == FOLDER and folder.parent.is_symlink()
    if linked or not stat.S_ISDIR(found.st_mode) or not _is_ours(found):
        raise NotADirectoryError(str(folder))


def _is_ours(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _replace(path: Path, data: bytes) -> None:
    pid = path.stem.partition("-")[2]
    waiting = path.with_name(f".health-{pid}-{os.urandom(6).hex()}.tmp")
    file = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        try:
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)
        waiting.replace(path)
    except OSError:
        waiting.unlink(missing_ok=True)
        raise


def _remove_old(folder: Path) -> None:
    """Remove files of processes that have ended: those of a day ago, and the oldest of too many."""
    found: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) or _LEFT_OVER.fullmatch(path.name):
            with suppress(OSError):
                found.append((path.lstat().st_mtime, path))
    found.sort(reverse=True)
    for place, (changed, path) in enumerate(found):
        if place < MAX_FILES and changed > time() - DAY:
            continue
        content = _content(path)
        if content is None or not content.alive:
            with suppress(OSError):
                path.unlink()


# ------------------------------------------------------------------------------------------------ a file
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class _Content:
    """A file that can be read, all of its entries too."""

    pid: int
    host: object
    birth: object
    entries: list[dict[str, object]]

    @property
    def alive(self) -> bool:
        """Whether the process that wrote it still runs."""
        written = max((_time(one["written"]) for one in self.entries), default=0.0)
        return runs(self.pid, self.host, self.birth, written)


def _content(path: Path) -> _Content | None:
    """Return what is in a file, or None for whatever is no file of ours."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        return None
    try:
        whole = json.loads(_bytes(path))
        pid, entries = int(named[1]), whole["entries"]
        if whole["format"] != FORMAT or whole["pid"] != pid:
            return None
        for one in entries:
            _report(one, pid, alive=False)
        return _Content(pid, whole["host"], whole["birth"], list(entries))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _bytes(path: Path) -> bytes:
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES or not _is_ours(found):
            raise ValueError(path)
        return os.read(file, MAX_BYTES)
    finally:
        os.close(file)


def _others(path: Path, pid: int) -> list[dict[str, object]]:
    """Return the entries of a file that this process wrote."""
    found = _content(path)
    mine = found is not None and found.host == host() and found.birth == birth(pid)
    return found.entries if found is not None and mine else []


def _is_over(entry: dict[str, object]) -> bool:
    """Say whether a configuration has ended and lost nothing, so that nobody needs to hear of it."""
    report = _report(entry, 0, alive=False)
    return report.ended and not report.health.dropped


def _report(entry: Mapping[str, object], pid: int, *, alive: bool) -> Report:
    """Read an entry; raises ValueError, TypeError, KeyError or AttributeError if it is none."""
    health = cast("Mapping[str, object]", entry["health"])
    return Report(
        service=_text(entry["service"]),
        pid=pid,
        alive=alive,
        started=_time(entry["started"]),
        written=_time(entry["written"]),
        ended=entry["ended"] is True,
        health=Health(
            tuple(_exporter(one) for one in cast("list[Mapping[str, object]]", health["exporters"])),
            _count(health["refused"]),
            _count(health["unread"]),
            _counts(health["failures"]),
        ),
    )


def _exporter(found: Mapping[str, object]) -> ExporterHealth:
    signals = cast("Mapping[str, Mapping[str, object]]", found["signals"])
    accounts = {
        _text(signal): Account(
            _count(one["delivered"]), _count(one["queued"]), _counts(one["dropped"]), _count(one["spooled"])
        )
        for signal, one in signals.items()
    }
    return ExporterHealth(_text(found["name"]), _text(found["where"]), accounts)


def _counts(found: object) -> dict[str, int]:
    return {_text(name): _count(count) for name, count in cast("Mapping[str, object]", found).items()}


def _count(found: object) -> int:
    if type(found) is not int or not 0 <= found < 2**63:
        raise ValueError(found)
    return found


def _time(found: object) -> float:
    if type(found) not in (int, float) or not isfinite(cast("float", found)):
        raise ValueError(found)
    return float(cast("float", found))


def _text(found: object) -> str:
    """Return a text as it may be shown: what would move a terminal's cursor is left out."""
    if not isinstance(found, str):
        raise TypeError
    return "".join(one if one.isprintable() else "?" for one in found[:_LONGEST_TEXT])


# Held while this process writes: by one configuration of it at a time.
_turn = threading.Lock()


def _in_child() -> None:
    global _turn
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
