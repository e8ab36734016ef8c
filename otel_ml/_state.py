"""Everything that one `configure()` set up: providers, sinks and series; replaced whole, never changed in part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_ml import _catalog as names
from otel_ml._accounts import Accounts
from otel_ml._deferred import Deferrals, Deferred
from otel_ml._events import Event
from otel_ml._frames import current_frame
from otel_ml._health_writer import HealthWriter
from otel_ml._ledger import Ledger
from otel_ml._observe import Path
from otel_ml._otel_private import release_reader
from otel_ml._outcomes import ClassNames, Outcome, Outcomes, Remembered
from otel_ml._predictions import ModelSeries
from otel_ml._providers import Closes, Outlet, begin_close, begin_flush
from otel_ml._scope import Scope, outcome_of
from otel_ml._sink import Sink
from otel_ml._span import LightSpan
from otel_ml._tracing import Tracing
from otel_ml._values import clean

if TYPE_CHECKING:
    from weakref import WeakKeyDictionary

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.trace import SpanContext, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from otel_ml._alarm import Alarm
    from otel_ml._buckets import Attributes
    from otel_ml._catalog import Instrument
    from otel_ml._folder import Folder
    from otel_ml._metrics import Replay
    from otel_ml._site import Site
    from otel_ml._watching import Watching

# A span class takes 2.8 KB: after this many models, versions and labels the rest share one.
MAX_CLASSES = 2_000
GRACE = 0.15

ModelKey = tuple[str, str | None, str]


@dataclass(frozen=True)
class State:
    """One configuration at work. `forked` is true in the state that stands in until a child makes its own."""

    resource: Resource
    instrumentation_scope: InstrumentationScope
    tracing: Tracing
    ledger: Ledger
    sinks: tuple[Sink, ...]
    outlet: Outlet
    event_outs: tuple[Callable[[Event], None], ...]
    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    slow_ns: float
    keeps: bool
    merging: WeakKeyDictionary[MetricExporter, int]
    replay: Replay | None
    folder: Folder | None
    spans: bool
    foreign: tuple[Closes, ...]
    rebuild: Callable[[], State]
    accounts: Accounts
    deferrals: Deferrals
    health_writer: HealthWriter
    watching: Watching | None = None
    alarms: tuple[Alarm, ...] = ()
    forked: bool = False
    outcomes: Outcomes = field(default_factory=Outcomes)
    _models: dict[ModelKey, ModelSeries] = field(default_factory=dict[ModelKey, ModelSeries])
    _classes: dict[tuple[object, ...], type[LightSpan]] = field(
        default_factory=dict[tuple[object, ...], type[LightSpan]]
    )
    _paths: dict[Site, Path] = field(default_factory=dict["Site", Path])
    class_names: ClassNames = field(default_factory=ClassNames)

    def path(self, site: Site) -> Path:
        """Return how `site` is observed under this state; starts the senders, since a record is about to come."""
        found = self._paths.get(site)
        if found is None:
            self.start()
            models = self.models(site.model, site.version, site.operation)
            found = Path(self, site, models, self.span_class(site) if site.spans and self.spans else None)
            if len(self._paths) < MAX_CLASSES:
                self._paths[site] = found
        return found

    def successor(self) -> State:
        """Return the state that takes this one's place."""
        return self

    def start(self) -> None:
        """Start the senders that are not running yet."""
        for sink in self.sinks:
            sink.start()
        if self.folder is not None:
            self.folder.start()

    def models(self, model: str, version: str | None, operation: str) -> ModelSeries:
        """Return the series of one model and version; after 2,000 of them the rest share one."""
        key = (model, version, operation)
        found = self._models.get(key)
        if found is None:
            if len(self._models) >= MAX_CLASSES:
                key = (names.OTHER, None, operation)
                found = self._models.get(key)
                if found is not None:
                    return found
            made = ModelSeries(self.ledger, identity(key[0], key[1]), operation)
            found = self._models.setdefault(key, made)
        return found

    def span_class(self, site: Site) -> type[LightSpan]:
        """Return the span class of a model, version and labels, with everything that is the same for every call."""
        key = (site.model, site.version, site.operation, tuple(sorted(site.labels.items())))
        found = self._classes.get(key)
        if found is None:
            over = len(self._classes) >= MAX_CLASSES
            if over:
                key = (names.OTHER, None, site.operation, ())
                found = self._classes.get(key)
                if found is not None:
                    return found
            model = names.OTHER if over else site.model
            facts: dict[str, AttributeValue] = {
                names.OPERATION: site.operation,
                **identity(model, None if over else site.version),
                **({} if over else site.labels),
                names.BATCH_SIZE: 1,
                names.OUTCOME: names.SUCCESS,
            }
            found = self._classes.setdefault(key, self.make_class(f"{site.operation} {model}", facts))
        return found

    def part_class(self, name: str, facts: Attributes) -> type[LightSpan]:
        """Return the span class of a part of a call or run."""
        key = ("part", name, *sorted(facts.items()))
        found = self._classes.get(key)
        if found is None:
            if len(self._classes) >= MAX_CLASSES:
                name, facts = names.OTHER, {}
                key = ("part", name)
            found = self._classes.get(key) or self._classes.setdefault(key, self.make_class(name, dict(facts)))
        return found

    def current_frame(self) -> object:
        """Return the frame or run around the caller, or None."""
        return current_frame()

    def make_class(self, name: str, facts: dict[str, AttributeValue]) -> type[LightSpan]:
        """Make a span class whose spans have `name` and `facts`, within the limits."""
        limits = self.tracing.limits
        kept = {key: clean(value, limits.max_span_attribute_length) for key, value in facts.items()}
        most = limits.max_span_attributes
        lost = 0 if most is None else max(0, len(kept) - most)
        for key in list(kept)[:lost]:
            del kept[key]
        body: dict[str, object] = {
            "_name": name,
            "_resource": self.resource,
            "_instrumentation_scope": self.instrumentation_scope,
            "_limits": limits,
            "_length": limits.max_span_attribute_length,
            "_most": float("inf") if most is None else most,
            "_attributes": kept,
            "_lost": lost,
            "path": self.tracing,
        }
        return type("LightSpan", (LightSpan,), body)

    def scope(self, name: str, facts: Attributes, facade: object = None) -> Scope:
        """Begin a span that is not on the fast path, and make it current."""
        return Scope(self, self.part_class(name, facts) if self.spans else None, facade)

    def outcome_of(self, error: BaseException) -> str:
        """Return `cancelled` or `error`."""
        return outcome_of(error)

    def log(
        self,
        name: str,
        time: int,
        attributes: dict[str, object],
        context: SpanContext | None,
        text: int = 256,
        segments: dict[str, str] | None = None,
    ) -> None:
        """Emit an event: hand it to every exporter, logger and processor that takes events, and to checks."""
        event = Event(name, time, attributes, context, text)
        if segments:
            event.segments = segments
        for out in self.event_outs:
            out(event)

    def defer(self, value: object, note: Callable[[float], None]) -> Deferred | None:
        """Have a tensor on a device read by a sender."""
        return self.deferrals.defer(value, note, wanted=bool(self.event_outs))

    def gauge_setter(
        self, instrument: Instrument, model: str, version: str | None, more: Attributes
    ) -> Callable[[float], None]:
        """Return what sets a gauge of one model."""
        series = self.ledger.series(instrument, {**identity(model, version), **more})
        replayed = self.replay is not None

        def set_(value: float) -> None:
            series.latest = value
            if replayed:
                series.append(value)

        return set_

    def remember(
        self, site: Site, id: str, predicted: Outcome | None, at: str | None, context: SpanContext | None
    ) -> None:
        """Remember a prediction until its label comes; what had to go for it is counted as expired."""
        made = time()
        if self.watching is not None:
            self.watching.awaits(site.model, site.version, made if at is None else at)
        for gone in self.outcomes.put(id, Remembered(predicted, site.model, site.version, at, context, made)):
            self.count(names.GROUND_TRUTH_LABELS, gone.model, gone.version, {names.LABEL_RESULT: names.EXPIRED})

    def count(self, instrument: Instrument, model: str, version: str | None, more: Attributes, by: float = 1) -> None:
        """Add to a counter of one model."""
        self.ledger.note(self.ledger.series(instrument, {**identity(model, version), **more}), by)

    def measure(self, instrument: Instrument, model: str, version: str | None, seconds: float) -> None:
        """Add a duration to a histogram of one model."""
        self.ledger.note(self.ledger.series(instrument, identity(model, version)), int(seconds * 1e9))

    def flush(self, deadline: float) -> bool:
        """Send everything; False if anything is undelivered at the deadline."""
        if any(sink.sender.is_current() for sink in self.sinks):
            # A finalizer that the garbage collector runs in a sender would wait for itself.
            return False
        if self.watching is not None:
            self.watching.check(deadline)
        folding = self.folder.fold(deadline) if self.folder is not None else None
        others_flushed = begin_flush(self.foreign, deadline)
        requests = [sink.flush(deadline) for sink in self.sinks]
        folded = folding is None or folding.wait() is True
        return all([folded, *[request.wait() is True for request in requests], others_flushed()])

    def shutdown(self, deadline: float, shared: Sequence[object] = ()) -> bool:
        """Send everything and end, all exporters at once; what is still held at the deadline is counted as dropped.

        Exporters and processors in `shared` are flushed, but not shut down: the next state goes on using them.
        """
        if self.watching is not None:
            self.watching.check(deadline, last=True)
        folding = self.folder.fold(deadline, last=True) if self.folder is not None else None
        others_closed = begin_close([o for o in self.foreign if not any(o is one for one in shared)], deadline)
        # Of exporters of ours the next state builds its own parts.
        requests = [
            (
                sink,
                sink.close(
                    deadline,
                    shared=any(sink.given_as is one for one in shared) and not hasattr(sink.given_as, "build"),
                ),
            )
            for sink in self.sinks
        ]
        answers = [(sink, request.wait()) for sink, request in requests]
        done = all(answer is True for _, answer in answers)
        # All that hang together have this long to leave to the disk what they hold.
        until = max(deadline, monotonic()) + GRACE
        for sink, answer in answers:
            if answer is None:
                sink.abandon(until)
        if folding is not None:
            done = folding.wait() is True and done
        for one in shared:
            if isinstance(one, MetricReader) and any(one is other for other in self.foreign):
                release_reader(one)
        done = others_closed() and done
        self.health_writer.last(deadline)
        return done


def identity(model: str, version: str | None) -> Attributes:
    """Return the attributes that name a model."""
    return {names.MODEL: model} if version is None else {names.MODEL: model, names.VERSION: version}
