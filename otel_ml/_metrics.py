"""How our points and the user's own instruments reach an exporter in one collection, and a host's readers by replay."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricReader,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)

from otel_ml import _catalog as names
from otel_ml._ledger import NANOSECONDS, Ledger, View
from otel_ml._otel_private import (
    explicit_bounds,
    exponential_size,
    preferred_aggregation,
    preferred_temporality,
    push_exporters,
)
from otel_ml._shield import failed, tell
from otel_ml._version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_ml._buckets import Attributes
    from otel_ml._catalog import Instrument

# The exporters of hosts that add our points themselves.
MERGING: weakref.WeakSet[MetricExporter] = weakref.WeakSet()

KINDS: dict[str, type] = {"counter": Counter, "updowncounter": UpDownCounter, "histogram": Histogram}


class Collected(MetricReader):
    """Collects the user's own instruments when a sender asks. The SDK wants a subclass."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__(preferred_temporality(exporter) or None, preferred_aggregation(exporter) or None)
        self._data: MetricsData | None = None

    def read(self) -> MetricsData | None:
        """Return what the user's instruments hold, or None."""
        self._data = None
        self.collect()
        return self._data

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        self._data = metrics_data

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Senders collect, when the state is flushed."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Nothing is held here."""


class Source:
    """What one exporter collects the user's instruments from: our meter provider, and a former one that is global.

    Each reader of the SDK's has points of its own, so that a temporality or aggregation asked for is kept.
    """

    def __init__(self, exporter: MetricExporter) -> None:
        self._exporter = exporter
        self.reader = Collected(exporter)
        self._followed: Collected | None = None

    def collect(
        self, ours: Callable[[], list[Metric]], resource: Resource, scope: InstrumentationScope
    ) -> MetricsData | None:
        """Return our points and the user's in one collection; None if there is nothing."""
        followed = self._followed
        # The user's first, whose callbacks may raise: what has been taken from our ledger would be lost.
        theirs = self.reader.read()
        others = _kept(followed.read()) if followed is not None else []
        mine = merged(theirs, ours(), resource, scope)
        return MetricsData([*(mine.resource_metrics if mine is not None else ()), *others]) if others else mine

    def follow(self, provider: MeterProvider) -> None:
        """Collect from the former provider too, from now on."""
        followed = Collected(self._exporter)
        provider.add_metric_reader(followed)
        self._followed = followed

    def leave(self, provider: MeterProvider) -> None:
        """Collect from the former provider no longer; it forgets what it has kept for that."""
        reader, self._followed = self._followed or self.reader, None
        provider.remove_metric_reader(reader)


def view_of(exporter: MetricExporter) -> View:
    """Return how an exporter wants its metrics."""
    asked = preferred_temporality(exporter)
    temporality = {kind: asked[one] for kind, one in KINDS.items() if one in asked}
    aggregation = preferred_aggregation(exporter).get(Histogram)
    if aggregation is None:
        return View(temporality)
    return View(temporality, explicit_bounds(aggregation), exponential_size(aggregation))


def merged(
    theirs: MetricsData | None, ours: list[Metric], resource: Resource, scope: InstrumentationScope
) -> MetricsData | None:
    """Return both in one collection, without what was replayed into instruments; None if there is nothing."""
    kept = _kept(theirs)
    if ours:
        points = ScopeMetrics(scope, ours, scope.schema_url or "")
        if kept:
            first = kept[0]
            kept[0] = ResourceMetrics(first.resource, [*first.scope_metrics, points], first.schema_url)
        else:
            kept = [ResourceMetrics(resource, [points], resource.schema_url)]
    return MetricsData(kept) if kept else None


def _kept(collected: MetricsData | None) -> list[ResourceMetrics]:
    without = [_without_replay(one) for one in collected.resource_metrics] if collected is not None else []
    return [one for one in without if one.scope_metrics]


def _without_replay(one: ResourceMetrics) -> ResourceMetrics:
    scopes = [scope for scope in one.scope_metrics if scope.scope.name != names.REPLAY_SCOPE]
    return ResourceMetrics(one.resource, scopes, one.schema_url)


def wrapped_exporters(provider: MeterProvider | None) -> tuple[MetricExporter, ...]:
    """Return the `Merging` exporters of a host's provider, if all of its readers have one; else none of them counts."""
    if provider is None:
        return ()
    behind = push_exporters(provider)
    if behind is None:
        return tuple(MERGING)
    wrapped = tuple(one for one in MERGING if any(one is exporter for exporter in behind))
    return wrapped if len(wrapped) == len(behind) else ()


def keep_collecting(meter: Meter) -> None:
    """Keep a host's collection from being empty, so that its reader calls its exporter; the point itself is left out."""
    meter.create_observable_gauge(names.REPLAY_GAUGE, [lambda options: [Observation(1)]])


class Replay:
    """Records folded values again through a host's public instruments, in a scope of its own.

    The host's views, temporality and cardinality limits hold for them. What its SDK refuses (a negative value in a
    histogram) is counted in `refused`.
    """

    __slots__ = ("_instruments", "_meters", "_providers", "refused")

    def __init__(self, providers: Iterable[MeterProvider]) -> None:
        self._providers = tuple(providers)
        self._meters = tuple(provider.get_meter(names.REPLAY_SCOPE, VERSION) for provider in self._providers)
        self._instruments: dict[str, list[Callable[[int | float, Attributes], None]]] = {}
        self.refused = 0

    def __call__(self, instrument: Instrument, attributes: Attributes, values: list[int | float]) -> None:
        """Record the values of one series, in the order in which they were measured."""
        scale = NANOSECONDS if instrument.unit == "s" else 1
        records = self._records(instrument)
        if instrument.kind == "histogram":
            allowed = [value for value in values if value >= 0]
            self._refuse(len(values) - len(allowed))
        elif instrument.kind == "counter":
            allowed = [sum(value for value in values if value >= 0)]
            self._refuse(sum(1 for value in values if value < 0))
        elif instrument.kind == "updowncounter":
            allowed = [sum(values)]
        else:
            allowed = values[-1:]
        for record in records:
            for value in allowed:
                record(value / scale if scale != 1 else value, attributes)

    def behind(self, lost: int) -> None:
        """Count values that came faster than they could be replayed."""
        if lost:
            self.refused += lost
            tell(
                "refused:backlog",
                f"Calls are made faster than the host's OpenTelemetry SDK records them ({self.refused} values dropped). "
                "Pass exporters=[...] to otel_ml.configure(), which folds values instead.",
            )

    def at_collection(self, ledger: Ledger) -> None:
        """Have a host's collection fold first: its callbacks run before its synchronous instruments are read."""
        for provider, meter in zip(self._providers, self._meters, strict=True):
            ledgers = _FOLDED.get(provider)
            if ledgers is None:
                ledgers = _FOLDED[provider] = _Ledgers()
                # Once a provider: of a second instrument of the same name the SDK ignores the callback.
                meter.create_observable_gauge(names.REPLAY_GAUGE, [ledgers.fold])
            ledgers.add(ledger)

    def _refuse(self, count: int) -> None:
        if count:
            self.refused += count
            tell(
                "refused:negative",
                f"The host's OpenTelemetry SDK takes no negative values here ({self.refused} dropped so far). "
                "Pass exporters=[...] to otel_ml.configure() to keep them.",
            )

    def _records(self, instrument: Instrument) -> list[Callable[[int | float, Attributes], None]]:
        found = self._instruments.get(instrument.name)
        if found is None:
            found = self._instruments[instrument.name] = [_record(meter, instrument) for meter in self._meters]
        return found


class _Ledgers:
    """The ledgers, of one configuration after another, that are replayed into one provider."""

    def __init__(self) -> None:
        # With the process: what a parent has measured is not for its forked child to replay.
        self._known: list[tuple[int, weakref.ref[Ledger]]] = []

    def add(self, ledger: Ledger) -> None:
        """Have a ledger folded for as long as somebody holds it."""
        self._known = [
            *((pid, one) for pid, one in self._known if one() is not None),
            (os.getpid(), weakref.ref(ledger)),
        ]

    def fold(self, options: CallbackOptions) -> Iterable[Observation]:
        """Fold them all; a callback that observes nothing itself."""
        try:
            for pid, known in self._known:
                ledger = known()
                if ledger is not None and pid == os.getpid():
                    ledger.fold_all()
        except Exception:
            failed("replay values")
        return ()


_FOLDED: weakref.WeakKeyDictionary[MeterProvider, _Ledgers] = weakref.WeakKeyDictionary()


def _record(meter: Meter, instrument: Instrument) -> Callable[[int | float, Attributes], None]:
    name, unit, meaning = instrument.name, instrument.unit, instrument.meaning
    if instrument.kind == "histogram":
        return meter.create_histogram(
            name, unit, meaning, explicit_bucket_boundaries_advisory=list(instrument.buckets)
        ).record
    if instrument.kind == "counter":
        return meter.create_counter(name, unit, meaning).add
    if instrument.kind == "updowncounter":
        return meter.create_up_down_counter(name, unit, meaning).add
    return meter.create_gauge(name, unit, meaning).set
