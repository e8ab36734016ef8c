"""The threads of one exporter: one sends; where there is a spool, another writes to it, whatever the first is waiting for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import TYPE_CHECKING

from opentelemetry import context as context_api
from opentelemetry.context import Context

from otel_ml._otel_private import SUPPRESS_KEY
from otel_ml._packed import PackedOutbox
from otel_ml._request import Request
from otel_ml._shield import failed, tell

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

    from otel_ml._delivery import Parts
    from otel_ml._outbox import Way

# Seconds that one round may take when nobody waits for it.
_LONGEST = 10.0
# Seconds after which a record is on disk, at most: what a process loses that is killed.
KEEP_EVERY = 0.2
# Seconds that whoever flushes waits for what others have left.
_LOOK_WITHIN = 0.1
# Seconds that a program's last moment waits for somebody else who is writing to the spool.
_PATIENCE = 0.3


class Sender:
    """Takes records from the queues of a sink and sends them; started at the first record."""

    def __init__(
        self,
        name: str,
        parts: Parts,
        ways: Mapping[str, Way],
        queues: Mapping[str, deque[object | None]],
        collect: Callable[[], MetricsData | None] | None,
        each_round: Callable[[], None],
    ) -> None:
        self._name, self._parts, self._ways, self._queues = name, parts, ways, queues
        self._collect, self._each_round = collect, each_round
        self.each_minute: Callable[[], None] = _nothing
        # Exporters that the next state goes on using are flushed, but not shut down.
        self.shared = False
        self.keeps = any(way.keeps for way in ways.values())
        self.wake: SimpleQueue[Request | None] = SimpleQueue()
        # What wakes the thread that empties the queues.
        self.hurry: SimpleQueue[Request | None] = SimpleQueue() if self.keeps else self.wake
        self.thread: threading.Thread | None = None
        self._keeper: threading.Thread | None = None
        self._draining = threading.Lock()
        self._looked = threading.Event()
        self._ended = False
        # Records lost by the time of the last flush.
        self._lost = 0

    @property
    def waiting(self) -> bool:
        """Whether anything is neither delivered nor dropped."""
        return any(way.waiting for way in self._ways.values()) or any(self._queues.values())

    @property
    def running(self) -> bool:
        """Whether the sending thread is at work."""
        return self.thread is not None and self.thread.is_alive()

    def is_current(self) -> bool:
        """Say whether this is called in one of its threads."""
        return threading.current_thread() in (self.thread, self._keeper)

    def start(self) -> None:
        """Start the threads; the caller sees to it that this happens once."""
        thread = threading.Thread(target=self._run, name=f"otel_ml-{self._name}", daemon=True)
        try:
            if self.keeps and self._keeper is None:
                keeper = threading.Thread(target=self._keep, name=f"otel_ml-{self._name}-spool", daemon=True)
                keeper.start()
                self._keeper = keeper
            thread.start()
        except RuntimeError:
            # CPython 3.12.0-3.12.2 cannot start a thread at exit; what is queued is counted at shutdown.
            tell("no_thread", "otel_ml could not start a sender thread. Call otel_ml.configure() before exit.")
            return
        self.thread = thread

    def drain(self, until: float | None = None) -> None:
        """Take all there is in the queues, as far as there is a place for it, in turns; stop `until` then."""
        if not self._draining.acquire(timeout=-1 if until is None else max(0.0, until - monotonic())):
            return
        try:
            for signal, queue in self._queues.items():
                if signal not in self._ways:
                    queue.clear()
            taking = [
                (way, self._queues[signal])
                for signal, way in self._ways.items()
                if signal in self._queues and way.keeps
            ]
            while taking and (until is None or monotonic() < until):
                taking = [(way, queue) for way, queue in taking if way.take(queue)]
        finally:
            self._draining.release()

    def finish(self) -> bool:
        """Settle what is left and shut the exporters down; True if nothing was left."""
        self._end()
        left = self.waiting
        self.abandon(monotonic() + _PATIENCE)
        for part in (self._parts.spans, self._parts.metrics, self._parts.events):
            if part is not None and not self.shared:
                try:
                    part.shutdown()  # pyright: ignore[reportUnknownMemberType]  # the SDK's `**kwargs` have no type
                except Exception:
                    failed(f"shut down {self._name}")
        return not left

    def abandon(self, until: float) -> None:
        """Keep on disk, until then, what a sender that did not end in time still holds; count the rest as dropped."""
        if not self._ended and not self.is_current():
            self._have_looked(max(0.0, until - monotonic()))
        self._end()
        self.drain(until)
        for signal, queue in self._queues.items():
            lost = sum(1 for held in list(queue) if held is not None)
            queue.clear()
            if signal in self._ways:
                self._ways[signal].tally.drop("shutdown", lost)
        for way in self._ways.values():
            way.abandon(until)
            way.tally.tell_losses()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.hurry.put(None)

    # ------------------------------------------------------------------------------------- in the keeper
    def _keep(self) -> None:
        context_api.attach(Context({SUPPRESS_KEY: True}))
        while not self._ended:
            try:
                now = not self._looked.is_set()
                for way in self._ways.values():
                    if isinstance(way, PackedOutbox):
                        way.look(now=now)
                self._looked.set()
                self.drain()
                self.each_minute()
                self._await(self.hurry, KEEP_EVERY)
            except BaseException:  # what a record of somebody else's raises must not end this thread for ever
                _survive(f"keep for {self._name}")

    # ------------------------------------------------------------------------------------- in the sender
    def _run(self) -> None:
        # Instrumentations of HTTP clients must not watch our own requests; a context does not cross threads.
        context_api.attach(Context({SUPPRESS_KEY: True}))
        next_metrics = monotonic() + self._parts.interval
        request: Request | None = None
        while request is None or not request.last:
            try:
                request = None
                request = self._await(self.wake, min(self._parts.delay, max(0.0, next_metrics - monotonic())))
                self._each_round()
                if request is None:
                    self._send_queued(monotonic() + _LONGEST, next_metrics)
                    if monotonic() >= next_metrics:
                        next_metrics = monotonic() + self._parts.interval
                        self._send_metrics(monotonic() + _LONGEST)
                else:
                    done = self._send_all(request)
                    if request.last:
                        done = self.finish() and done
                    request.answer(done)
                # Here and not where they are counted: a log handler may block, and callers count too.
                for way in self._ways.values():
                    way.tally.tell_losses()
                if not self.keeps:
                    # Otherwise it is the keeper's: its disk may hang.
                    self.each_minute()
            except BaseException:  # a user's callback may raise SystemExit, which would end the sender for ever
                _survive(f"send to {self._name}")
                if request is not None:
                    request.answer(False)

    def _await(self, requests: SimpleQueue[Request | None], seconds: float) -> Request | None:
        try:
            return requests.get(timeout=max(seconds, 0.001))
        except Empty:
            return None

    def _send_all(self, request: Request) -> bool:
        # An exchange that is under way when whoever flushes waits no longer may end well all the same.
        deadline = request.deadline if request.last else max(request.deadline, monotonic() + _LONGEST)
        until = request.deadline
        if not request.last:
            for way in self._ways.values():
                way.pauses.forgive()
            # Children that have ended, say: what they left is sent along. The keeper looks, for a disk may hang.
            self._have_looked(_LOOK_WITHIN)
        # Metrics first: one request holds them all, while the queues may take longer than there is time.
        self._send_metrics(deadline, force=True)
        self._send_queued(deadline, until, force=True)
        while (pause := self._worth_waiting(until, last=request.last)) is not None:
            sleep(pause)
            self._send_queued(deadline, until, force=True)
        lost, self._lost = self._lost, sum(way.tally.lost for way in self._ways.values())
        return not self.waiting and lost == self._lost

    def _have_looked(self, seconds: float) -> None:
        """Have the keeper look for what others have left; if it does not answer, the disk is left alone for a while."""
        self._looked.clear()
        self.hurry.put(None)
        if self._keeper is not None and not self._looked.wait(seconds):
            for way in self._ways.values():
                if isinstance(way, PackedOutbox):
                    way.doubt()

    def _worth_waiting(self, deadline: float, *, last: bool) -> float | None:
        """Return the seconds until a place that failed is tried again, or None if nobody is to be kept waiting for it."""
        hopes = [
            way.pauses.not_before
            for way in self._ways.values()
            # At the end, what is on disk may as well be sent by the next process.
            if way.waiting and not (last and way.keeps) and way.pauses.hopeful(deadline)
        ]
        return max(0.001, min(hopes) - monotonic()) if hopes else None

    def _send_queued(self, deadline: float, until: float, *, force: bool = False) -> None:
        self._each_round()
        self.drain()
        for signal, way in self._ways.items():
            queue = self._queues.get(signal)
            while way.pauses.ready(force) and (way.waiting or (queue is not None and way.take(queue))):
                if not way.send(deadline) or monotonic() >= until:
                    break

    def _send_metrics(self, deadline: float, *, force: bool = False) -> None:
        way = self._ways.get("metrics")
        if way is None or self._collect is None:
            return
        try:
            collected = self._collect()
        except BaseException:  # likewise
            failed("collect metrics")
            return
        if collected is not None:
            way.put_metrics(collected)
        while way.waiting and way.pauses.ready(force) and monotonic() < deadline:
            if not way.send(deadline):
                break


def _nothing() -> None:
    """What is done every minute until there is something to do."""


def _survive(task: str) -> None:
    """Count what went wrong and go on, whatever a log handler of the user's makes of the line."""
    try:
        failed(task)
    except Exception:
        raise
    except BaseException:  # it has been counted; a thread of ours is nothing that SystemExit is for
        pass
