"""Where records wait on disk while the place they go to does not answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from otel_ml.errors import ConfigurationError

VARIABLE = "OTEL_ML_SPOOL"
# What `OTEL_ML_SPOOL` says for none.
NONE = "none"
MEGABYTES_64 = 64 * 1024 * 1024
LEAST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Spool:
    """Keep on disk what cannot be delivered at once, and send it later, in order: also from a later process.

    `directory` is a folder of yours, made if it is missing; without it `OTEL_ML_SPOOL`, else `otel_ml/spool` in the
    state folder of your home (`XDG_STATE_HOME`, else `~/.local/state`). At most `max_bytes` are kept in a directory, by
    all processes together; what is oldest is dropped first, and counted. Files are private to their owner.

    Records outlive their process, however it ends, but are not forced to the disk: they do not outlive a power failure.
    A later process sends what it finds if its exporter has the same endpoint and the same headers.

    >>> Spool("/var/spool/churn", max_bytes=256 * 1024 * 1024)
    Spool(directory='/var/spool/churn', max_bytes=268435456)
    """

    directory: str | Path | None = None
    max_bytes: int = MEGABYTES_64

    def __post_init__(self) -> None:
        if self.directory is not None and _absolute(str(self.directory)) is None:
            raise ConfigurationError('directory is no folder. Write exporters.Spool("/var/spool/churn").')
        if type(self.max_bytes) is not int or self.max_bytes < LEAST_BYTES:
            raise ConfigurationError(
                f"max_bytes={self.max_bytes!r} is too little for a spool. Write a number of bytes from {LEAST_BYTES:,} up, "
                "or spool=None for none."
            )

    def root(self) -> Path | None:
        """Return the folder, or None where there is to be no spool."""
        return _absolute(str(self.directory)) if self.directory is not None else spool_root()


def spool_root() -> Path | None:
    """Return where the spool is when no directory is given; None where it would not serve."""
    if find_spec("fcntl") is None:
        # Windows: whose a folder is cannot be told there.
        return None
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return None if named.lower() == NONE else _absolute(named)
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        # A sandbox may be thrown away at any time, and each has a disk of its own.
        return None
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return _absolute(f"{state}/otel_ml/spool") if state[0] in "~/" else None


def _absolute(name: str) -> Path | None:
    """Return a folder's path from the root on; None for what names no folder, also for want of a home."""
    if not name.strip() or "\0" in name:
        return None
    try:
        return Path(name).expanduser().absolute()
    except (RuntimeError, OSError):
        return None
