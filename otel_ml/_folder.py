"""The worker of a joined host: replays what was measured into its instruments, at least once a second."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from opentelemetry import context as context_api
from opentelemetry.context import Context

from otel_ml._otel_private import SUPPRESS_KEY
from otel_ml._request import Request
from otel_ml._shield import failed, tell

if TYPE_CHECKING:
    from otel_ml._ledger import Ledger

EVERY_SECONDS = 0.5


class Folder:
    """Folds a ledger in a thread of its own, so that no caller ever meets a lock of the host's instruments."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._wake: SimpleQueue[Request | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        ledger.hurry = self.hurry
        self._hurried = False

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is not None or not self._starting.acquire(blocking=False):
            return
        try:
            thread = threading.Thread(target=self._run, name="otel_ml-replay", daemon=True)
            thread.start()
            self._thread = thread
        except RuntimeError:
            # CPython 3.12.0-3.12.2 cannot start a thread at exit; the host's last collection folds as well.
            tell("no_thread", "otel_ml could not start a thread. Call otel_ml.configure() before exit.")
        finally:
            self._starting.release()

    def hurry(self) -> None:
        """Have it fold now: much has been measured. Called by callers, so it takes no lock."""
        if not self._hurried:
            self._hurried = True
            self._wake.put(None)

    def fold(self, deadline: float, *, last: bool = False) -> Request:
        """Have everything folded; wait on the request that is returned. With `last`, the thread ends after it.

        Not done here: a finalizer or signal handler may have interrupted somebody who holds a lock of the host's.
        """
        request = Request(deadline, last=last)
        if self._thread is None:
            request.answer(True)
        else:
            self._wake.put(request)
        return request

    def _run(self) -> None:
        context_api.attach(Context({SUPPRESS_KEY: True}))
        request: Request | None = None
        while request is None or not request.last:
            try:
                request = self._wake.get(timeout=EVERY_SECONDS)
            except Empty:
                request = None
            self._hurried = False
            try:
                self._ledger.fold_all()
            except (
                BaseException
            ):  # also SystemExit out of a host's view or filter, which would end this thread for ever
                failed("replay values")
            if request is not None:
                request.answer(True)
