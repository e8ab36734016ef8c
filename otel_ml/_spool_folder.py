"""The folders of a spool: where they are, and that nobody but their owner can read them."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from otel_ml._shield import tell

# The format of what lies in a spool. A newer one has another folder, which is left alone.
_VERSION = 1


def version(root: Path) -> Path:
    """Return where a spool has what is in our format."""
    return root / f"v{_VERSION}"


def home(root: Path, destination: str) -> Path:
    """Return the folder of a destination, made and checked; raise `OSError` if it cannot be used."""
    private(root, mine=False)
    private(version(root))
    folder = version(root) / destination
    private(folder)
    if any(one.name[1:].isdigit() and int(one.name[1:]) > _VERSION for one in root.glob("v[0-9]*")):
        sentence = "holds telemetry of a newer otel_ml, which is left alone. To send it, run the newer version."
        tell(f"spool:newer:{root}", f"The spool {root} {sentence}")
    return folder


def private(folder: Path, *, mine: bool = True) -> None:
    """Make a folder that only its owner can read, or check that it is one."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=not mine)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is a link, or no folder")
    if mine and found.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, "it belongs to another user")
    if mine and found.st_mode & 0o077:
        folder.chmod(0o700)
