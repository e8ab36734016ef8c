"""One exporter's queue, its sender thread and its account: what was delivered, dropped or is still held."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, cast

from opentelemetry import context as context_api
from opentelemetry.context import Context

from otel_ml._events import Event
from otel_ml._health import Account
from otel_ml._otel_private import SUPPRESS_KEY
from otel_ml._outbox import Outbox
from otel_ml._request import Request, take
from otel_ml._shield import failed, tell
from otel_ml._size import SLOT
from otel_ml._span import LightSpan
from otel_ml._weight import slots_of_record, slots_of_span

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml._delivery import Parts

# Slots of 512 bytes that a queue of spans and one of events may hold: 12 MB each.
MAX_SLOTS = 24_576
MAX_BYTES = MAX_SLOTS * SLOT
# A sender that has this much to do is woken before its delay is over.
WAKE_AT = 2_048
# Seconds that one round may take when nobody waits for it.
_LONGEST = 10.0

Queued = "LightSpan | ReadableSpan | None"


class Sink:
    """Takes spans and events from callers without a lock, I/O or a wait, and has one thread send them.

    `span` and `event` may be called from any thread, signal handler or finalizer. A full queue of spans refuses the
    newest, a full queue of events gives up the oldest; both are counted.
    """

    def __init__(
        self,
        name: str,
        where: str,
        parts: Parts,
        readable: Callable[[Event | ReadWriteLogRecord], ReadableLogRecord],
        collect: Callable[[], MetricsData | None] | None,
        given_as: object = None,
    ) -> None:
        self.name, self.where, self.parts, self.given_as = name, where, parts, given_as
        # An exporter that the next state goes on using is flushed, but not shut down.
        self.shared = False
        self._collect, self._closed = collect, False
        self._spans: deque[LightSpan | ReadableSpan | None] = deque()
        self._events: deque[Event | ReadWriteLogRecord | None] = deque()
        self._refused: list[str] = []
        self._wake: SimpleQueue[Request | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # Slots that spans may take; none once the sink is closed.
        self.room = MAX_SLOTS
        self.light = self._lights()
        self.outboxes = {
            signal: outbox
            for signal, outbox in (
                ("spans", Outbox(parts.spans, "spans", None) if parts.spans is not None else None),
                ("events", Outbox(parts.events, "events", readable) if parts.events is not None else None),
                ("metrics", Outbox(parts.metrics, "metrics", None) if parts.metrics is not None else None),
            )
            if outbox is not None
        }

    # ------------------------------------------------------------------------------------- in the caller
    def _lights(self) -> Callable[[LightSpan], None]:
        """Make `light`, which takes an ended, sampled light span: two comparisons and an append."""
        queue, refuse, wake = self._spans, self._refuse, self._wake.put
        held_now, append, extend = queue.__len__, queue.append, queue.extend

        def light(span: LightSpan) -> None:
            held = held_now()
            if held >= self.room:
                refuse("spans:queue_full" if self.room else "spans:shutdown")
                return
            if span.held:
                extend((span, *(None,) * (min(span.held, MAX_BYTES) // SLOT)))
            else:
                append(span)
            if held == WAKE_AT:
                wake(None)

        return light

    def span(self, span: ReadableSpan) -> None:
        """Take an ended, sampled span that the SDK made."""
        self.start()
        held = len(self._spans)
        if held >= self.room:
            self._refuse("spans:queue_full" if self.room else "spans:shutdown")
            return
        slots = slots_of_span(span)
        self._spans.extend((span, *(None,) * (min(slots, MAX_SLOTS) - 1)))
        if held < WAKE_AT <= held + slots:
            self._wake.put(None)

    def event(self, event: Event | ReadWriteLogRecord) -> None:
        """Take an event."""
        queue = self._events
        if self._closed:
            self._refuse("events:shutdown")
            return
        weight = event.weight if isinstance(event, Event) else slots_of_record(event)
        if weight == 1:
            queue.append(event)
        else:
            queue.extend((event, *(None,) * (min(weight, MAX_SLOTS) - 1)))
        held = len(queue)
        if held > MAX_SLOTS:
            self._give_up_oldest(queue)
        elif held == WAKE_AT:
            self._wake.put(None)

    def start(self) -> None:
        """Start the sender, once; later calls cost one comparison."""
        if self._thread is not None or self._closed or not self._starting.acquire(blocking=False):
            return
        try:
            thread = threading.Thread(target=self._run, name=f"otel_ml-{self.name}", daemon=True)
            thread.start()
            self._thread = thread
        except RuntimeError:
            # CPython 3.12.0-3.12.2 cannot start a thread at exit; what is queued is counted at shutdown.
            tell("no_thread", "otel_ml could not start a sender thread. Call otel_ml.configure() before exit.")
        finally:
            self._starting.release()

    def _give_up_oldest(self, queue: deque[Event | ReadWriteLogRecord | None]) -> None:
        try:
            while len(queue) > MAX_SLOTS or queue[0] is None:
                if queue.popleft() is not None:
                    self._refuse("events:queue_full")
        except IndexError:
            return

    def _refuse(self, what: str) -> None:
        self._refused.append(what)
        if len(self._refused) > WAKE_AT:
            self._count_refused()

    def _count_refused(self) -> None:
        # `acquire(blocking=False)` inside: a signal handler must not wait for the count it interrupted.
        if not self._starting.acquire(blocking=False):
            return
        try:
            taken = Counter(refused := self._refused[: len(self._refused)])
            del self._refused[: len(refused)]
        finally:
            self._starting.release()
        for what, count in taken.items():
            signal, _, reason = what.partition(":")
            if signal in self.outboxes:
                self.outboxes[signal].drop(reason, count)

    # ------------------------------------------------------------------------------------- from outside
    def flush(self, deadline: float) -> Request:
        """Ask the sender to send everything now; wait on the request that is returned."""
        self.start()
        request = Request(deadline, last=False)
        if self._thread is None:
            request.answer(not self.held())
        else:
            self._wake.put(request)
        return request

    def close(self, deadline: float) -> Request:
        """Ask the sender to send everything and end. Nothing is taken after this."""
        # The user's own instruments announce their points to nobody, and an exporter may hang in its `shutdown`.
        self.start()
        self._closed, self.room = True, 0
        request = Request(deadline, last=True)
        if self._thread is None:
            request.answer(self._finish())
        else:
            self._wake.put(request)
        return request

    def abandon(self) -> None:
        """Count what a sender that did not end in time still holds."""
        for signal, queue in (("spans", self._spans), ("events", self._events)):
            lost = sum(1 for held in list(queue) if held is not None)
            queue.clear()
            if signal in self.outboxes:
                self.outboxes[signal].drop("shutdown", lost)
        for outbox in self.outboxes.values():
            outbox.abandon()
            outbox.tell_losses()

    def held(self, signal: str | None = None) -> int:
        """How many records are queued or waiting to be tried again."""
        spans = sum(one is not None for one in list(self._spans))
        events = sum(one is not None for one in list(self._events))
        queued = {"spans": spans, "events": events}
        return sum(
            outbox.held + queued.get(one, 0) for one, outbox in self.outboxes.items() if signal is None or one == signal
        )

    def account(self) -> dict[str, Account]:
        """Return what became of each signal so far."""
        self._count_refused()
        if self._closed and (self._thread is None or not self._thread.is_alive()):
            # What a caller was just putting in while the sender ended.
            self.abandon()
        outboxes = self.outboxes.items()
        return {
            signal: Account(outbox.delivered, self.held(signal), dict(outbox.dropped)) for signal, outbox in outboxes
        }

    # ------------------------------------------------------------------------------------- in the sender
    def _run(self) -> None:
        # Instrumentations of HTTP clients must not watch our own requests; a context does not cross threads.
        context_api.attach(Context({SUPPRESS_KEY: True}))
        next_metrics = monotonic() + self.parts.interval
        while True:
            request = self._next_request(min(self.parts.delay, max(0.0, next_metrics - monotonic())))
            try:
                if request is None:
                    self._send_queued(monotonic() + _LONGEST, next_metrics)
                    if monotonic() >= next_metrics:
                        next_metrics = monotonic() + self.parts.interval
                        self._send_metrics(monotonic() + _LONGEST)
                else:
                    done = self._send_all(request.deadline)
                    if request.last:
                        done = self._finish() and done
                    request.answer(done)
                # Here and not where they are counted: a log handler may block, and callers count too.
                for outbox in self.outboxes.values():
                    outbox.tell_losses()
            except BaseException:  # a user's callback may raise SystemExit, which would end the sender for ever
                failed(f"send to {self.name}")
                if request is not None:
                    request.answer(False)
            if request is not None and request.last:
                return

    def _next_request(self, delay: float) -> Request | None:
        try:
            return self._wake.get(timeout=max(delay, 0.001))
        except Empty:
            return None

    def _send_all(self, deadline: float) -> bool:
        # Metrics first: one request holds them all, while the queues may take longer than there is time.
        self._send_metrics(deadline, force=True)
        self._send_queued(deadline, deadline, force=True)
        return self.held() == 0

    def _send_queued(self, deadline: float, until: float, *, force: bool = False) -> None:
        self._count_refused()
        queues = cast("dict[str, deque[object | None]]", {"spans": self._spans, "events": self._events})
        for signal, queue in queues.items():
            outbox = self.outboxes.get(signal)
            if outbox is None:
                queue.clear()
                continue
            while outbox.ready(force) and (outbox.held or outbox.put(take(queue))):
                if not outbox.send(deadline) or monotonic() >= until:
                    break

    def _send_metrics(self, deadline: float, *, force: bool = False) -> None:
        outbox = self.outboxes.get("metrics")
        if outbox is None or self._collect is None:
            return
        try:
            collected = self._collect()
        except BaseException:  # likewise
            failed("collect metrics")
            return
        if collected is not None:
            outbox.put_metrics(collected)
        while outbox.held and outbox.ready(force) and monotonic() < deadline:
            if not outbox.send(deadline):
                break

    def _finish(self) -> bool:
        lost = self.held()
        self.abandon()
        for part in (self.parts.spans, self.parts.metrics, self.parts.events):
            if part is not None and not self.shared:
                try:
                    part.shutdown()  # pyright: ignore[reportUnknownMemberType]  # the SDK's `**kwargs` have no type
                except Exception:
                    failed(f"shut down {self.name}")
        return not lost
