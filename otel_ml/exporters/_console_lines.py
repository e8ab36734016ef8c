"""Spans and events as lines of text that a person can read at a glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from opentelemetry.trace import StatusCode

from otel_ml import _catalog as names

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml.exporters._console_screen import Paint

Attributes = Mapping[str, object]

# Told by the events of the run, which come while it goes on.
RUN_SPANS = frozenset({names.TRAIN, names.EPOCH_SPAN, names.EVALUATE, names.CHECKPOINT})
# Events that have no line of their own: too many, and nothing to look at.
QUIET_EVENTS = frozenset({names.STEP_COMPLETED, names.GROUND_TRUTH})

_WORDS = {names.SUCCESS: "ok"}
_COLOURS = {names.SUCCESS: "green", names.ERROR: "red"}
_LABEL, _OUTCOME, _ROWS, _DURATION = 16, 9, 12, 9
_MAX_TEXT = 60
_MAX_VALUES = 12
_WARNING = 13


def call_line(span: ReadableSpan, stages: str, paint: Paint) -> str:
    """Return the line of a finished call, or of any other span: when, what, how it went, how long, and its trace.

    `14:03:21.512  churn 3.2         ok             128 rows    4.21 ms  inference 3.02 ms  trace 4bf92f35`
    """
    attributes = span.attributes or {}
    outcome = attributes.get(names.OUTCOME)
    if not isinstance(outcome, str):
        outcome = names.ERROR if span.status.status_code is StatusCode.ERROR else names.SUCCESS
    label = _model(attributes) if names.MODEL in attributes else safe(span.name)
    rows = attributes.get(names.BATCH_SIZE)
    error = attributes.get(names.ERROR_TYPE)
    parts = (
        paint(_clock(span.start_time), "dim"),
        paint(f"{label:<{_LABEL}}", "bold"),
        paint(f"{_WORDS.get(outcome, safe(outcome)):<{_OUTCOME}}", _COLOURS.get(outcome, "yellow")),
        f"{_count(rows, 'row') + ' ' * (rows == 1) if isinstance(rows, int) else '':>{_ROWS}}",
        f"{duration(span_seconds(span)):>{_DURATION}}",
        paint(safe(error), "red") if isinstance(error, str) else "",
        stages,
        paint(f"trace {span.context.trace_id:032x}"[:14] if span.context is not None else "", "dim"),
    )
    return "  ".join(part for part in parts if part)


def event_line(readable: ReadableLogRecord, paint: Paint, latest: Attributes | None = None) -> str:
    """Return the line of an event: a run that begins or ends, an epoch, or anything else that was said.

    An epoch's line begins with what its `latest` step logged and the epoch itself did not.
    """
    record = readable.log_record
    attributes: Attributes = {**(latest or {}), **(record.attributes or {})}
    when = paint(_clock(record.timestamp or record.observed_timestamp), "dim")
    parts = list(_RUN_EVENTS.get(record.event_name or "", _other)(readable, attributes, paint))
    if names.MODEL in attributes:
        parts.insert(0, paint(f"{_model(attributes):<{_LABEL}}", "bold"))
    return "  ".join(part for part in (when, *parts) if part)


def step_line(readable: ReadableLogRecord) -> str:
    """Return the live line of a step: `churn  epoch 3  step 1,234  loss 0.231`."""
    attributes: Attributes = readable.log_record.attributes or {}
    epoch, step = attributes.get(names.EPOCH), attributes.get(names.STEP)
    parts = (
        _model(attributes),
        f"epoch {epoch}" if isinstance(epoch, int) else "",
        f"step {step:,}" if isinstance(step, int) else "",
        *_values(attributes, names.TRAINING_VALUE),
    )
    return "  ".join(part for part in parts if part)


def span_seconds(span: ReadableSpan) -> float:
    """Return how long a span took."""
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them.

    >>> duration(0.000312), duration(0.00421), duration(1.2), duration(192), duration(3720)
    ('312 us', '4.21 ms', '1.20 s', '3 m 12 s', '1 h 02 m')
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{_three(seconds * 1e3)} ms"
    if seconds < 60:
        return f"{_three(seconds)} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} m {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} m"


def safe(text: str) -> str:
    r"""Return text that cannot move the cursor, change colours, break the line or turn its direction around.

    >>> print(safe("churn\x1b[31m\r\u202e"))
    churn\x1b[31m\r\u202e
    """
    if len(text) > _MAX_TEXT:
        text = text[: _MAX_TEXT - 3] + "..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _epoch(_: ReadableLogRecord, attributes: Attributes, paint: Paint) -> Iterator[str]:
    epoch, seconds = attributes.get(names.EPOCH), attributes.get(names.EPOCH_SECONDS)
    yield paint(f"epoch {epoch}" if isinstance(epoch, int) else "epoch", "cyan")
    yield from _values(attributes, names.TRAINING_VALUE)
    yield _ending(attributes, paint, quiet=True)
    yield duration(seconds) if isinstance(seconds, int | float) else ""


def _started(_: ReadableLogRecord, attributes: Attributes, paint: Paint) -> Iterator[str]:
    yield paint("training started", "cyan")
    yield from _values(attributes, names.HYPERPARAMETER)
    yield _run(attributes, paint)


def _completed(_: ReadableLogRecord, attributes: Attributes, paint: Paint) -> Iterator[str]:
    epochs, steps, seconds = (attributes.get(key) for key in (names.EPOCHS, names.STEPS, names.RUN_SECONDS))
    yield paint("training completed", "cyan")
    yield _ending(attributes, paint)
    yield _count(epochs, "epoch") if isinstance(epochs, int) and epochs else ""
    yield _count(steps, "step") if isinstance(steps, int) and steps else ""
    yield duration(seconds) if isinstance(seconds, int | float) else ""
    yield _run(attributes, paint)


def _other(readable: ReadableLogRecord, attributes: Attributes, paint: Paint) -> Iterator[str]:
    record = readable.log_record
    severity = record.severity_number
    if severity is not None and severity.value >= _WARNING:
        yield paint(safe(record.severity_text or severity.name), "red" if severity.value > _WARNING + 3 else "yellow")
    yield paint(safe(record.event_name or ""), "cyan")
    yield _value(record.body) if record.body is not None else ""
    yield from _values({key: value for key, value in attributes.items() if key != names.MODEL}, "")


_RUN_EVENTS = {names.EPOCH_COMPLETED: _epoch, names.TRAINING_STARTED: _started, names.TRAINING_COMPLETED: _completed}


def _ending(attributes: Attributes, paint: Paint, *, quiet: bool = False) -> str:
    outcome = attributes.get(names.RUN_OUTCOME)
    if not isinstance(outcome, str) or (quiet and outcome == names.SUCCESS):
        return ""
    return paint(_WORDS.get(outcome, safe(outcome)), _COLOURS.get(outcome, "yellow"))


def _run(attributes: Attributes, paint: Paint) -> str:
    run = attributes.get(names.RUN_ID)
    return paint(f"run {safe(run)[:8]}", "dim") if isinstance(run, str) else ""


def _model(attributes: Attributes) -> str:
    model, version = attributes.get(names.MODEL), attributes.get(names.VERSION)
    named = [safe(part) for part in (model, version) if isinstance(part, str)]
    return " ".join(named)


def _values(attributes: Attributes, prefix: str) -> Iterator[str]:
    found = [key for key in attributes if key.startswith(prefix)]
    for key in found[:_MAX_VALUES]:
        yield f"{safe(key.removeprefix(prefix))} {_value(attributes[key])}"
    if len(found) > _MAX_VALUES:
        yield f"and {len(found) - _MAX_VALUES} more"


def _value(value: object) -> str:
    # Exact types: nothing else is asked to show itself.
    if type(value) is float:
        return f"{value:.4g}"
    if type(value) is int or type(value) is bool or value is None:
        return str(value) if abs(value or 0) < 10**20 else f"{value:.4e}"
    if type(value) is str:
        return safe(value)
    return f"<{type(value).__name__}>"


def _three(number: float) -> str:
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _clock(nanoseconds: int | None) -> str:
    at = datetime.fromtimestamp((nanoseconds or 0) / 1e9)  # noqa: DTZ006  # the wall clock of whoever is watching
    return at.strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03}"
