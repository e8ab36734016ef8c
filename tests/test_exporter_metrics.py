"""The metrics of exporters say what `health()` says: at every reader, however telemetry fares."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData, NumberDataPoint

import otel_ml
from otel_ml import _catalog as names
from otel_ml._health import Health
from otel_ml._store import Store
from otel_ml.exporters import OTLP
from otel_ml.testing import FaultCollector
from tests.recorder import Recorder, points, wait_for

ABOUT_EXPORTERS = (
    names.EXPORTER_CREATED,
    names.EXPORTER_DELIVERED,
    names.EXPORTER_DROPPED,
    names.EXPORTER_QUEUED,
    names.EXPORTER_SPOOLED,
)
DELTA = dict.fromkeys((Counter, UpDownCounter, ObservableCounter, Histogram), AggregationTemporality.DELTA)

# By metric, exporter, signal and reason.
Said = dict[tuple[str, str, str, str], float]


def said_by(data: MetricsData) -> Said:
    """Return what a collection says of exporters."""
    found: Said = {}
    for metric in ABOUT_EXPORTERS:
        for point in points(data, metric.name):
            assert isinstance(point, NumberDataPoint)
            about = point.attributes or {}
            key = (
                metric.name,
                *(str(about.get(name, "")) for name in (names.EXPORTER, names.SIGNAL, names.DROP_REASON)),
            )
            assert key not in found
            found[key] = point.value
    return found


def said_in(health: Health) -> Said:
    """Return the same of `health()`: everything but what has never been, and lost records by reason."""
    found: Said = {}
    for exporter in health.exporters:
        for signal, account in exporter.signals.items():
            for metric, value in (
                (names.EXPORTER_CREATED, account.created),
                (names.EXPORTER_DELIVERED, account.delivered),
                (names.EXPORTER_QUEUED, account.queued),
                (names.EXPORTER_SPOOLED, account.spooled),
            ):
                found[metric.name, exporter.name, signal, ""] = value
            for reason, count in account.dropped.items():
                found[names.EXPORTER_DROPPED.name, exporter.name, signal, reason] = count
    return found


def there(said: Said) -> Said:
    """Leave out zeros, which stand for themselves."""
    return {key: value for key, value in said.items() if value}


def work(calls: int) -> None:
    """Make calls."""
    for _ in range(calls):
        with otel_ml.predict("churn"):
            pass


class TestEqualHealth:
    @pytest.mark.parametrize(
        ("mode", "spool", "found"),
        [
            ("healthy", True, ("otel_ml.exporter.delivered", "")),
            ("refused", True, ("otel_ml.exporter.spooled", "")),
            ("refused", False, ("otel_ml.exporter.queued", "")),
            (503, True, ("otel_ml.exporter.spooled", "")),
            (400, True, ("otel_ml.exporter.dropped", "http_400")),
            ("partial_success", True, ("otel_ml.exporter.dropped", "partial_success")),
        ],
    )
    def test_at_the_moment_of_collection(self, mode: object, spool: bool, found: tuple[str, str]) -> None:
        """Whether a collector is healthy, gone or refuses: a reader gets the numbers that `health()` gives then."""
        reader = InMemoryMetricReader()
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # a mode
            place = OTLP(collector.endpoint) if spool else OTLP(collector.endpoint, spool=None)
            telemetry = otel_ml.configure(exporters=[place, reader], set_global=False)
            work(20)
            telemetry.flush(1.0)
            metric, reason = found
            wait_for(lambda: said_in(telemetry.health()).get((metric, "otlp-0", "spans", reason)))

            def both() -> tuple[Health, MetricsData | None] | None:
                # A sender may be at work: what was said while the numbers changed cannot be compared.
                before, data = telemetry.health(), reader.get_metrics_data()
                return (before, data) if telemetry.health() == before else None

            health, data = wait_for(both)
            telemetry.shutdown(1.0)

        assert data is not None
        said = said_by(data)
        assert there(said) == there(said_in(health))
        assert said[metric, "otlp-0", "spans", reason] > 0

    def test_at_delta_and_cumulative_readers_side_by_side(self) -> None:
        """What a reader of differences has got adds up to what its neighbour gets as a total, and to `health()`."""
        total, delta = Recorder(), Recorder(DELTA)
        telemetry = otel_ml.configure(exporters=[total, delta], set_global=False)
        for _ in range(3):
            work(7)
            assert telemetry.flush(10.0)
        # Spans go after metrics, so that these tell of the flush before.
        assert telemetry.flush(10.0)

        added: Said = {}
        for collection in delta.collections:
            for key, value in said_by(collection).items():
                added[key] = added.get(key, 0) + value
        totals, health = said_by(total.collections[-1]), said_in(telemetry.health())

        def of_spans(said: Said) -> Said:
            return there({key: value for key, value in said.items() if key[2] == "spans"})

        assert of_spans(added) == of_spans(totals) == of_spans(health)
        assert added["otel_ml.exporter.delivered", "recorder-1", "spans", ""] == 21

    def test_of_the_very_reader(self) -> None:
        """A reader's own points are counted too: each collection tells of those before it."""
        delta = Recorder(DELTA)
        telemetry = otel_ml.configure(exporters=[delta], set_global=False)
        sent, told = 0, 0.0
        for _ in range(4):
            work(3)
            assert telemetry.flush(10.0)
            told += said_by(delta.collections[-1]).get(("otel_ml.exporter.created", "recorder-0", "metrics", ""), 0)
            assert told == sent
            sent = telemetry.health().exporters[0].signals["metrics"].delivered

    def test_at_a_hosts_reader(self) -> None:
        """A host that is joined hears of our exporters through instruments of its own."""
        reader = InMemoryMetricReader()
        host = MeterProvider([reader], shutdown_on_exit=False)
        with otel_ml.configure(exporters=[Recorder()], meter_provider=host, set_global=False) as telemetry:
            work(5)
            assert telemetry.flush(10.0)
            data = reader.get_metrics_data()

        assert data is not None
        assert said_by(data)["otel_ml.exporter.delivered", "recorder-0", "spans", ""] == 5


class TestPoints:
    def test_that_say_nothing_are_not_made(self) -> None:
        """A signal without records has no series, nor has a loss or a spool that there never was."""
        place = Recorder()
        telemetry = otel_ml.configure(exporters=[place], set_global=False)
        work(3)
        assert telemetry.flush(10.0)
        assert telemetry.flush(10.0)

        said = said_by(place.collections[-1])
        assert {key[2] for key in said} == {"spans", "metrics"}
        assert {key[0] for key in said} == {f"otel_ml.exporter.{one}" for one in ("created", "delivered", "queued")}

    def test_are_of_what_has_changed_where_a_reader_wants_differences(self) -> None:
        """While nothing is recorded, a reader of differences gets no point for spans and events."""
        delta = Recorder(DELTA)
        telemetry = otel_ml.configure(exporters=[delta], set_global=False)
        work(3)
        assert telemetry.flush(10.0)
        assert telemetry.flush(10.0)
        assert telemetry.flush(10.0)

        assert {key[:3] for key in said_by(delta.collections[-1])} == {
            ("otel_ml.exporter.created", "recorder-0", "metrics"),
            ("otel_ml.exporter.delivered", "recorder-0", "metrics"),
        }


PROGRAM = """
import json, sys
import otel_ml
from otel_ml import exporters

otel_ml.configure(exporters=[exporters.OTLP(sys.argv[1]), exporters.Local("kept.db")], set_global=False)
for n in range(30):
    with otel_ml.predict("churn"):
        pass
otel_ml.flush(2.0)
# What the first flush did is in what the second collects.
otel_ml.flush(2.0)
(account,) = [one.signals["spans"] for one in otel_ml.health().exporters if one.name == "otlp-0"]
print(json.dumps({"created": account.created, "spooled": account.spooled}))
"""


def test_a_store_tells_how_another_exporter_fares(workdir: Path, bare_environment: dict[str, str]) -> None:
    """A program whose collector answers 503 leaves in its local store how many spans wait on disk for it."""
    with FaultCollector(503) as collector:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, collector.endpoint],
            cwd=workdir, env=bare_environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    printed = json.loads(done.stdout)

    def latest(metric: str) -> float | None:
        about = {names.EXPORTER: "otlp-0", names.SIGNAL: "spans"}
        found = [one for one in Store.open_read(Path("kept.db")).metrics(metric) if one.attributes == about]
        return found[-1].value if found else None

    assert printed == {"created": 30, "spooled": 30}
    assert (latest("otel_ml.exporter.created"), latest("otel_ml.exporter.spooled")) == (30, 30)
