"""The checks of one configuration at work: what was seen goes to the watches of its model or run, what they say goes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, cast

from otel_ml import _catalog as names
from otel_ml._deferred import Deferred
from otel_ml._finding import Finding
from otel_ml._shield import failed
from otel_ml._watching import Seen
from otel_ml.checks._columns import Snapshot, outcome, snapshot
from otel_ml.checks._said import Reading, Said
from otel_ml.checks._watch import EpochEnd, Labels, Rows, Step, TrainingWatch, Watch

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otel_ml._events import Event
    from otel_ml._voice import Voice

# Models, and runs at one time, that are watched.
MOST = 100

Key = tuple[str, str | None]


class Check(Protocol):
    """What goes into `configure(checks=[...])`: a description of what to look for, which makes a watch for each model."""

    def watch(self) -> Watch | TrainingWatch:
        """Begin to watch one model and version, or one run."""
        ...


class Driver:
    """All checks of one `configure()`. One thread at a time uses `take` and `passed`."""

    def __init__(self, checks: Sequence[Check], voice: Voice) -> None:
        self._voice = voice
        training = [one for one in checks if hasattr(one.watch(), "step")]
        self._training = tuple(training)
        self._models = tuple(one for one in checks if not any(one is other for other in training))
        self._watches: dict[Key, list[Watch]] = {}
        self._runs: dict[str, _Run] = {}

    def looks_at(self, model: str, what: str) -> bool:
        """Say whether any check wants `inputs`, `outputs` or `labels` of this model."""
        return any(_is_for(one, model) and what in wants(one) for one in self._models)

    def snapshot(self, batch: object) -> Snapshot | None:
        """Copy a batch, in its caller; None for what is no table, no column and no number."""
        return snapshot(batch)

    def take(self, seen: list[Seen | Event]) -> None:
        """Look at what has happened since, in order; neighbours that belong together are looked at together."""
        together: list[Seen | Event] = []
        for one in seen:
            if together and _kind(one) != _kind(together[0]):
                self._look(together)
                together = []
            together.append(one)
        if together:
            self._look(together)

    def passed(self, now: float, *, last: bool) -> None:
        """Take note of the time: windows and runs that are over are closed."""
        for key, watches in self._watches.items():
            for watch in watches:
                self._say(_said(lambda watch=watch: watch.passed(math.inf if last else now)), key, None)  # type: ignore[misc]  # bound as default
        for run in list(self._runs.values()):
            self._watch(run, lambda watch, run=run: watch.passed(now - run.began))  # type: ignore[misc]  # likewise

    # ------------------------------------------------------------------------------------------------ calls
    def _look(self, seen: list[Seen | Event]) -> None:
        first = seen[0]
        if isinstance(first, Seen):
            self._of_calls(first, cast("list[Seen]", seen))
        elif first.name == names.GROUND_TRUTH:
            self._of_labels(cast("list[Event]", seen))
        else:
            for event in cast("list[Event]", seen):
                self._of_a_run(event)

    def _of_calls(self, first: Seen, seen: list[Seen]) -> None:
        watches = self._of(first.model, first.version)
        if not watches:
            return
        key = first.model, first.version
        if first.kind == "awaited":
            awaited = [seconds(one.at) for one in seen]
            for watch in watches:
                if hasattr(watch, "awaited"):
                    self._say(_said(lambda watch=watch: watch.awaited(awaited)), key, None)  # type: ignore[misc]  # bound as default
            return
        for rows in together(seen):
            for watch in watches:
                self._say(_said(lambda watch=watch, rows=rows: watch.rows(rows)), key, first.context, rows.at)  # type: ignore[misc]  # bound as default

    def _of_labels(self, events: list[Event]) -> None:
        first = events[0].attributes
        model = str(first.get(names.MODEL))
        version = cast("str | None", first.get(names.VERSION))
        watches = self._of(model, version)
        taken = [one for one in events if one.attributes.get(names.LABEL_RESULT) == names.MATCHED]
        if not watches or not taken:
            return
        labels = Labels(
            [_label(one, names.CLASS_ACTUAL, names.ACTUAL_VALUE) for one in taken],
            [_label(one, names.CLASS_PREDICTED, names.PREDICTED_VALUE) for one in taken],
            [_number(one.attributes.get(names.SCORE)) for one in taken],
            [_when(one) for one in taken],
            _segments(taken),
        )
        for watch in watches:
            said = _said(lambda watch=watch: watch.labels(labels))  # type: ignore[misc]  # bound as default
            self._say(said, (model, version), taken[-1].context, labels.at[-1])

    def _of(self, model: str, version: str | None) -> list[Watch]:
        found = self._watches.get((model, version))
        if found is None:
            if len(self._watches) >= MOST:
                return []
            found = [cast("Watch", one.watch()) for one in self._models if _is_for(one, model)]
            self._watches[model, version] = found
        return found

    # ------------------------------------------------------------------------------------------------- runs
    def _of_a_run(self, event: Event) -> None:
        id = str(event.attributes.get(names.RUN_ID))
        run = self._runs.get(id)
        if run is None:
            if len(self._runs) >= MOST or not self._training or event.name == names.TRAINING_COMPLETED:
                return
            model = str(event.attributes.get(names.MODEL))
            watches = [cast("TrainingWatch", one.watch()) for one in self._training if _is_for(one, model)]
            version = cast("str | None", event.attributes.get(names.VERSION))
            run = self._runs[id] = _Run(id, model, version, event.time / 1e9, event.context, watches)
        run.at = event.time / 1e9
        passed = run.at - run.began
        if event.name == names.STEP_COMPLETED:
            step = run.step(event, passed)
            self._watch(run, lambda watch: watch.step(step))
        elif event.name == names.EPOCH_COMPLETED:
            epoch = run.epoch(event, passed)
            self._watch(run, lambda watch: watch.epoch(epoch))
        elif event.name == names.TRAINING_COMPLETED:
            self._watch(run, lambda watch: watch.ended(passed))
            del self._runs[id]

    def _watch(self, run: _Run, show: Callable[[TrainingWatch], Iterable[Said]]) -> None:
        for watch in run.watches:
            self._tell(_said(lambda watch=watch: show(watch)), run)  # type: ignore[misc]  # bound as default

    # ------------------------------------------------------------------------------------------ what they say
    def _tell(self, said: Iterable[Said], run: _Run) -> None:
        self._say(said, (run.model, run.version), run.context, run.at, run.id)

    def _say(
        self, said: Iterable[Said], key: Key, context: SpanContext | None, at: float | None = None,
        run: str | None = None,
    ) -> None:  # fmt: skip
        model, version = key
        for one in said:
            if isinstance(one, Reading):
                self._voice.read(one.instrument, one.value, model, version, one.attributes)
            elif isinstance(one, Finding):
                self._voice.find(one, model, version, at, run, context)
            else:
                self._voice.happened(one.name, one.attributes, model, version, one.at, context)


class _Run:
    """A training run that is being watched."""

    def __init__(
        self, id: str, model: str, version: str | None, began: float, context: SpanContext | None,
        watches: list[TrainingWatch],
    ) -> None:  # fmt: skip
        self.id, self.model, self.version, self.began, self.context, self.watches = (
            id, model, version, began, context, watches,
        )  # fmt: skip
        self.at = began
        self._losses: list[float] = []

    def step(self, event: Event, passed: float) -> Step:
        """Return a step as rules look at it."""
        values = _values(event)
        if "loss" in values:
            self._losses.append(values["loss"])
        index = event.attributes.get(names.STEP)
        epoch = event.attributes.get(names.EPOCH)
        return Step(index if isinstance(index, int) else -1, epoch if isinstance(epoch, int) else None, passed, values)

    def epoch(self, event: Event, passed: float) -> EpochEnd:
        """Return an epoch as rules look at it."""
        values = _values(event)
        losses, self._losses = self._losses, []
        if "loss" not in values and losses:
            values["loss"] = math.fsum(losses) / len(losses)
        index, took = event.attributes.get(names.EPOCH), event.attributes.get(names.EPOCH_SECONDS)
        prefix = names.TRAINING_TIME_OF
        phases = {
            key[len(prefix) :]: float(cast("float", value))
            for key, value in event.attributes.items()
            if key.startswith(prefix)
        }
        return EpochEnd(index if isinstance(index, int) else -1, passed, _number(took) or 0.0, values, phases)


def wants(check: Check) -> Sequence[str]:
    """Return what a check is to be shown: `inputs`, `outputs`, `labels`."""
    return cast("Sequence[str]", getattr(check, "wants", ("inputs", "outputs", "labels")))


def _is_for(check: Check, model: str) -> bool:
    chosen: object = getattr(check, "model", None)
    return chosen is None or chosen == model or (isinstance(chosen, list | tuple | frozenset) and model in chosen)


def _kind(one: Seen | Event) -> tuple[object, ...]:
    """Return what has to be equal of things that are looked at together."""
    if isinstance(one, Seen):
        return one.kind, one.model, one.version
    facts = one.attributes
    if one.name == names.GROUND_TRUTH:
        return one.name, facts.get(names.MODEL), facts.get(names.VERSION)
    return ("run",)


def together(seen: list[Seen]) -> Iterable[Rows]:
    """Return the rows of calls, those of one time and kind in one."""
    for one in seen:
        copy = cast("Snapshot", one.what)
        at = seconds(one.at)
        if one.kind == "inputs":
            yield copy.rows_at(at)
        else:
            predicted, score = outcome(copy)
            if predicted is not None:
                yield Rows({}, len(predicted), at, predicted, score)


def _said(ask: Callable[[], Iterable[Said]]) -> list[Said]:
    """Return what a check says; one that fails costs nobody else anything."""
    try:
        return list(ask())
    except BaseException:  # also SystemExit, which would end the worker for ever
        failed("ask a check")
        return []


def _values(event: Event) -> dict[str, float]:
    prefix, found = names.TRAINING_VALUE, dict[str, float]()
    for key, value in event.attributes.items():
        if key.startswith(prefix):
            number = _number(value.read() if isinstance(value, Deferred) else value)
            if number is not None:
                found[key[len(prefix) :]] = number
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _label(event: Event, of_class: str, of_value: str) -> str | float | None:
    value = event.attributes.get(of_class, event.attributes.get(of_value))
    return value if isinstance(value, str | float) else _number(value)


def _when(event: Event) -> float:
    for key in (names.PREDICTION_TIME, names.LABEL_TIME):
        at = event.attributes.get(key)
        if isinstance(at, str):
            return seconds(at)
    return event.time / 1e9


def _segments(events: list[Event]) -> dict[str, list[str | None]]:
    # Not attributes of the event: who belongs to which group stays in the process.
    known = {name for one in events for name in one.segments or ()}
    return {name: [(one.segments or {}).get(name) for one in events] for name in known}


def seconds(at: float | str) -> float:
    """Return a time in seconds since 1970; of text, as ISO 8601 and UTC where it names no zone; not a number if it is none."""
    if isinstance(at, float | int):
        return float(at)
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        return math.nan
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
