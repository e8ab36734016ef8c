"""Measurements: taken without a lock, folded by whoever may, and never more of them held than a little."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

import otel_ml
from otel_ml import _catalog as names
from otel_ml._ledger import FOLD_AT, Ledger, Series, View
from tests.recorder import Recorder, Spans, points, wait_for


@otel_ml.predict(model="churn")
def score(rows: list[list[float]]) -> None:
    if not rows:
        raise ZeroDivisionError


def fail() -> None:
    """Make a call that fails."""
    with pytest.raises(ZeroDivisionError):
        score([])


class TestThreads:
    def test_appending_while_others_collect_loses_nothing(self) -> None:
        """Values appended by many threads while two readers collect are all counted, once, by both."""
        ledger = Ledger((View({}), View({}, exponential=(160, 20))))
        series = ledger.series(names.PREDICTION_BATCH_SIZE, {"ml.model.name": "churn"})
        going = [True]

        def append() -> None:
            for n in range(20_000):
                series.append(n % 7)
                if n % 1_000 == 0:
                    ledger.fold_soon(lambda: None)

        def collect(reader: int) -> None:
            while going[0]:
                ledger.collect(reader)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            collectors = [threading.Thread(target=collect, args=(reader,)) for reader in (0, 1)]
            callers = [threading.Thread(target=append) for _ in range(4)]
            for thread in (*collectors, *callers):
                thread.start()
            for thread in callers:
                thread.join()
            going[0] = False
            for thread in collectors:
                thread.join()
        finally:
            sys.setswitchinterval(interval)

        for reader in (0, 1):
            (metric,) = ledger.collect(reader)
            (point,) = metric.data.data_points
            assert point.count == 80_000  # type: ignore[union-attr]  # a histogram
            assert point.sum == 4 * sum(n % 7 for n in range(20_000))  # type: ignore[union-attr]  # likewise

    def test_the_same_series_is_made_once(self) -> None:
        """Threads that ask for a new attribute set at once get the same series."""
        ledger = Ledger((View({}),))
        barrier, made = threading.Barrier(8), list[Series]()

        def ask() -> None:
            for n in range(200):
                barrier.wait()
                made.append(ledger.series(names.PREDICTION_SAMPLES, {"ml.model.name": f"m-{n}"}))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len({id(one) for one in made}) == 200


class TestACallerNeverWaits:
    def test_for_somebody_who_folds(self) -> None:
        """While another thread holds the lock, folding is left to it."""
        otel_ml.configure(exporters=[], set_global=False)
        score([[1.0]])
        state = otel_ml.configure(exporters=[], set_global=False).state
        done = threading.Event()

        def call() -> None:
            for _ in range(3 * FOLD_AT):
                score([[1.0]])
            done.set()

        with state.ledger.lock:
            threading.Thread(target=call, daemon=True).start()
            assert done.wait(20.0)

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
    def test_in_a_signal_handler(self) -> None:
        """A handler that makes calls and flushes may interrupt a fold, a collection or an append, and never hangs."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)
        calls, handled, flushing = [0], [0], list[bool]()

        def handler(*_: object) -> None:
            score([[1.0], [2.0]])
            handled[0] += 1
            if handled[0] % 10 == 0 and not flushing:
                flushing.append(True)
                otel_ml.flush(0.001)
                flushing.clear()

        former = signal.signal(signal.SIGALRM, handler)
        # Hypothesis has Python code run at each garbage collection, where it lets signals in: in CPython 3.11 that may be
        # in the middle of `ContextVar.set`, which does not survive another one.
        gc.disable()
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                score([[1.0]])
                calls[0] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, former)
            gc.enable()

        assert handled[0] > 50
        assert otel_ml.flush(10.0)
        assert place.value("ml.prediction.duration") == calls[0] + handled[0]
        assert place.value("ml.prediction.samples") == calls[0] + 2 * handled[0]
        assert place.value("ml.prediction.active") == 0


class TestMemory:
    def grown(self, work: Callable[[], None], times: int) -> int:
        """Return how many bytes are held after `times` calls more than after a few."""
        for _ in range(3 * FOLD_AT):
            work()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(times):
            work()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return held

    @pytest.mark.parametrize("work", [lambda: score([[1.0]]), lambda: score([[1.0], [2.0]])], ids=["one row", "rows"])
    def test_is_bounded_where_nobody_collects(self, work: Callable[[], None]) -> None:
        """With no exporter of metrics at all, calls leave nothing behind but what a fold takes."""
        otel_ml.configure(exporters=[], set_global=False)

        assert self.grown(work, 30_000) < 200_000

    def test_is_bounded_while_every_call_fails(self) -> None:
        """Error series fold like any other: an outage does not pile up durations."""
        otel_ml.configure(exporters=[Spans()], sampling=0.0, keep_slower_than=None, set_global=False)

        assert self.grown(fail, 20_000) < 200_000

    def test_is_bounded_where_a_host_collects_seldom(self) -> None:
        """Joined to a host whose reader never comes, values are handed to it as time goes by, not hoarded."""
        reader = InMemoryMetricReader()
        with otel_ml.configure(meter_provider=MeterProvider([reader], shutdown_on_exit=False)) as telemetry:
            state = telemetry.state
            for _ in range(5_000):
                score([[1.0]])
            # Measured within a second or so, by a thread of its own.
            wait_for(lambda: sum(len(series.values) for series in state.ledger.each()) == 0, 10.0)

            data = reader.get_metrics_data()
            assert data is not None
            assert sum(p.count for p in points(data, "ml.prediction.duration")) == 5_000  # type: ignore[union-attr]  # a histogram


class TestActive:
    def test_is_what_runs_at_this_moment(self) -> None:
        """`ml.prediction.active` counts calls that have begun and not ended, also generators that wait."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)
        seen: list[float] = []

        def look() -> None:
            assert otel_ml.flush(10.0)
            seen.append(place.value("ml.prediction.active"))

        @otel_ml.predict(model="churn")
        def steps() -> object:
            yield 1

        running = steps()
        next(running)  # type: ignore[call-overload]  # a generator
        look()
        with otel_ml.predict("churn"):
            look()
            with otel_ml.predict("churn"):
                look()
        list(running)  # type: ignore[call-overload]  # likewise
        look()

        assert seen == [1, 2, 3, 0]

    def test_is_zero_for_a_model_that_never_failed(self) -> None:
        """An error rate needs the zero: `ml.prediction.errors` is there before anything fails."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)
        score([[1.0]])

        assert otel_ml.flush(10.0)
        assert [point.value for point in place.points("ml.prediction.errors")] == [0]  # type: ignore[union-attr]  # a sum


class TestASeries:
    def test_is_told_by_its_attributes_in_any_order(self) -> None:
        """The order in which attributes are given does not matter."""
        ledger = Ledger((View({}),))
        one = ledger.series(names.PREDICTION_SAMPLES, {"a": 1, "b": "x"})

        assert ledger.series(names.PREDICTION_SAMPLES, {"b": "x", "a": 1}) is one
        assert ledger.series(names.PREDICTION_SAMPLES, {"a": 2, "b": "x"}) is not one
        assert ledger.series(names.PREDICTION_ERRORS, {"a": 1, "b": "x"}) is not one

    def test_without_values_makes_no_point(self) -> None:
        """Histograms and gauges that never got a value are left out, counters are zero."""
        ledger = Ledger((View({}),))
        for instrument in (names.PREDICTION_DURATION, names.TRAINING_LOSS, names.PREDICTION_SAMPLES):
            ledger.series(instrument, {})

        assert [metric.name for metric in ledger.collect(0)] == ["ml.prediction.samples"]

    def test_has_the_unit_and_meaning_of_the_catalogue(self) -> None:
        """Names, units and descriptions that exporters see are the catalogue's; durations are in seconds."""
        place = Recorder()
        otel_ml.configure(exporters=[place], set_global=False)
        score([[1.0]])
        assert otel_ml.flush(10.0)

        catalogue = {one.name: one for one in names.METRICS}
        (data,) = place.collections[-1].resource_metrics
        (scope,) = data.scope_metrics
        assert scope.scope.name == "otel_ml"
        assert data.resource is place.resource
        for metric in scope.metrics:
            known = catalogue[metric.name]
            assert (metric.unit, metric.description) == (known.unit, known.meaning)
            for point in metric.data.data_points:
                assert set(point.attributes or {}) <= set(known.attributes)
        (point,) = place.points("ml.prediction.duration")
        assert isinstance(point, HistogramDataPoint)
        assert 0 < point.sum < 1
        assert tuple(point.explicit_bounds) == names.DURATION_BUCKETS
