"""On SIGTERM, if asked to: send what is recorded, and then do what would have been done without us."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from otel_ml.errors import ConfigurationError

_Handler = Callable[[int, FrameType | None], object] | int | None


class FlushOnSigterm:
    """A handler that calls `flush`, which has to return on time, and hands on to the handler before it."""

    def __init__(self, flush: Callable[[], object], former: _Handler) -> None:
        self._flush, self._former = flush, former

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._flush()
        former = self._former
        if callable(former):
            former(number, frame)
        elif former == signal.SIG_DFL:
            # The program ends by the signal, as whoever sent it will see; but not another handler's program.
            if signal.getsignal(number) is self:
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def flush_on_sigterm(flush: Callable[[], object]) -> None:
    """Install the handler, once; raise `ConfigurationError` where Python does not allow it."""
    former = signal.getsignal(signal.SIGTERM)
    if isinstance(former, FlushOnSigterm):
        return
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "flush_on_sigterm=True was given in a thread, and Python handles signals in the main thread alone. "
            "Call otel_ml.configure() there, or leave flush_on_sigterm out."
        )
    signal.signal(signal.SIGTERM, FlushOnSigterm(flush, former))
