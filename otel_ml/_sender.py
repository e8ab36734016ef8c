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
        # Exporters that the next state goes on using are flushed, but not shut down.
        self.shared = False
        self.keeps = any(way.keeps for way in ways.values())
        self.wake: SimpleQueue[Request | None] = SimpleQueue()
        # What wakes the thread that empties the queues.
        self.hurry: SimpleQueue[Request | None] = SimpleQueue() if self.keeps else self.wake
        self.thread: threading.Thread | None = None
        self._keeper: threading.Thread | None = None
        self._draining = threading.Lock()
        self._ended = False

    @property
    def running(self) -> bool:
        """Whether the sending thread is at work."""
        return self.thread is not None and self.thread.is_alive()

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

    def drain(self, patience: float = -1) -> None:
        """Take all there is in the queues, as far as there is a place for it."""
        if not self._draining.acquire(timeout=patience):
            return
        try:
            for signal, queue in self._queues.items():
                way = self._ways.get(signal)
                if way is None:
                    queue.clear()
                    continue
                while way.keeps and way.take(queue):
                    pass
        finally:
            self._draining.release()

    def finish(self) -> bool:
        """Settle what is left and shut the exporters down; True if nothing was left."""
        self._end()
        left = any(way.waiting for way in self._ways.values()) or any(self._queues.values())
        self.abandon()
        for part in (self._parts.spans, self._parts.metrics, self._parts.events):
            if part is not None and not self.shared:
                try:
                    part.shutdown()  # pyright: ignore[reportUnknownMemberType]  # the SDK's `**kwargs` have no type
                except Exception:
                    failed(f"shut down {self._name}")
        return not left

    def abandon(self) -> None:
        """Keep on disk what a sender that did not end in time still holds; count the rest as dropped."""
        self._end()
        until = monotonic() + _PATIENCE
        self.drain(_PATIENCE)
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
                for way in self._ways.values():
                    if isinstance(way, PackedOutbox):
                        way.look()
                self.drain()
            except BaseException:  # what a record of somebody else's raises must not end this thread for ever
                failed(f"keep for {self._name}")
            try:
                self.hurry.get(timeout=KEEP_EVERY)
            except Empty:
                continue

    # ------------------------------------------------------------------------------------- in the sender
    def _run(self) -> None:
        # Instrumentations of HTTP clients must not watch our own requests; a context does not cross threads.
        context_api.attach(Context({SUPPRESS_KEY: True}))
        next_metrics = monotonic() + self._parts.interval
        while True:
            request = self._next_request(min(self._parts.delay, max(0.0, next_metrics - monotonic())))
            try:
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
            except BaseException:  # a user's callback may raise SystemExit, which would end the sender for ever
                failed(f"send to {self._name}")
                if request is not None:
                    request.answer(False)
            if request is not None and request.last:
                return

    def _next_request(self, delay: float) -> Request | None:
        try:
            return self.wake.get(timeout=max(delay, 0.001))
        except Empty:
            return None

    def _send_all(self, request: Request) -> bool:
        deadline = request.deadline
        if not request.last:
            for way in self._ways.values():
                way.pauses.forgive()
        # Metrics first: one request holds them all, while the queues may take longer than there is time.
        self._send_metrics(deadline, force=True)
        self._send_queued(deadline, deadline, force=True)
        while (pause := self._worth_waiting(deadline, last=request.last)) is not None:
            sleep(pause)
            self._send_queued(deadline, deadline, force=True)
        return not any(way.waiting for way in self._ways.values()) and not any(self._queues.values())

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
