"""The worker of checks: takes what calls, runs and labels leave for it, and lets checks say what they make of it.

Callers append to a queue, without a lock; what comes faster than it can be looked at is left out, and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from opentelemetry import context as context_api
from opentelemetry.context import Context

from otel_ml import _catalog as names
from otel_ml._otel_private import SUPPRESS_KEY
from otel_ml._request import Request
from otel_ml._shield import failed, tell

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otel_ml._events import Event
    from otel_ml._site import Site
    from otel_ml._span import Frame

# Seconds after which what was left is looked at.
EVERY_SECONDS = 0.25
# What may wait: so many things, of so many bytes together.
MAX_WAITING = 16_384
MAX_BYTES = 32 * 1024 * 1024
# So much is looked at between two looks at the clock.
_AT_ONCE = 256
WATCHED = frozenset(
    {
        names.STEP_COMPLETED, names.EPOCH_COMPLETED, names.TRAINING_STARTED, names.TRAINING_COMPLETED,
        names.GROUND_TRUTH,
    }
)  # fmt: skip


class Seen(NamedTuple):
    """Something that a call left: what went in or came out, or that its label is awaited; of which model, and when.

    `at` is seconds since 1970, or the text of the time that the user gave.
    """

    kind: str
    model: str
    version: str | None
    what: object
    rows: int
    at: float | str
    context: SpanContext | None


class Snapshot(Protocol):
    """A copy of a batch, made in the caller."""

    rows: int
    nbytes: int


class Driver(Protocol):
    """The checks of one state at work; only the worker calls `take` and `passed`."""

    def looks_at(self, model: str, what: str) -> bool:
        """Say whether any check wants the `inputs`, `outputs` or `labels` of this model's calls."""
        ...

    def snapshot(self, batch: object) -> Snapshot | None:
        """Copy a batch, in its caller; None for what is none."""
        ...

    def take(self, seen: list[Seen | Event]) -> None:
        """Look at what has happened since, in order."""
        ...

    def passed(self, now: float, *, last: bool) -> None:
        """Take note of the time, in seconds since 1970; with `last`, everything is over."""
        ...


class Look:
    """What one site does for checks in its callers: copy the batch, and leave it for the worker."""

    __slots__ = ("_site", "_wants", "_watching")

    def __init__(self, watching: Watching, site: Site, wants: frozenset[str]) -> None:
        self._watching, self._site, self._wants = watching, site, wants

    def inputs(self, frame: Frame, batch: object) -> None:
        """Leave a copy of what goes in."""
        if "inputs" in self._wants:
            self._leave("inputs", frame, batch)

    def outputs(self, frame: Frame, result: object) -> None:
        """Leave a copy of what came out."""
        if "outputs" in self._wants:
            self._leave("outputs", frame, result)

    def _leave(self, kind: str, frame: Frame, batch: object) -> None:
        try:
            if batch is None:
                return
            watching, site = self._watching, self._site
            copy = watching.driver.snapshot(batch)
            if copy is None:
                return
            call = frame.call
            at = call.at if call is not None and call.at is not None else time()
            context = getattr(frame, "_context", None)
            watching.leave(Seen(kind, site.model, site.version, copy, copy.rows, at, context), copy.nbytes)
        except Exception:
            failed("copy a batch for checks")


class Watching:
    """The checks of one state, and the thread in which they work; started when there is something to look at."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        # Rows that checks have not seen, because too much waited.
        self.left_out = 0
        self._waiting: deque[tuple[Seen | Event, int]] = deque()
        self._bytes = 0
        self._wake: SimpleQueue[Request | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # Called by the worker with the rows that were left out since the last time.
        self.tell_left_out: Callable[[int], None] = _nobody
        self._told = 0

    def look(self, site: Site) -> Look | None:
        """Return what a site does for checks, if any check wants its model's rows."""
        wants = frozenset(what for what in ("inputs", "outputs") if self.driver.looks_at(site.model, what))
        return Look(self, site, wants) if wants else None

    def awaits(self, model: str, version: str | None, at: float | str) -> None:
        """Take note that a label is awaited for a prediction."""
        if self.driver.looks_at(model, "labels"):
            self.leave(Seen("awaited", model, version, None, 1, at, None), 128)

    def event(self, event: Event) -> None:
        """Take an event that checks look at."""
        if event.name in WATCHED:
            self.leave(event, 512)

    def leave(self, seen: Seen | Event, size: int) -> None:
        """Leave something for the worker. Never waits."""
        if len(self._waiting) >= MAX_WAITING or self._bytes > MAX_BYTES:
            self.left_out += seen.rows if isinstance(seen, Seen) else 1
            return
        # Threads may add at the same moment and lose a little; the worker counts anew whenever nothing waits.
        self._bytes += size
        self._waiting.append((seen, size))
        if self._thread is None:
            self._start()
        elif len(self._waiting) == MAX_WAITING // 4:
            self._wake.put(None)

    def check(self, deadline: float, *, last: bool = False) -> None:
        """Wait until everything has been looked at that waits, for half of the time: what checks say is to be sent in the rest.

        With `last`, the thread ends.
        """
        if self._thread is not None and threading.current_thread() is not self._thread:
            request = Request(monotonic() + max(0.0, deadline - monotonic()) / 2, last=last)
            self._wake.put(request)
            request.wait()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="otel_ml-checks", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError:
            # CPython 3.12.0-3.12.2 cannot start a thread at exit.
            tell("no_thread", "otel_ml could not start a thread for checks. Call otel_ml.configure() before exit.")
        finally:
            self._starting.release()

    # ------------------------------------------------------------------------------------- in the worker
    def _run(self) -> None:
        context_api.attach(Context({SUPPRESS_KEY: True}))
        request: Request | None = None
        while request is None or not request.last:
            try:
                request = self._wake.get(timeout=EVERY_SECONDS)
            except Empty:
                request = None
            done = False
            try:
                done = self._look(None if request is None else request.deadline)
                self.driver.passed(time(), last=request is not None and request.last)
                if self.left_out != self._told:
                    more, self._told = self.left_out - self._told, self.left_out
                    self.tell_left_out(more)
            except BaseException:  # a check of the user's may raise SystemExit, which would end this thread for ever
                failed("check what happened")
            if request is not None:
                request.answer(done)

    def _look(self, until: float | None) -> bool:
        """Look at everything that waits, until then; False if something is left."""
        while self._waiting:
            if until is not None and monotonic() >= until:
                return False
            taken: list[Seen | Event] = []
            while self._waiting and len(taken) < _AT_ONCE:
                seen, size = self._waiting.popleft()
                self._bytes -= size
                taken.append(seen)
            self.driver.take(taken)
        self._bytes = 0
        return True


def _nobody(_: int) -> None:
    """Where there is no state yet, nobody is told."""
