"""Whether a process still runs that another one has heard of: its number alone does not tell."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from time import time

# Where a process cannot be asked for, it is taken to be alive for so many seconds after it was last heard of.
FRESH = 150.0


def host() -> str:
    """Return the name of this machine; a container has its own."""
    return socket.gethostname()


def birth(pid: int) -> str | None:
    """Return when a process began, in ticks since the machine did; None where that cannot be had, and for the dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None


def runs(pid: int, at: object, born: object, heard: float) -> bool:
    """Say whether the process `pid` of the machine `at`, begun at `born` and last heard of at `heard`, still runs."""
    if at != host() or os.name == "nt":
        # On another machine, or in another container, its number says nothing here. (And on Windows `os.kill` kills.)
        return time() - heard < FRESH
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    # Another process may have got the number since.
    return birth(pid) == born
