"""What our series add up to equals what the official aggregations make of the same values, for every reader at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)

import otel_ml
from otel_ml import _calls
from otel_ml import _catalog as names
from otel_ml._catalog import Instrument
from otel_ml._ledger import MAX_SERIES, Ledger
from otel_ml._metrics import view_of
from tests.recorder import Metrics, Point, Recorder, metrics, points, same_rules

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE


@dataclass(frozen=True)
class Wish:
    """How one exporter wants its metrics."""

    temporality: dict[type, AggregationTemporality]
    aggregation: dict[type, Aggregation]

    def exporter(self) -> Metrics:
        """Return an exporter that asks our ledger for it."""
        return Metrics(self.temporality, self.aggregation)

    def reader(self) -> InMemoryMetricReader:
        """Return a reader that asks the SDK for it."""
        return InMemoryMetricReader(self.temporality, self.aggregation)


def all_of(one: AggregationTemporality) -> dict[type, AggregationTemporality]:
    """Return one temporality for every kind of instrument."""
    return {Counter: one, UpDownCounter: one, Histogram: one}


EXPONENTIAL: dict[type, Aggregation] = {Histogram: ExponentialBucketHistogramAggregation()}
SMALL: dict[type, Aggregation] = {Histogram: ExponentialBucketHistogramAggregation(max_size=7, max_scale=5)}
CUSTOM: dict[type, Aggregation] = {Histogram: ExplicitBucketHistogramAggregation([0.001, 0.01, 1, 100])}
WISHES = (
    Wish({}, {}),
    Wish(all_of(DELTA), {}),
    Wish(all_of(CUMULATIVE), EXPONENTIAL),
    Wish(all_of(DELTA), EXPONENTIAL),
    Wish(all_of(DELTA), SMALL),
    Wish(all_of(CUMULATIVE), SMALL),
    Wish(all_of(CUMULATIVE), CUSTOM),
)

LABELS = st.sampled_from([{"ml.model.name": "churn"}, {"ml.model.name": "churn", "tier": "gold"}])
EDGES = [round(edge * 1e9) + off for edge in names.DURATION_BUCKETS for off in (-1, 0, 1)]
NANOSECONDS = st.integers(1, 10**12) | st.sampled_from(EDGES) | st.sampled_from([2**n for n in range(50)])
ROWS = st.integers(1, 10_000) | st.sampled_from([int(edge) for edge in names.SIZE_BUCKETS])
FLOATS = st.floats(0, 1e18, exclude_min=True, allow_subnormal=False) | st.integers(-40, 40).map(lambda n: 2.0**n)


def rounds(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[tuple[dict[str, str], float]]]]:
    """Return what is measured between one collection and the next, several times over."""
    return st.lists(st.lists(st.tuples(LABELS, values), max_size=12), min_size=1, max_size=5)


class Both:
    """Our ledger and the SDK, with the same readers."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.ledger = Ledger(tuple(view_of(wish.exporter()) for wish in WISHES))
        self.readers = [wish.reader() for wish in WISHES]
        meter = MeterProvider(self.readers, shutdown_on_exit=False).get_meter("oracle")
        self.scale = 1e9 if instrument.unit == "s" else 1
        name, unit = instrument.name, instrument.unit
        if instrument.kind == "histogram":
            bounds = list(instrument.buckets)
            self.record = meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds).record
        elif instrument.kind == "counter":
            self.record = meter.create_counter(name, unit).add
        else:
            self.record = meter.create_up_down_counter(name, unit).add

    def measure(self, labels: dict[str, str], value: float) -> None:
        """Measure one value with both."""
        self.ledger.series(self.instrument, {**labels}).append(value)
        self.record(value / self.scale if self.scale != 1 else value, {**labels})

    def collect(self, reader: int) -> tuple[list[Point], list[Point]]:
        """Return our points and the SDK's, in the same order."""
        ours = [p for metric in self.ledger.collect(reader) for p in metric.data.data_points]
        data = self.readers[reader].get_metrics_data()
        theirs = points(data, self.instrument.name) if data is not None else []
        return sorted(ours, key=key), sorted(theirs, key=key)


def key(point: Point) -> str:
    """Return what tells one series from another."""
    return repr(sorted((point.attributes or {}).items()))


def shape(point: Point) -> dict[str, object]:
    """Return everything of a point but its sum and its times."""
    found: dict[str, object] = {"attributes": dict(point.attributes or {})}
    if isinstance(point, HistogramDataPoint):
        found |= {"buckets": [*point.bucket_counts], "bounds": [*point.explicit_bounds]}
    if isinstance(point, ExponentialHistogramDataPoint):
        found |= {"scale": point.scale, "zeros": point.zero_count, "flags": point.flags}
        found |= {
            side: {buckets.offset + n: count for n, count in enumerate(buckets.bucket_counts) if count}
            for side, buckets in (("positive", point.positive), ("negative", point.negative))
        }
    if not isinstance(point, NumberDataPoint):
        found |= {"count": point.count, "min": point.min, "max": point.max}
    return found


def total(point: Point) -> float:
    """Return a point's sum or value."""
    return point.value if isinstance(point, NumberDataPoint) else point.sum


def check_times(seen: dict[tuple[int, str], int], reader: int, delta: bool, ours: Sequence[Point]) -> None:
    """Each point covers a stretch of time that begins where the reader's last one ended, or always at the same start."""
    for point in ours:
        assert point.start_time_unix_nano is not None
        assert point.start_time_unix_nano <= point.time_unix_nano
        before = seen.get((reader, key(point)))
        if before is not None:
            assert point.start_time_unix_nano >= before if delta else point.start_time_unix_nano == before
        seen[reader, key(point)] = point.time_unix_nano if delta else point.start_time_unix_nano


@pytest.mark.parametrize(
    ("instrument", "values"),
    [
        (names.PREDICTION_DURATION, NANOSECONDS),
        (names.PREDICTION_BATCH_SIZE, ROWS),
        (names.PREDICTION_BATCH_SIZE, FLOATS),
    ],
    ids=["durations", "sizes", "floats"],
)
@same_rules
@pytest.mark.parametrize("examples", [80, pytest.param(2_000, marks=pytest.mark.slow)])
def test_histograms(instrument: Instrument, values: st.SearchStrategy[float], examples: int) -> None:
    """Explicit and exponential, delta and cumulative, side by side over several collections: all as the SDK's."""

    @settings(max_examples=examples, deadline=None)
    @given(rounds(values), st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=5, max_size=5))
    def check(measured: list[list[tuple[dict[str, str], float]]], asks: list[list[bool]]) -> None:
        both = Both(instrument)
        seen: dict[tuple[int, str], int] = {}
        for turn, values in enumerate(measured):
            for labels, value in values:
                both.measure(labels, value)
            for reader, wish in enumerate(WISHES):
                if asks[turn][reader] or turn == len(measured) - 1:
                    ours, theirs = both.collect(reader)
                    assert [shape(one) for one in ours] == [shape(one) for one in theirs]
                    for one, other in zip(ours, theirs, strict=True):
                        assert math.isclose(total(one), total(other), rel_tol=1e-9, abs_tol=1e-9)
                    check_times(seen, reader, wish.temporality.get(Histogram) is DELTA, ours)

    check()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_zeros(values: list[int]) -> None:
    """Zeros have their place in both kinds of buckets, as in the SDK's."""
    # In one collection: the SDK's cumulative exponential one goes wrong after a collection of nothing but zeros.
    both = Both(names.PREDICTION_BATCH_SIZE)
    for value in values:
        both.measure({"ml.model.name": "churn"}, value)

    for reader in range(len(WISHES)):
        (ours,), (theirs,) = both.collect(reader)
        assert shape(ours) == shape(theirs)
        assert total(ours) == total(theirs)


@pytest.mark.parametrize(
    ("instrument", "values"),
    [
        (names.PREDICTION_SAMPLES, st.integers(0, 10**6)),
        (names.TRAINING_TIME, st.integers(0, 10**12)),
        (names.PREDICTION_ACTIVE, st.integers(-5, 5)),
    ],
    ids=["counter", "seconds", "updown"],
)
def test_sums(instrument: Instrument, values: st.SearchStrategy[float]) -> None:
    """Counters and up-down counters, delta and cumulative, are the SDK's; a delta of nothing may be left out."""

    @settings(max_examples=80, deadline=None)
    @given(rounds(values), st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=5, max_size=5))
    def check(measured: list[list[tuple[dict[str, str], float]]], asks: list[list[bool]]) -> None:
        both = Both(instrument)
        seen: dict[tuple[int, str], int] = {}
        for turn, values in enumerate(measured):
            for labels, value in values:
                both.measure(labels, value)
            for reader, wish in enumerate(WISHES):
                if asks[turn][reader] or turn == len(measured) - 1:
                    ours, theirs = both.collect(reader)
                    delta = wish.temporality.get(Counter) is DELTA
                    check_times(seen, reader, delta, ours)
                    by_us = {key(one): total(one) for one in ours if not delta or total(one)}
                    by_them = {key(one): total(one) for one in theirs if not delta or total(one)}
                    assert by_us == pytest.approx(by_them)

    check()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=False) | st.integers(-(2**40), 2**40), min_size=1, max_size=6))
def test_gauges(values: list[float]) -> None:
    """A gauge is its latest value, whatever the reader wants, as the SDK's synchronous gauge."""
    recorders = [Recorder(wish.temporality, wish.aggregation) for wish in WISHES[:2]]
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("oracle")
    gauge = meter.create_gauge("ml.training.loss", "1")
    with otel_ml.configure(exporters=recorders, set_global=False) as telemetry:
        with otel_ml.train("churn") as run:
            for value in values:
                if math.isfinite(value):
                    run.log(loss=value)
                    gauge.set(value, {"ml.model.name": "churn", "ml.dataset.split": "train"})
        telemetry.flush()

    data = reader.get_metrics_data()
    theirs = [(dict(p.attributes or {}), total(p)) for p in points(data, "ml.training.loss")] if data else []
    for recorder in recorders:
        ours = [(dict(p.attributes or {}), total(p)) for p in recorder.points("ml.training.loss")]
        assert ours == theirs


@same_rules
def test_an_overflow_keeps_totals_right() -> None:
    """After 2,000 attribute sets the rest share one series, as in the SDK, and nothing is lost from the totals."""
    both = Both(names.PREDICTION_SAMPLES)
    for n in range(MAX_SERIES + 500):
        both.measure({"ml.model.name": f"model-{n}"}, n)
        both.measure({"ml.model.name": f"model-{n}"}, 1)

    ours, theirs = both.collect(0)
    assert len(ours) == MAX_SERIES + 1
    assert [(shape(one), total(one)) for one in ours] == [(shape(one), total(one)) for one in theirs]
    assert sum(map(total, ours)) == sum(range(MAX_SERIES + 500)) + MAX_SERIES + 500


def test_an_overflow_of_labels() -> None:
    """Labels with too many values cost their own detail only: calls, samples and errors still add up."""
    recorder = Recorder()
    otel_ml.configure(exporters=[recorder], set_global=False)

    for n in range(MAX_SERIES + 300):
        with otel_ml.predict("churn") as call:
            call.inputs([[1.0], [2.0]])
            call.label(user=f"user-{n}")
    for n in range(50):
        with contextlib.suppress(ZeroDivisionError), otel_ml.predict("churn") as call:
            call.label(user=f"other-{n}")
            raise ZeroDivisionError
    for n in range(30):
        with otel_ml.predict("fraud") as call:
            call.label(user=f"user-{n}")

    assert otel_ml.flush(10.0)
    calls = MAX_SERIES + 380
    assert recorder.value("ml.prediction.duration") == calls
    assert recorder.value("ml.prediction.batch.size") == calls
    assert recorder.value("ml.prediction.samples") == 2 * (MAX_SERIES + 300) + 80
    assert recorder.value("ml.prediction.errors") == 50
    assert [point.value for point in recorder.points("ml.prediction.active")] == [0, 0]  # type: ignore[union-attr]  # a sum
    for name in ("duration", "samples", "batch.size"):
        assert len(recorder.points(f"ml.prediction.{name}")) <= MAX_SERIES + 1


def test_an_overflow_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 2,000 models share the series of `_OTHER`; the number of calls still adds up."""
    # The sites of `with` blocks live as long as the process.
    monkeypatch.setattr(_calls, "_sites", {})
    recorder = Recorder()
    otel_ml.configure(exporters=[recorder], set_global=False)

    for n in range(MAX_SERIES + 300):
        with otel_ml.predict(f"model-{n}"):
            pass

    assert otel_ml.flush(10.0)
    assert recorder.value("ml.prediction.duration") == MAX_SERIES + 300
    assert recorder.value("ml.prediction.active") == 0
    assert len(recorder.points("ml.prediction.duration")) <= MAX_SERIES + 1
    assert len({span.name for span in recorder.spans}) <= MAX_SERIES + 1


def work(calls: int) -> None:
    """Make calls of every kind of outcome."""

    @otel_ml.predict(model="churn", version="1")
    def score(rows: list[list[float]]) -> None:
        if len(rows) == 3:
            raise ZeroDivisionError

    for n in range(calls):
        try:
            score([[1.0]] * (n % 4))
        except ZeroDivisionError:
            pass


def test_our_exporters_and_a_foreign_reader_side_by_side() -> None:
    """A reader in the list sees by replay what our exporters see directly: same counts, same buckets, none of it twice."""
    ours, delta, exponential = Recorder(), Recorder(all_of(DELTA)), Recorder(aggregation=EXPONENTIAL)
    reader = InMemoryMetricReader()
    otel_ml.configure(exporters=[ours, reader, delta, exponential], set_global=False)
    deltas: dict[tuple[str, str], float] = {}

    for _ in range(3):
        work(40)
        assert otel_ml.flush(10.0)
        data = reader.get_metrics_data()
        assert data is not None
        assert_same(ours, data)
        for metric in metrics(delta.collections[-1]):
            for point in metric.data.data_points:
                if isinstance(metric.data, Sum) or not isinstance(point, NumberDataPoint):
                    value = point.value if isinstance(point, NumberDataPoint) else point.count
                    deltas[metric.name, key(point)] = deltas.get((metric.name, key(point)), 0) + value
        delta.forget()

    assert ours.value("ml.prediction.duration") == 120
    assert exponential.value("ml.prediction.duration") == 120
    assert deltas == {
        (metric.name, key(point)): point.value if isinstance(point, NumberDataPoint) else point.count
        for metric in metrics(ours.collections[-1])
        for point in metric.data.data_points
    }


def assert_same(recorder: Recorder, data: MetricsData) -> None:
    """Our last collection and a foreign reader's say the same."""
    mine = {m.name: m for m in metrics(recorder.collections[-1])}
    theirs = {m.name: m for m in metrics(data) if [*m.data.data_points]}
    assert len([*metrics(recorder.collections[-1])]) == len(mine)
    assert {name for name in theirs if name.startswith("ml.")} <= set(mine)
    for name, metric in mine.items():
        ours = sorted(metric.data.data_points, key=key)
        # A series that never got a value is not known to the reader.
        others = {key(one): one for one in theirs[name].data.data_points} if name in theirs else {}
        for one in ours:
            if total(one) or key(one) in others:
                assert shape(one) == shape(others[key(one)])
                assert total(one) == pytest.approx(total(others[key(one)]))
        assert set(others) <= {key(one) for one in ours}
        if name in theirs:
            assert (metric.unit, metric.description) == (theirs[name].unit, theirs[name].description)


def test_a_joined_meter_provider() -> None:
    """A host's reader gets every call once, with its own views; there is no other way the points go."""
    reader = InMemoryMetricReader(all_of(DELTA))
    host = MeterProvider([reader], shutdown_on_exit=False)

    with otel_ml.configure(meter_provider=host):
        for _ in range(3):
            work(40)
            data = reader.get_metrics_data()
            assert data is not None
            assert sum(p.count for p in points(data, "ml.prediction.duration")) == 40  # type: ignore[union-attr]  # a histogram
            samples = {
                dict(p.attributes or {}).get("error.type"): total(p) for p in points(data, "ml.prediction.samples")
            }
            assert samples == {None: 30, "ZeroDivisionError": 30}
            assert [total(p) for p in points(data, "ml.prediction.errors")] == [10]


def test_a_host_and_our_exporters_together() -> None:
    """With exporters and a host's meter provider joined, each gets every call once."""
    ours, reader, foreign = Recorder(), InMemoryMetricReader(), InMemoryMetricReader()
    host = MeterProvider([reader], shutdown_on_exit=False)

    with otel_ml.configure(exporters=[ours, foreign], meter_provider=host, set_global=False) as telemetry:
        work(40)
        assert telemetry.flush()
        for one in (reader, foreign):
            data = one.get_metrics_data()
            assert data is not None
            assert_same(ours, data)
        assert ours.value("ml.prediction.duration") == 40


@pytest.mark.shielded
def test_what_a_host_refuses_is_counted() -> None:
    """The SDK takes no negative values in a histogram or counter: they are counted as dropped, and ours keep them."""
    ours, reader = Recorder(), InMemoryMetricReader()
    host = MeterProvider([reader], shutdown_on_exit=False)
    with otel_ml.configure(exporters=[ours], meter_provider=host, set_global=False) as telemetry:
        series = telemetry.state.ledger.series(names.PREDICTION_BATCH_SIZE, {"ml.model.name": "odd"})
        for value in (-3, 5, -1):
            series.append(value)
        with otel_ml.train("churn") as run:
            run.log(loss=-2.5)
        telemetry.flush()

        assert telemetry.health().refused == 2
        assert telemetry.health().dropped == 2
        (point,) = ours.points("ml.prediction.batch.size")
        assert (point.count, point.sum, point.min) == (3, 1, -3)  # type: ignore[union-attr]  # a histogram
        data = reader.get_metrics_data()
        assert data is not None
        assert [p.count for p in points(data, "ml.prediction.batch.size")] == [1]  # type: ignore[union-attr]  # likewise
        assert [total(p) for p in points(data, "ml.training.loss")] == [-2.5]
        assert ours.value("ml.training.loss") == -2.5


def test_the_users_own_instruments_go_to_the_same_exporters() -> None:
    """Instruments made with our meter provider arrive once at each exporter, as that one wants them."""
    cumulative, delta = Recorder(), Recorder(all_of(DELTA), EXPONENTIAL)
    with otel_ml.configure(exporters=[cumulative, delta], set_global=False) as telemetry:
        meter = telemetry.meter_provider.get_meter("app")
        counter, histogram = meter.create_counter("orders"), meter.create_histogram("price")
        for _ in range(3):
            counter.add(2)
            histogram.record(1.5)
            assert telemetry.flush()

    assert [total(p) for data in cumulative.collections for p in points(data, "orders")][:3] == [2, 4, 6]
    assert [total(p) for data in delta.collections for p in points(data, "orders")] == [2, 2, 2]
    assert all(
        isinstance(p, ExponentialHistogramDataPoint) for data in delta.collections for p in points(data, "price")
    )
