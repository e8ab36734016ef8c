"""Nothing of ours raises into the user's program: failures are logged once a minute and counted."""

import os
import sys
from _thread import RLock
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Context, copy_context
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
_NAME = type.__dict__["__name__"].__get__


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
        kind = sys.exc_info()[0]
        # By the descriptor of `type` itself: a metaclass may have a `__name__` of its own.
        sentence = f"{sentence} ({str(_NAME(kind))[:80] if kind else 'unknown'})"
    # Taken if it is free: a caller never waits for somebody else's log handler.
    writing = _writing.acquire(blocking=False)
    try:
        __getattr__("logger").warning("%s", sentence)
    except Exception:  # a filter or handler of the user's; there is nobody left to tell
        _failures["log"] = _failures.get("log", 0) + 1
    finally:
        if writing:
            _writing.release()


def failures() -> dict[str, int]:
    """How often each of our own tasks failed in this process."""
    return dict(_failures)


def forget() -> None:
    """Begin counting anew, in a forked child."""
    _failures.clear()
    _told.clear()


# Held while a line is written. To write means to let other threads run, and one that forks right then would leave the
# child with a locked `sys.stderr`, at which the first `print` of the child's hangs; so a fork waits for the line.
_writing = RLock()
_LONGEST_LINE = 1.0
_waited: list[bool] = []


def _before_fork() -> None:
    _waited.append(_writing.acquire(timeout=_LONGEST_LINE))


def _in_parent() -> None:
    if _waited.pop():
        _writing.release()


def _in_child() -> None:
    global _writing
    _writing = RLock()
    _waited.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child, after_in_parent=_in_parent)


@contextmanager
def shielded(task: str) -> Generator[None, None, None]:
    """Run a block of ours so that an exception in it stays in it; `KeyboardInterrupt` and kin pass."""
    try:
        yield
    except Exception:
        failed(task)


# CPython 3.11 collects garbage in the middle of `ContextVar.set`. Whatever is collected there and sets a variable too, as
# a generator that is closed does, frees what the outer `set` is still reading: memory is corrupted. So the variables as
# they were live on for a while; 3.12 collects between instructions only.
_HELD: deque[Context] | None = deque(maxlen=1_024) if sys.version_info < (3, 12) else None


def hold_context() -> None:
    """Keep the current context variables alive; called before they are changed because a generator is being closed."""
    if _HELD is not None:
        _HELD.append(copy_context())
