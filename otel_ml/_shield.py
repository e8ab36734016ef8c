"""Nothing of ours raises into the user's program: failures are logged once a minute and counted."""

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

    logger: Logger


def __getattr__(name: str) -> "Logger":
    # Importing `logging` takes a fifth of the time that importing this package may take.
    if name != "logger":
        raise AttributeError(name)
    from logging import getLogger

    return getLogger("otel_ml")


# Tests set this to True, so that "never raise" cannot hide a defect of ours.
transparent = False

_failures: dict[str, int] = {}
_told: dict[str, float] = {}
_QUIET = 60.0


def failed(task: str) -> None:
    """Count the exception being handled against `task`; log it at most once a minute.

    The exception's text may hold the user's data, so only its type is written.
    """
    _failures[task] = _failures.get(task, 0) + 1
    if transparent:
        raise
    tell(f"failed:{task}", f"otel_ml could not {task}; your program goes on.", with_type=True)


def tell(reason: str, sentence: str, *, with_type: bool = False) -> None:
    """Log one line for `reason`, and then none for a minute: an outage must not fill a disk."""
    now = monotonic()
    if now - _told.get(reason, -_QUIET) < _QUIET:
        return
    _told[reason] = now
    if with_type:
        import sys

        kind = sys.exc_info()[0]
        __getattr__("logger").warning("%s (%s)", sentence, kind.__name__ if kind else "unknown")
    else:
        __getattr__("logger").warning("%s", sentence)


def failures() -> dict[str, int]:
    """How often each of our own tasks failed in this process."""
    return dict(_failures)


def forget() -> None:
    """Begin counting anew, in a forked child."""
    _failures.clear()
    _told.clear()


@contextmanager
def shielded(task: str) -> Generator[None, None, None]:
    """Run a block of ours so that an exception in it stays in it; `KeyboardInterrupt` and kin pass."""
    try:
        yield
    except Exception:
        failed(task)
