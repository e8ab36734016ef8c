"""`exporters.Local`: standard exporters over one store, which say what became of each batch and never raise."""

import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import otel_ml
from otel_ml import _catalog as names
from otel_ml._delivery import DELIVERED, Delivers, Delivery, Parts
from otel_ml._store import Store
from otel_ml._store_read import Records
from otel_ml.errors import ConfigurationError
from otel_ml.exporters import Local
from otel_ml.exporters.local import serves_a_person
from tests.stopwatch import stopwatch
from tests.store_records import RESOURCE, Meter, calls, gauge, steps

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "telemetry.db"


@pytest.fixture
def parts(path: Path) -> Iterator[Parts]:
    """The exporters of a store at `path`."""
    made = Local(path).build(RESOURCE)
    yield made
    for part in (made.spans, made.metrics, made.events):
        part.shutdown()


@pytest.fixture
def read() -> Iterator[Any]:
    """Open a store to read from it, until the end of the test."""
    opened: list[Records] = []

    def open_(path: Path) -> Records:
        opened.append(Store.open_read(path))
        return opened[-1]

    yield open_
    for records in opened:
        records.close()


def deliver(part: object, batch: Any, seconds: float = 5.0) -> Delivery:
    """Hand a batch to a part as the pipeline does."""
    assert isinstance(part, Delivers)
    return part.deliver(batch, time.monotonic() + seconds)


class TestArguments:
    @pytest.mark.parametrize("path", [7, b"", "", ["x"]])
    def test_a_path_that_is_none(self, path: Any) -> None:
        """Anything but the name of a file is an error at once."""
        with pytest.raises(ConfigurationError, match="path"):
            Local(path)

    @pytest.mark.parametrize("max_bytes", [0, 999_999, 1e9, "256MB", True, None])
    def test_bytes_that_make_no_sense(self, max_bytes: Any) -> None:
        """A bound is a whole number of bytes, with room for something."""
        with pytest.raises(ConfigurationError, match="max_bytes"):
            Local(max_bytes=max_bytes)

    @pytest.mark.parametrize("max_age", [0, -1, "7d", True, None, float("nan")])
    def test_an_age_that_makes_no_sense(self, max_age: Any) -> None:
        """An age is a number of seconds above 0."""
        with pytest.raises(ConfigurationError, match="max_age"):
            Local(max_age=max_age)

    def test_nothing_is_opened_before_the_first_record(self, workdir: Path) -> None:
        """Building makes no file and no folder, so that a program that records nothing leaves nothing behind."""
        parts = Local().build(RESOURCE)

        assert list(workdir.iterdir()) == []
        parts.spans.shutdown()
        assert list(workdir.iterdir()) == []

    def test_it_says_where_telemetry_goes(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Relative to where the program runs, if it is there."""
        assert Local().describe() == f"local store {Path('.otel_ml/telemetry.db')}"
        assert Local(workdir / "my.db").describe() == "local store my.db"
        assert Local("/elsewhere/my.db").describe() == f"local store {Path('/elsewhere/my.db')}"
        monkeypatch.setenv("OTEL_ML_STORE", "said.db")
        assert Local().describe() == "local store said.db"
        assert Local("given.db").describe() == "local store given.db"

    def test_how_it_likes_to_be_fed(self, parts: Parts) -> None:
        """Metrics every five seconds, the rest five times a second; every part a standard exporter."""
        assert (parts.interval, parts.delay) == (5.0, 0.2)
        assert isinstance(parts.spans, SpanExporter)
        assert isinstance(parts.metrics, MetricExporter)
        assert isinstance(parts.events, LogRecordExporter)


class TestDelivery:
    def test_all_three_signals_go_into_one_file(self, parts: Parts, path: Path, read: Any) -> None:
        """What is delivered can be read back."""
        meter = Meter()
        meter.calls.add(2)

        assert deliver(parts.spans, calls(3)) == DELIVERED
        assert deliver(parts.metrics, meter.read()) == DELIVERED
        assert deliver(parts.events, steps(4)) == DELIVERED
        assert read(path).counts() == {"spans": 3, "events": 4, "points": 1}

    def test_a_record_that_cannot_be_read_is_rejected_alone(self, parts: Parts, path: Path, read: Any) -> None:
        """One bad record of a batch is one rejected record, for every signal."""
        assert deliver(parts.spans, [*calls(3), object()]) == Delivery(1, "unreadable_record")
        assert deliver(parts.events, [None, *steps(4)]) == Delivery(1, "unreadable_record")
        assert deliver(parts.metrics, gauge("odd", [1, "two"])) == Delivery(1, "unreadable_record")
        assert read(path).counts() == {"spans": 3, "events": 4, "points": 1}

    def test_a_locked_store_is_to_be_tried_again(self, parts: Parts, path: Path) -> None:
        """Nothing is rejected while somebody else has the store locked, and the deadline is kept."""
        deliver(parts.spans, calls(1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with stopwatch() as took:
            assert deliver(parts.spans, calls(1), 0.2) == Delivery(retry_after=0.1)
        assert took.seconds < 1.0
        other.execute("COMMIT")
        other.close()
        assert deliver(parts.spans, calls(1)) == DELIVERED

    def test_export_waits_for_a_locked_store(self, parts: Parts, path: Path) -> None:
        """The standard `export`, which nobody calls again, insists for a while."""
        deliver(parts.spans, calls(1))
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(1.3, lambda: other.execute("COMMIT"))
        timer.start()

        assert parts.spans.export(calls(1)) is SpanExportResult.SUCCESS
        timer.join()
        other.close()

    @pytest.mark.parametrize("content", [b"my notes, dear to me", b"SQLite format 3\0" + bytes(100)])
    def test_a_foreign_file_is_said_once_and_left_alone(
        self, parts: Parts, path: Path, content: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Every record is rejected for that reason, one line says what to type, and the file stays as it is."""
        path.write_bytes(content)
        for _ in range(5):
            assert deliver(parts.spans, calls(3)) == Delivery(3, "store_unusable")
            assert deliver(parts.events, steps(2)) == Delivery(2, "store_unusable")
            assert deliver(parts.metrics, gauge("g", [1, 2])) == Delivery(2, "store_unusable")

        assert len(caplog.records) == 1
        assert "not a store of otel_ml" in caplog.text
        assert "OTEL_ML_STORE=" in caplog.text
        assert path.read_bytes() == content
        path.unlink()
        assert deliver(parts.spans, calls(1)) == DELIVERED

    def test_the_standard_results(self, parts: Parts, path: Path) -> None:
        """`export` answers as OpenTelemetry wants it: success, or failure."""
        assert parts.spans.export(calls(1)) is SpanExportResult.SUCCESS
        assert parts.metrics.export(gauge("g", [1])) is MetricExportResult.SUCCESS
        assert parts.events.export(steps(1)) is LogRecordExportResult.SUCCESS
        assert parts.spans.force_flush()
        assert parts.metrics.force_flush()
        assert parts.events.force_flush()

        assert parts.spans.export([object()]) is SpanExportResult.FAILURE
        assert parts.metrics.export(gauge("g", ["x"])) is MetricExportResult.FAILURE
        assert parts.events.export([None]) is LogRecordExportResult.FAILURE

    def test_after_shutdown_nothing_is_stored(self, parts: Parts, path: Path, read: Any) -> None:
        """A part that has been shut down rejects; the others go on."""
        deliver(parts.spans, calls(1))
        parts.spans.shutdown()

        assert deliver(parts.spans, calls(2)) == Delivery(2, "shutdown")
        assert deliver(parts.events, steps(2)) == DELIVERED
        parts.events.shutdown()
        parts.metrics.shutdown()
        assert deliver(parts.metrics, gauge("g", [1])) == Delivery(1, "shutdown")
        assert not Path(f"{path}-wal").exists()
        assert read(path).counts() == {"spans": 1, "events": 2, "points": 0}

    @pytest.mark.faults
    @pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
    def test_no_room_is_a_reason_of_its_own(self, path: Path) -> None:
        """Where the disk, a quota or a limit leaves no room, the batch is rejected, said once, and later ones go on."""
        code = (
            "import logging, resource, sys, time; from otel_ml.exporters import Local;"
            "from tests.store_records import RESOURCE, calls; logging.basicConfig(format='log %(message)s')\n"
            "spans = Local(sys.argv[1]).build(RESOURCE).spans\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
            "said = [spans.deliver(calls(300), time.monotonic() + 5) for _ in range(10)]\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "said.append(spans.deliver(calls(300), time.monotonic() + 5))\n"
            "print(*[d.reason or 'delivered' for d in said])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        said = done.stdout.split()
        assert said[0] == said[-1] == "delivered"
        assert set(said) == {"delivered", "disk_full"}
        assert [line for line in done.stderr.splitlines() if line.startswith("log")] == [
            line for line in done.stderr.splitlines() if "no room" in line
        ]
        assert done.stderr.count("no room") == 1


class TestInPrograms:
    def test_in_an_app_that_never_uses_our_decorators(self, path: Path, read: Any) -> None:
        """What it is made of are standard exporters, for the SDK's own providers."""
        parts = Local(path).build(RESOURCE)
        tracers, loggers = TracerProvider(resource=RESOURCE), LoggerProvider(RESOURCE)
        tracers.add_span_processor(BatchSpanProcessor(parts.spans))
        loggers.add_log_record_processor(BatchLogRecordProcessor(parts.events))
        meters = MeterProvider([PeriodicExportingMetricReader(parts.metrics)], RESOURCE)

        tracers.get_tracer("mine").start_span("work").end()
        loggers.get_logger("mine").emit(body="hello", event_name="said")
        meters.get_meter("mine").create_counter("jobs").add(1)
        tracers.shutdown()
        loggers.shutdown()
        meters.shutdown()

        records = read(path)
        assert [span.name for span in records.spans()] == ["work"]
        assert [event.body for event in records.events("said")] == ["hello"]
        assert [point.value for point in records.metrics("jobs")] == [1]

    def test_with_configure(self, path: Path, read: Any) -> None:
        """Calls, steps and metrics of a program are in the store after a flush."""
        otel_ml.configure(service="shop", exporters=[Local(path)])

        @otel_ml.predict(model="churn")
        def score(rows: list[list[float]]) -> int:
            return len(rows)

        score([[1.0], [2.0]])
        with otel_ml.train("churn") as run:
            for step in range(500):
                run.log(loss=float("nan") if step == 7 else 1 / (step + 1))
        assert otel_ml.flush()

        records = read(path)
        (call,) = records.spans("predict churn", model="churn")
        assert call.attributes[names.BATCH_SIZE] == 2
        assert call.origin.resource["service.name"] == "shop"
        events = list(records.events(names.STEP_COMPLETED, run=run.id))
        assert [event.attributes[names.STEP] for event in events] == list(range(500))
        assert str(events[7].attributes[names.TRAINING_VALUE + "loss"]) == "nan"
        (took,) = records.latest("ml.prediction.duration")
        assert took.count == 1

    def test_a_store_that_cannot_be_used_does_not_stop_the_program(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The program goes on, one line says why, and the loss is in `health()`."""
        path.write_text("my notes")
        telemetry = otel_ml.configure(service="shop", exporters=[Local(path)])

        @otel_ml.predict(model="churn")
        def score(rows: int) -> int:
            return rows

        with caplog.at_level(logging.WARNING, "otel_ml"):
            assert [score(n) for n in range(50)] == list(range(50))
            telemetry.flush()

        (place,) = telemetry.health().exporters
        assert place.signals["spans"].delivered == 0
        assert place.signals["spans"].dropped == {"store_unusable": 50}
        assert sum("not a store of otel_ml" in record.message for record in caplog.records) == 1
        assert path.read_text() == "my notes"


class TestSilentDefault:
    def test_it_serves_whoever_can_look_at_it(self, workdir: Path) -> None:
        """A folder of one's own is a good place."""
        assert serves_a_person()
        assert list(workdir.iterdir()) == []

    @pytest.mark.parametrize("variable", ["AWS_LAMBDA_FUNCTION_NAME", "KUBERNETES_SERVICE_HOST"])
    def test_nobody_looks_into_a_container(self, workdir: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        """In AWS Lambda and Kubernetes a file would be written for nobody."""
        monkeypatch.setenv(variable, "x")

        assert not serves_a_person()

    def test_not_where_it_cannot_be_written(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file where the folder should be, or a file system that takes nothing."""
        (workdir / "file").write_text("")
        monkeypatch.setenv("OTEL_ML_STORE", str(workdir / "file" / "telemetry.db"))
        assert not serves_a_person()

        if Path("/proc/1").exists():
            monkeypatch.setenv("OTEL_ML_STORE", "/proc/1/telemetry.db")
            assert not serves_a_person()

    @pytest.mark.skipif(sys.platform == "win32", reason="has other rights")
    def test_not_in_a_folder_of_somebody_else(self, workdir: Path) -> None:
        """Asked as a user who may only read."""
        code = (
            "import os; from otel_ml import _store; from otel_ml.exporters.local import serves_a_person\n"
            "os.geteuid() or (os.setgid(65534), os.setuid(65534)); print(serves_a_person())"
        )
        workdir.chmod(0o555)
        for parent in [*workdir.parents][:-2]:
            if not os.geteuid():
                parent.chmod(parent.stat().st_mode | 0o055)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=workdir, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        workdir.chmod(0o755)

        assert done.stdout.strip() == "False", done.stderr
