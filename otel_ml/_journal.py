"""Where the numbers of one training run go: events for every step, gauges, counters and the phases of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING

from otel_ml import _catalog as names
from otel_ml._clock import CLOCK
from otel_ml._values import INT64, as_name, clean, describe, number, on_device, qualified

if TYPE_CHECKING:
    from typing import Protocol

    from opentelemetry.trace import SpanContext

    from otel_ml._buckets import Attributes
    from otel_ml._catalog import Instrument
    from otel_ml._state import State

    class Scalar(Protocol):
        """A numpy scalar or a 0-d tensor."""

        def item(self) -> float | int | bool: ...

    Logged = float | int | bool | str | Scalar | None

_INFINITY = float("inf")

# Which of the user's values also set a gauge: by the names people give them.
GAUGES: dict[str, Instrument] = {
    "loss": names.TRAINING_LOSS,
    "learning_rate": names.TRAINING_LEARNING_RATE,
    "lr": names.TRAINING_LEARNING_RATE,
    "gradient_norm": names.TRAINING_GRADIENT_NORM,
    "grad_norm": names.TRAINING_GRADIENT_NORM,
    "accuracy": names.EVALUATION_ACCURACY,
    "precision": names.EVALUATION_PRECISION,
    "recall": names.EVALUATION_RECALL,
    "f1": names.EVALUATION_F1,
}
SPLITS = {"": "train", "train_": "train", "val_": "validation", "validation_": "validation", "test_": "test"}


class Journal:
    """Writes down one run under one state."""

    __slots__ = (
        "_accounted", "_base", "_by_epoch", "_emit", "_keys", "_model", "_note_step", "_parts", "_phases", "_setters", "_state",
        "_step_duration", "_steps", "_version", "context",
    )  # fmt: skip

    def __init__(self, state: State, model: str, version: str | None, run: str, context: SpanContext | None) -> None:
        self._state, self._model, self._version, self.context = state, model, version, context
        self._emit, self._note_step = state.log, state.ledger.note
        self._base: dict[str, object] = {names.MODEL: model, names.RUN_ID: run}
        if version is not None:
            self._base[names.VERSION] = version
        self._keys: dict[str, str] = {}
        self._setters: dict[str, Callable[[float], None] | None] = {}
        identity = {k: v for k, v in self._base.items() if k != names.RUN_ID}
        self._steps = state.ledger.series(names.TRAINING_STEPS, identity)  # type: ignore[arg-type]  # strings
        self._step_duration = state.ledger.series(names.TRAINING_STEP_DURATION, identity)  # type: ignore[arg-type]  # strings
        self._phases: dict[str, float] = {}
        self._accounted: dict[str, float] = {}
        self._by_epoch: dict[str, float] = {}
        self._parts = 0

    def step(self, number_: int, epoch: int | None, values: Mapping[str, Logged], took: int) -> None:
        """Emit the event of one step, and set the gauges its values have."""
        attributes = self._base.copy()
        attributes[names.STEP] = number_ if type(number_) is int else clean(number_, 256)
        if epoch is not None:
            attributes[names.EPOCH] = epoch
        text = self._put(values, attributes)
        self._note_step(self._steps, 1)
        if took:
            self._note_step(self._step_duration, took)
        self._emit(names.STEP_COMPLETED, perf_counter_ns() + CLOCK.anchor, attributes, self.context, text)

    def epoch(self, index: int, seconds: float, steps: int, values: Mapping[str, Logged], outcome: str) -> None:
        """Emit the event of one epoch."""
        attributes: dict[str, object] = {
            names.EPOCH: index,
            names.EPOCH_SECONDS: seconds,
            names.STEPS: steps,
            names.RUN_OUTCOME: outcome,
        }
        for phase, spent in self._phases.items():
            attributes[names.TRAINING_TIME_OF + phase] = spent - self._by_epoch.get(phase, 0.0)
        self._by_epoch = dict(self._phases)
        self._put(values, attributes)
        self._state.count(names.TRAINING_EPOCHS, self._model, self._version, {})
        self._state.measure(names.TRAINING_EPOCH_DURATION, self._model, self._version, seconds)
        self.event(names.EPOCH_COMPLETED, attributes)

    def event(self, name: str, attributes: Mapping[str, object]) -> None:
        """Emit an event of this run."""
        self._emit(name, perf_counter_ns() + CLOCK.anchor, {**self._base, **attributes}, self.context)

    def gauge(self, values: Mapping[str, Logged]) -> None:
        """Set the gauges of values whose event comes later; what is not finite is counted with the event."""
        for key, value in values.items():
            found = number(value)
            setter = self._setter(key)
            if setter is not None and found is not None and -_INFINITY < found < _INFINITY:
                setter(found)

    def samples(self, count: int) -> None:
        """Count rows trained on."""
        self._state.count(names.TRAINING_SAMPLES, self._model, self._version, {}, count)

    def stepped(self, nanoseconds: int) -> None:
        """Note how long one step took, waiting for data left out."""
        self._note_step(self._step_duration, nanoseconds)

    def spent(self, phase: str, seconds: float) -> None:
        """Add to a phase of the run's time."""
        self._phases[phase] = self._phases.get(phase, 0.0) + seconds

    def begin_part(self) -> float:
        """Note that an evaluation or a checkpoint begins; return the time that phases have taken so far."""
        self._parts += 1
        return sum(self._phases.values())

    def end_part(self, phase: str, seconds: float, before: float) -> None:
        """Add to a phase what its part took, without what other phases took meanwhile: no time counts twice."""
        self._parts -= 1
        self.spent(phase, max(0.0, seconds - (sum(self._phases.values()) - before)))

    def account(self, total: float, *, last: bool = False) -> None:
        """Move the time since the last account to its phases' counters; what no phase took is `other`."""
        if self._parts and not last:
            return
        known = sum(self._phases.values())
        phases = {**self._phases, names.OTHER_PHASE: max(0.0, total - known)}
        for phase, seconds in phases.items():
            more = int((seconds - self._accounted.get(phase, 0.0)) * 1e9)
            if more > 0:
                self._state.count(names.TRAINING_TIME, self._model, self._version, {names.PHASE: phase}, more)
                self._accounted[phase] = seconds

    def ended(self, seconds: float, error: BaseException | None) -> None:
        """Note how long the run took, and what ended it."""
        kind = {} if error is None else {names.ERROR_TYPE: qualified(type(error))}
        identity = {k: str(v) for k, v in self._base.items() if k != names.RUN_ID}
        self._state.ledger.series(names.TRAINING_DURATION, {**identity, **kind}).append(int(seconds * 1e9))

    def _put(self, values: Mapping[str, Logged], attributes: dict[str, object]) -> int:
        keys, text = self._keys, 0
        for key, value in values.items():
            name = keys.get(key)
            if name is None:
                name = self._key(key)
            kind = type(value)
            if kind is float or (kind is int and -INT64 <= value < INT64):  # type: ignore[operator]  # an int
                attributes[name] = value
                self._note(key, value)  # type: ignore[arg-type]  # its exact type is a number
            elif on_device(value):
                self._defer(key, name, value, attributes)
            else:
                found = number(value)
                attributes[name] = clean(value, 1024) if found is None else found
                if found is None:
                    text += 1_024
                else:
                    self._note(key, found)
        return text

    def _note(self, key: str, value: float) -> None:
        if not -_INFINITY < value < _INFINITY:
            name = as_name(key)
            kind = "loss" if name.endswith("loss") else "gradient" if name.startswith("grad") else "metric"
            self._state.count(names.TRAINING_NONFINITE, self._model, self._version, {names.TENSOR_KIND: kind})
            return
        try:
            setter = self._setters[key]
        except KeyError:
            setter = self._setter(key)
        if setter is not None:
            setter(value)

    def _defer(self, key: str, name: str, value: object, attributes: dict[str, object]) -> None:
        if getattr(value, "shape", None) != ():
            attributes[name] = describe(value)
            return
        deferred = self._state.defer(value, lambda found: self._note(key, found))
        if deferred is not None:
            attributes[name] = deferred

    def _key(self, key: str) -> str:
        made = names.TRAINING_VALUE + str(clean(key, 128))
        if len(self._keys) < 1_000:
            self._keys[key] = made
        return made

    def _setter(self, key: str) -> Callable[[float], None] | None:
        if key in self._setters:
            return self._setters[key]
        if type(key) is not str:
            return None
        prefix = next((one for one in ("train_", "val_", "validation_", "test_") if key.startswith(one)), "")
        instrument = GAUGES.get(key[len(prefix) :])
        made = None
        if instrument is not None:
            split: Attributes = {names.SPLIT: SPLITS[prefix]} if names.SPLIT in instrument.attributes else {}
            made = self._state.gauge_setter(instrument, self._model, self._version, split)
        if len(self._setters) < 1_000:
            self._setters[key] = made
        return made
