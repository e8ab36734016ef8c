"""Which call or run is current, and what an exception that ended it means."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, cast

from otel_ml import _catalog as names
from otel_ml._otel_private import get_context
from otel_ml._span import Counted
from otel_ml._values import isinstance_by_type, qualified

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from opentelemetry.util.types import AttributeValue

# The key under which the current Call or Run is kept, beside the current span.
CALL_KEY = "otel_ml-call"
# A call without a span has no need of a new context: a variable of its own costs a third.
FRAME: ContextVar[Counted | None] = ContextVar("otel_ml_frame", default=None)


def former(frame: Counted) -> Counted | None:
    """Return what was current before the frame; its token can be spent only in the context that made it."""
    before = frame.outer.old_value  # type: ignore[attr-defined]  # the token that FRAME.set returned
    return None if before is Token.MISSING else cast("Counted | None", before)


def current_frame() -> object:
    """Return the innermost frame or run around the caller, or None."""
    counted, other = FRAME.get(), get_context().get(CALL_KEY)
    if counted is None or other is None:
        return counted if other is None else other
    return counted if counted.began > other.began else other  # type: ignore[attr-defined]  # a frame or a run


def is_cancellation(error: BaseException) -> bool:
    """Say whether an exception means that the call was not wanted any more, rather than that it failed."""
    # By type: an exception may have a `__class__` or a `code` of its own making.
    kind = type(error)
    if isinstance_by_type(kind, GeneratorExit):
        return True
    if isinstance_by_type(kind, SystemExit):
        code = _exit_code(error)
        return code is None or ((type(code) is int or type(code) is bool) and not code)
    asyncio = sys.modules.get("asyncio.exceptions")
    if asyncio is not None and isinstance_by_type(kind, asyncio.CancelledError):
        return True
    return qualified(kind) == "trio.Cancelled"


# The base's own descriptors.
_exit_code = cast("Callable[[BaseException], object]", vars(SystemExit)["code"].__get__)
_traceback = cast("Callable[[BaseException], TracebackType | None]", vars(BaseException)["__traceback__"].__get__)


def place(error: BaseException) -> dict[str, AttributeValue]:
    """Return where an exception was raised: function, file and line, never its text.

    What passes through our wrappers was raised before or behind them: thrown into a generator, it was raised where that
    waited; by a call with wrong arguments, where the call was made.
    """
    trace = _traceback(error)
    found: tuple[FrameType, int] | None = None
    outermost = None if trace is None else trace.tb_frame
    while trace is not None:
        if not _is_ours(trace.tb_frame):
            found = trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
    while found is None and outermost is not None:
        outermost = outermost.f_back
        if outermost is not None and not _is_ours(outermost):
            found = outermost, outermost.f_lineno
    if found is None:
        return {}
    code = found[0].f_code
    return {names.CODE_FUNCTION: code.co_qualname, names.CODE_FILE: code.co_filename, names.CODE_LINE: found[1]}


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


_OURS = _is_ours.__code__.co_filename.removesuffix("_frames.py")
