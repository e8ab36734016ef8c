"""A span that is its own readable form: what never changes for a decorated function lives on a class made once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_ml._otel_private import NO_STATE, make_context, random_bit
from otel_ml._shield import failed, shielded
from otel_ml._size import DICT, weigh
from otel_ml._values import INT64, clean, describe, isinstance_by_type

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import Attributes, AttributeValue

    from otel_ml._call import Call
    from otel_ml._observe import Path

# Longer names of spans and of their events are cut: one name must not take the room of all other records.
MAX_NAME = 1_024
MAX_DESCRIPTION = 4_096


SAMPLED = TraceFlags(1 | random_bit())
UNSAMPLED = TraceFlags(random_bit())
UNSET = Status(StatusCode.UNSET)

# Our own generator: `random.seed(42)`, which every training script calls, would repeat the SDK's ids.
_random = random.Random()  # noqa: S311  # ids have to differ, not to be unguessable
draw = _random.getrandbits


def reseed() -> None:
    """Draw other ids than the parent process does; called in every forked child."""
    _random.seed()


class Ids(IdGenerator):
    """The id generator of our providers: like the SDK's, but not from the user's `random`."""

    def generate_span_id(self) -> int:
        return draw(64) or 1

    def generate_trace_id(self) -> int:
        return draw(128) or 1

    def is_trace_id_random(self) -> bool:
        return True


class LightSpan(ReadableSpan, Span):
    """One recorded call. Subclasses made once per model hold the constants as class attributes.

    Attributes are shared until they are first written. Equal, for valid OpenTelemetry values, to what the SDK makes.
    """

    # Spans are filled in by whoever makes them; making one by calling its class beats `object.__new__` (59 to 81 ns).
    __init__ = object.__init__  # pyright: ignore[reportAssignmentType]  # takes nothing, on purpose

    _name = ""
    _kind = SpanKind.INTERNAL
    _parent: SpanContext | None = None
    _attributes: dict[str, AttributeValue] = {}  # noqa: RUF012  # shared on purpose; `_own` tells whether it may be written
    _events: Sequence[Event] = ()
    _links: Sequence[Link] = ()
    _status = UNSET
    _end_time: int | None = None
    _instrumentation_info = None
    _limits: SpanLimits
    # Two of the limits, where they are read at every attribute.
    _length: int | None = None
    _most: float = 128
    _own = False
    _lost = 0
    # Ours: the path that opened it, the Call made for it if somebody asked, and the bytes it holds beyond what every
    # span does.
    path: Path
    call: Call | None = None
    held = 0
    began = 0
    rows = 1
    # The context before the call, and the one inside it where a generator goes in and out of it.
    outer: object = None
    inner: Context | None = None

    @property
    def dropped_attributes(self) -> int:
        return self._lost

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        return MappingProxyType(self._attributes)

    def get_span_context(self) -> SpanContext:
        return self._context  # type: ignore[return-value]  # a LightSpan always has one

    def is_recording(self) -> bool:
        return self._end_time is None

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if self._end_time is not None:
            return
        attributes = self._attributes
        if not self._own:
            attributes = self._attributes = attributes.copy()
            self._own = True
            self.held += DICT
        kind = type(value)
        if kind is not float and kind is not bool and (kind is not int or not -INT64 <= value < INT64):  # type: ignore[operator]  # an int
            length = self._length
            if kind is not str or not value.isascii():  # type: ignore[union-attr]  # a str
                value = clean(value, length)
                self.held += weigh(value)
            elif length is not None and len(value) > length:  # type: ignore[arg-type]  # a str
                value = value[:length]  # type: ignore[index]  # a str
                self.held += length
            else:
                self.held += len(value)  # type: ignore[arg-type]  # a str
        if type(key) is str and key:
            if key in attributes:
                del attributes[key]
            elif len(attributes) >= self._most:
                self._lost += 1
                if not attributes:
                    return
                del attributes[next(iter(attributes))]
            attributes[key] = value
        else:
            self._lost += 1

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        with shielded("set attributes"):
            for key, value in attributes.items():
                self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self._end_time is not None:
            return
        with shielded("add an event"):
            limits = self._limits
            bounded = _bounded(limits.max_event_attributes, attributes, limits.max_attribute_length)
            if not isinstance(self._events, BoundedList):
                self._events = BoundedList(limits.max_events)
            kept = clean(name, MAX_NAME)
            self._events.append(Event(kept if type(kept) is str else describe(name), bounded, timestamp))
            self.held += DICT + weigh(kept) + weigh(dict(bounded))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        with shielded("add a link"):
            if self._end_time is not None or not (context.is_valid or attributes or context.trace_state):
                return
            limits = self._limits
            bounded = _bounded(limits.max_link_attributes, attributes, limits.max_attribute_length)
            if not isinstance(self._links, BoundedList):
                self._links = BoundedList(limits.max_links)
            self._links.append(Link(context, bounded))
            self.held += DICT + weigh(dict(bounded))

    def update_name(self, name: str) -> None:
        if self._end_time is None and type(name) is str:
            self._name = str(clean(name, MAX_NAME))
            self.held += weigh(self._name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if self._end_time is not None or self._status.status_code is StatusCode.OK:
            return
        if isinstance_by_type(type(status), Status):
            made = cast("Status", status)
        elif type(status) is StatusCode:
            text = clean(description, MAX_DESCRIPTION)
            made = Status(status, text if type(text) is str and status is StatusCode.ERROR else None)
        else:
            return
        if made.status_code is not StatusCode.UNSET:
            self._status = made
            self.held += weigh(made.description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Record an exception with its text and traceback: whoever calls this has asked for them."""
        import traceback

        from otel_ml._values import qualified

        if self._end_time is not None:
            return
        try:
            message = str(exception)
            stack = "".join(traceback.format_exception(exception))
        except Exception:
            message = stack = "<its __str__ failed>"
        with shielded("record an exception"):
            facts: dict[str, AttributeValue] = {
                "exception.type": qualified(type(exception)),
                "exception.message": message,
                "exception.stacktrace": stack,
                "exception.escaped": str(escaped),
                **(attributes or {}),
            }
            self.add_event("exception", facts, timestamp)

    def ends_at(self, ended: int) -> int:
        """Return the end for a reading of the monotonic clock: a wall clock that was set meanwhile makes no span longer."""
        return (self._start_time or 0) + ended - self.began

    def end(self, end_time: int | None = None) -> None:
        if self._end_time is None:
            self._end_time = self.ends_at(perf_counter_ns()) if end_time is None else end_time
            try:
                self.path.ended(self)
            except Exception:
                failed("end a span")

    def __repr__(self) -> str:
        return f"LightSpan(name={self._name!r}, context={self._context!r})"


class Unsampled(Span):
    """Says to children that this trace is not recorded; its ids are drawn when somebody asks for them."""

    __slots__ = ("_context", "began", "call", "inner", "outer", "path", "rows", "trace_id")

    path: Path
    call: Call | None
    rows: int
    began: int
    outer: object
    inner: Context | None
    trace_id: int
    _context: SpanContext | None

    def get_span_context(self) -> SpanContext:
        try:
            context = self._context
        except AttributeError:
            context = None
        if context is None:
            context = self._context = make_context(self.trace_id or draw(128) or 1, draw(64) or 1, UNSAMPLED, NO_STATE)
        return context

    def is_recording(self) -> bool:
        return False

    def end(self, end_time: int | None = None) -> None: ...
    def set_attribute(self, key: str, value: AttributeValue) -> None: ...
    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None: ...
    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None: ...
    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None: ...
    def update_name(self, name: str) -> None: ...
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None: ...
    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None: ...


class Counted:
    """A call that is measured but has no span: `spans=False`, or a parent that is not sampled.

    Each path has a subclass that holds it, so that a call stores two fields.
    """

    path: Path
    call: Call | None = None
    rows: int = 1
    began: int
    outer: object


Frame = LightSpan | Unsampled | Counted


def _bounded(most: int | None, attributes: Attributes, length: int | None) -> BoundedAttributes:
    # BoundedAttributes alone would call `str()` on what it does not know, and log every string that it cuts.
    kept = {key: clean(value, length) for key, value in attributes.items()} if attributes else None
    return BoundedAttributes(most, kept, max_value_len=length)
