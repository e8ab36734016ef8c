"""One exporter's queues: takes spans and events from callers without a lock, I/O or a wait; a sender does the rest."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from otel_ml._delivery import Packs
from otel_ml._events import Event
from otel_ml._health import Account
from otel_ml._outbox import Outbox, Way
from otel_ml._packed import PackedOutbox
from otel_ml._request import Request
from otel_ml._sender import Sender
from otel_ml._size import SLOT
from otel_ml._span import LightSpan
from otel_ml._tally import Tally
from otel_ml._weight import slots_of_record, slots_of_span

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_ml._delivery import Parts

# Slots of 512 bytes that a queue of spans and one of events may hold: 12 MB each.
MAX_SLOTS = 24_576
MAX_BYTES = MAX_SLOTS * SLOT
# A sender that has this much to do is woken before its delay is over.
WAKE_AT = 2_048


class Sink:
    """The way to one exporter. `span` and `event` may be called from any thread, signal handler or finalizer.

    A full queue of spans refuses the newest, a full queue of events gives up the oldest; both are counted.
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
        self._closed = False
        self._spans: deque[LightSpan | ReadableSpan | None] = deque()
        self._events: deque[Event | ReadWriteLogRecord | None] = deque()
        self._refused: list[str] = []
        self._starting = threading.Lock()
        ways: dict[str, Way] = {}
        if parts.spans is not None:
            ways["spans"] = _way(parts.spans, "spans", None, parts)
        if parts.events is not None:
            ways["events"] = _way(parts.events, "events", readable, parts)
        if parts.metrics is not None:
            ways["metrics"] = _way(parts.metrics, "metrics", None, parts)
        self._ways = ways
        self._queues = cast("dict[str, deque[object | None]]", {"spans": self._spans, "events": self._events})
        self.sender = Sender(name, parts, ways, self._queues, collect, self._count_refused)
        # Slots that spans may take; none once the sink is closed.
        self.room = MAX_SLOTS
        self.light = self._lights()

    # ------------------------------------------------------------------------------------- in the caller
    def _lights(self) -> Callable[[LightSpan], None]:
        """Make `light`, which takes an ended, sampled light span: two comparisons and an append."""
        queue, refuse, wake = self._spans, self._refuse, self.sender.hurry.put
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
            self.sender.hurry.put(None)

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
            self.sender.hurry.put(None)

    def start(self) -> None:
        """Start the sender, once; later calls cost one comparison."""
        if self.sender.thread is not None or self._closed or not self._starting.acquire(blocking=False):
            return
        try:
            self.sender.start()
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
            if signal in self._ways:
                self._ways[signal].tally.drop(reason, count)

    # ------------------------------------------------------------------------------------- from outside
    def flush(self, deadline: float) -> Request:
        """Ask the sender to send everything now; wait on the request that is returned."""
        self.start()
        request = Request(deadline, last=False)
        if self.sender.thread is None:
            request.answer(not self.sender.waiting)
        else:
            self.sender.wake.put(request)
        return request

    def close(self, deadline: float, *, shared: bool = False) -> Request:
        """Ask the sender to send everything and end; `shared` exporters are not shut down. Nothing is taken after this."""
        # The user's own instruments announce their points to nobody, and an exporter may hang in its `shutdown`.
        self.start()
        self._closed, self.room, self.sender.shared = True, 0, shared
        request = Request(deadline, last=True)
        if self.sender.thread is None:
            request.answer(self.sender.finish())
        else:
            self.sender.wake.put(request)
        return request

    def abandon(self, until: float) -> None:
        """Keep, until then, or count what a sender that did not end in time still holds."""
        self.sender.abandon(until)

    def account(self) -> dict[str, Account]:
        """Return what became of each signal so far."""
        self._count_refused()
        if self._closed and not self.sender.running:
            # What a caller was just putting in while the sender ended.
            self.sender.abandon(0.0)
        return {signal: way.tally.account(self._queues.get(signal)) for signal, way in self._ways.items()}


def _way(
    part: SpanExporter | MetricExporter | LogRecordExporter,
    signal: str,
    convert: Callable[..., object] | None,
    parts: Parts,
) -> Way:
    if isinstance(part, Packs):
        return PackedOutbox(part, Tally(signal), convert, parts.spool)
    return Outbox(part, Tally(signal), convert)
