"""`otel-ml demo`: what it prints is what the store holds, and what scikit-learn says of the raw data."""

import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import isfinite
from pathlib import Path
from subprocess import CompletedProcess, Popen

import numpy as np
import pytest
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingClassifier
from vega_datasets import data

from otel_ml._demo import EPOCHS, ITERATIONS, LEARNED, PARAMS, REPLAYED, weather
from otel_ml._demo_report import Quarter, remark, table
from otel_ml.testing import FaultCollector
from tests.command import COMMAND, bare, otel_ml

SENTENCE = (
    "F1 and recall fall every summer and come back in winter, while accuracy stays high because it seldom rains then."
)
COLUMNS = ("calls", "p50", "p99", "errors", "accuracy", "precision", "recall", "f1", "base rate")


@dataclass(frozen=True)
class Ran:
    """A demo that has ended, and the folder it ran in."""

    done: CompletedProcess[str]
    folder: Path

    @property
    def store(self) -> Path:
        """Where the demo keeps its records when nobody says otherwise."""
        return self.folder / ".otel_ml" / "telemetry.db"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demo, run once in an empty folder, with an empty home."""
    folder = tmp_path_factory.mktemp("demo")
    return Ran(otel_ml("demo", cwd=folder), folder)


@dataclass(frozen=True)
class Predicted:
    """One prediction as the raw data and the store have it."""

    day: date
    seconds: float
    predicted: str
    actual: str | None

    @property
    def quarter(self) -> str:
        """The quarter of the day on which it was made."""
        return f"{self.day.year} Q{(self.day.month + 2) // 3}"


@pytest.fixture(scope="module")
def predictions(ran: Ran) -> list[Predicted]:
    """Read the store with nothing but sqlite3, and what happened from the data itself."""
    rain = {row.date.date(): row.precipitation > 0 for row in data.seattle_weather().itertuples()}
    found = []
    for attributes, duration in query(
        ran.store,
        "SELECT attributes, end_ns - start_ns FROM span WHERE name = 'predict rain-tomorrow' ORDER BY start_ns",
    ):
        facts = json.loads(attributes)
        day = date.fromisoformat(facts["ml.prediction.time"])
        actual = rain.get(day + timedelta(days=1))
        found.append(
            Predicted(
                day,
                duration / 1e9,
                facts["ml.prediction.class.name"],
                None if actual is None else ("rain" if actual else "dry"),
            )
        )
    return found


def query(store: Path, statement: str) -> Iterator[tuple[object, ...]]:
    """Ask the store something."""
    with closing(sqlite3.connect(store)) as connection:
        yield from connection.execute(statement).fetchall()


def rows(text: str) -> dict[str, dict[str, float]]:
    """Return the numbers of the table that the demo has printed, by quarter."""
    found = re.findall(r"^(\d{4} Q\d|total)  ((?: *[\d.,]+){9}) *[█#]*$", text, re.MULTILINE)
    return {
        name: dict(zip(COLUMNS, (float(number.replace(",", "")) for number in numbers.split()), strict=True))
        for name, numbers in found
    }


def test_it_ends_well(ran: Ran) -> None:
    """It ends by itself with exit code 0, complains of nothing, and leaves nothing but its store behind."""
    assert ran.done.returncode == 0
    assert ran.done.stderr == ""
    assert sorted(path.name for path in ran.folder.iterdir()) == [".otel_ml", "home"]
    assert list((ran.folder / "home").iterdir()) == []


class TestTraining:
    def test_every_iteration_is_an_event(self, ran: Ran) -> None:
        """One event an iteration, in order, with losses and scores of both parts of the data."""
        found = query(ran.store, "SELECT attributes FROM event WHERE name = 'ml.training.step.completed' ORDER BY id")
        steps = [json.loads(str(attributes)) for (attributes,) in found]
        scores = ("loss", "accuracy", "precision", "recall", "f1")
        wanted = {f"ml.training.value.{prefix}{score}" for prefix in ("", "val_") for score in scores}

        assert [step["ml.training.step.index"] for step in steps] == list(range(EPOCHS * ITERATIONS))
        assert all(wanted <= step.keys() and all(isfinite(step[name]) for name in wanted) for step in steps)
        assert len({step["ml.training.run.id"] for step in steps}) == 1

    def test_the_curve_is_one(self, ran: Ran) -> None:
        """The training loss falls all the way, which a curve of one fit at the end would not show."""
        found = query(ran.store, "SELECT attributes FROM event WHERE name = 'ml.training.step.completed' ORDER BY id")
        losses = [json.loads(str(attributes))["ml.training.value.loss"] for (attributes,) in found]

        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 0.75 * losses[0]

    def test_spans_of_the_run(self, ran: Ran) -> None:
        """The run has an epoch for every ten iterations, and an evaluation in each iteration."""
        found = dict(query(ran.store, "SELECT name, count(*) FROM span WHERE name NOT LIKE 'predict%' GROUP BY name"))

        assert found == {
            "train rain-tomorrow": 1,
            "epoch rain-tomorrow": EPOCHS,
            "evaluate rain-tomorrow": EPOCHS * ITERATIONS,
        }

    def test_nothing_later_is_learned_from(self, predictions: list[Predicted]) -> None:
        """A model fitted at once on the first 75 % of October 2012 to March 2013 predicts the very same."""
        learned = [day for day in weather() if LEARNED[0] <= day.date <= LEARNED[1]]
        features, outcomes = [day.features for day in learned[:-1]], [day.outcome for day in learned[1:]]
        cut = int(0.75 * len(features))
        model = HistGradientBoostingClassifier(early_stopping=False, max_iter=EPOCHS * ITERATIONS, **PARAMS)
        model.fit(features[:cut], outcomes[:cut])
        replayed = [day.features for day in weather() if REPLAYED[0] <= day.date <= REPLAYED[1]]

        assert (learned[0].date, learned[-1].date) == (date(2012, 10, 1), date(2013, 3, 31))
        assert list(model.predict(replayed)) == [one.predicted for one in predictions]


class TestReplay:
    def test_every_day_in_order(self, predictions: list[Predicted]) -> None:
        """One prediction a day, from April 2013 to December 2015, in the order of the days."""
        days = [one.day for one in predictions]

        assert days == [date(2013, 4, 1) + timedelta(days=number) for number in range(1_005)]
        assert days[-1] == date(2015, 12, 31)

    def test_labels_come_a_day_late(self, ran: Ran, predictions: list[Predicted]) -> None:
        """Each label carries its own day, its prediction's day, and is in the trace of its prediction."""
        found = query(
            ran.store,
            "SELECT event.attributes, span.attributes FROM event JOIN span USING (trace_id, span_id) "
            "WHERE event.name = 'ml.ground_truth.received' ORDER BY event.id",
        )
        labels = [(json.loads(str(event)), json.loads(str(span))) for event, span in found]

        assert [
            (
                label["ml.prediction.time"],
                label["ml.ground_truth.time"],
                label["ml.class.actual"],
                label["ml.class.predicted"],
            )
            for label, _ in labels
        ] == [
            (str(one.day), str(one.day + timedelta(days=1)), one.actual, one.predicted)
            for one in predictions
            if one.actual is not None
        ]
        assert all(label["ml.prediction.id"] == span["ml.prediction.id"] for label, span in labels)


class TestTable:
    def test_calls_and_durations(self, ran: Ran, predictions: list[Predicted]) -> None:
        """Calls, median, 99th percentile and errors of each quarter are those of the stored spans."""
        printed = rows(ran.done.stdout)

        assert list(printed) == [*sorted({one.quarter for one in predictions}), "total"]
        assert len(printed) == 12
        for name, row in printed.items():
            durations = [1e3 * one.seconds for one in predictions if name in (one.quarter, "total")]
            assert (row["calls"], row["errors"]) == (len(durations), 0)
            assert row["p50"] == pytest.approx(np.percentile(durations, 50), abs=0.0051)
            assert row["p99"] == pytest.approx(np.percentile(durations, 99), abs=0.0051)

    def test_quality(self, ran: Ran, predictions: list[Predicted]) -> None:
        """Accuracy, precision, recall, F1 and base rate are those that scikit-learn computes from the raw data."""
        printed = rows(ran.done.stdout)

        for name, row in printed.items():
            expected = quality([one for one in predictions if name in (one.quarter, "total")])
            assert {column: row[column] for column in expected} == pytest.approx(expected, abs=0.0051), name

    def test_what_is_said_is_true(self, ran: Ran, predictions: list[Predicted]) -> None:
        """F1 and recall fall in all three summers and come back, while accuracy is no lower than over all years."""
        by_quarter = {
            name: quality([one for one in predictions if one.quarter == name])
            for name in {one.quarter for one in predictions}
        }
        overall = quality(predictions)

        for year in (2013, 2014, 2015):
            spring, summer, winter = (by_quarter[f"{year} Q{number}"] for number in (2, 3, 4))
            for score in ("f1", "recall"):
                assert summer[score] < 0.8 * spring[score]
                assert summer[score] < 0.8 * winter[score]
            assert summer["accuracy"] >= overall["accuracy"]
            assert summer["base rate"] < 0.75 * overall["base rate"]
        assert ran.done.stdout.splitlines().count(SENTENCE) == 1

    def test_the_last_day_has_no_label(self, ran: Ran) -> None:
        """The one prediction whose label is not in the data is owned up to."""
        assert "1,004 of 1,005 predictions have a label" in ran.done.stdout

    def test_nothing_is_lost(self, ran: Ran) -> None:
        """What the demo says it has written is in the store."""
        said = re.search(r"took ([\d,]+) spans, ([\d,]+) events, ([\d,]+) metric points\.", ran.done.stdout)
        stored = [next(query(ran.store, f"SELECT count(*) FROM {table}"))[0] for table in ("span", "event", "point")]

        assert said
        assert [int(number.replace(",", "")) for number in said.groups()] == stored
        assert "lost" not in ran.done.stdout


def quality(predictions: list[Predicted]) -> dict[str, float]:
    """Return what scikit-learn says of the predictions that have a label."""
    judged = [one for one in predictions if one.actual is not None]
    actual, predicted = [one.actual for one in judged], [one.predicted for one in judged]
    return {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "precision": metrics.precision_score(actual, predicted, pos_label="rain"),
        "recall": metrics.recall_score(actual, predicted, pos_label="rain"),
        "f1": metrics.f1_score(actual, predicted, pos_label="rain"),
        "base rate": actual.count("rain") / len(actual),
    }


class TestReport:
    QUARTER = Quarter("2014 Q1", (0.001, 0.002), 0, hits=30, misses=10, false_alarms=20, rejections=30)

    def test_the_sentence_is_not_said_of_other_numbers(self) -> None:
        """Where F1 does not fall in summer, the demo does not say that it does."""
        total = replace(self.QUARTER, name="total")
        same = [replace(self.QUARTER, name=f"2014 Q{number}") for number in (1, 2, 3, 4)]
        summer = replace(same[2], hits=3, misses=7, false_alarms=10, rejections=80)

        assert remark([*same, total]) != SENTENCE
        assert remark([*same[:2], summer, same[3], total]) == SENTENCE
        # Accuracy has to stay high, too.
        assert remark([*same[:2], replace(summer, rejections=5), same[3], total]) != SENTENCE

    def test_a_ratio_of_nothing(self) -> None:
        """A quarter without labels or calls has no quality and no durations, and is shown all the same."""
        empty = Quarter("2014 Q1", (), 0, hits=0, misses=0, false_alarms=0, rejections=0)
        last = table([empty, replace(empty, name="total")], sys.stdout).splitlines()[-1]

        assert last.split() == ["total", "0", "-", "-", "0", "-", "-", "-", "-", "-"]


class TestPlaces:
    def test_another_run_in_the_same_store(self, ran: Ran, tmp_path: Path) -> None:
        """The table counts this run alone, whatever the store held before; the console gets a line a call."""
        again = otel_ml("demo", "--store", str(ran.store), "--exporter", "console", cwd=tmp_path)
        (stored,) = next(query(ran.store, "SELECT count(*) FROM span WHERE name = 'predict rain-tomorrow'"))
        qualities = [
            [{column: row[column] for column in COLUMNS if column not in ("p50", "p99")} for row in rows(text).values()]
            for text in (ran.done.stdout, again.stdout)
        ]

        assert again.returncode == 0
        assert stored == 2 * 1_005
        assert qualities[0] == qualities[1]
        assert len(again.stderr.splitlines()) >= 1_005

    def test_a_collector(self, tmp_path: Path) -> None:
        """--exporter otlp sends everything to a collector too, as OpenTelemetry's variables say."""
        with FaultCollector() as collector:
            done = otel_ml("demo", "--exporter", "otlp", cwd=tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
            spans, logs = len(collector.spans), len(collector.logs)

        assert done.returncode == 0
        assert f"OTLP {collector.endpoint} (http/protobuf) took {spans:,} spans, {logs:,} events" in done.stdout
        assert spans > 1_005
        assert logs > 1_004

    def test_a_collector_that_is_not_there(self, tmp_path: Path) -> None:
        """Without the collector that was asked for, the table is there, it is told what waits for it, the exit code is 1."""
        with FaultCollector("refused") as nobody:
            done = otel_ml("demo", "--exporter", "otlp", cwd=tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=nobody.endpoint)

        assert done.returncode == 1
        assert rows(done.stdout)["total"]["calls"] == 1_005
        assert re.search(r"waits on disk until it answers: 1,\d\d\d spans", done.stdout)
        assert "OTEL_ML_EXPORTERS=otlp otel-ml doctor" in done.stdout

    def test_no_network(self, tmp_path: Path) -> None:
        """The demo runs where no connection can be made and no name be looked up."""
        (tmp_path / "sitecustomize.py").write_text(
            "import socket, sys\n"
            "def hook(event, arguments):\n"
            "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.bind'):\n"
            "        sys.stderr.write(f'{event}\\n')\n"
            "        raise PermissionError(event)\n"
            "sys.addaudithook(hook)\n"
        )
        done = otel_ml("demo", cwd=tmp_path, PYTHONPATH=str(tmp_path))

        assert (done.returncode, done.stderr) == (0, "")


class TestRefusals:
    def test_a_missing_extra(self, tmp_path: Path) -> None:
        """Without what the demo needs it says so at once, in one line with the pip command."""
        (tmp_path / "vega_datasets.py").write_text("raise ModuleNotFoundError(name='vega_datasets')")
        done = otel_ml("demo", cwd=tmp_path, PYTHONPATH=str(tmp_path))

        assert done.returncode == 2
        assert re.fullmatch(
            r"otel-ml: The demo needs vega_datasets, which is not installed\. Type: pip install '?\S+\[demo\]'?\n",
            done.stderr,
        )
        assert done.stdout == ""
        assert not (tmp_path / ".otel_ml").exists()

    def test_a_foreign_file(self, tmp_path: Path) -> None:
        """A file that is no store is left as it is, before any work is done."""
        (tmp_path / "notes.db").write_text("remember the milk" * 100)
        done = otel_ml("demo", "--store", "notes.db", cwd=tmp_path)

        assert done.returncode == 2
        assert re.match(r"otel-ml: \S*notes.db is not a store of otel_ml", done.stderr)
        assert done.stderr.count("\n") == 1
        assert (tmp_path / "notes.db").read_text() == "remember the milk" * 100

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        """A store that cannot be made is told in one line."""
        (tmp_path / "file").touch()
        done = otel_ml("demo", "--store", "file/telemetry.db", cwd=tmp_path)

        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "Give it" in done.stderr

    def test_switched_off(self, tmp_path: Path) -> None:
        """Where OpenTelemetry is switched off there is nothing to show."""
        done = otel_ml("demo", cwd=tmp_path, OTEL_SDK_DISABLED="true")

        assert done.returncode == 2
        assert "OTEL_SDK_DISABLED" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_how_far_it_is(tmp_path: Path) -> None:
    """On a terminal both parts draw a bar over itself, and the table has F1 as bars too."""
    import pty

    ours, theirs = pty.openpty()
    with Popen(
        [*COMMAND, "demo"], cwd=tmp_path, env=bare(tmp_path / "home", COLUMNS="120"), stdout=theirs, stderr=theirs
    ) as running:
        os.close(theirs)
        said = everything(ours)
    os.close(ours)

    assert running.returncode == 0, said
    for title in ("Training", "Replaying"):
        drawn = re.findall(rf"\r{title} +(█*░*)  ", said)
        assert len(drawn) >= 2
        assert [bar.count("█") for bar in drawn] == sorted(bar.count("█") for bar in drawn)
        assert drawn[-1] == "█" * 24
    shown = rows(said.replace("\r\n", "\n"))
    assert shown["2014 Q3"]["f1"] < shown["2014 Q2"]["f1"]
    assert re.search(r"^2014 Q3 .* █{5,8}\r$", said, re.MULTILINE)


def everything(terminal: int) -> str:
    """Read a terminal to its end, which Linux tells by an error and macOS by nothing more."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()
