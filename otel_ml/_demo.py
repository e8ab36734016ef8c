"""`otel-ml demo`: train on real weather, replay three years of it with the labels a day late, show how good it was."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from uuid import uuid4

import otel_ml
from otel_ml import _catalog as names
from otel_ml._demo_report import fates, labelled, read, remark, table
from otel_ml._doctor_versions import install
from otel_ml._settings import disabled
from otel_ml._store import Store
from otel_ml._store_schema import default_path
from otel_ml._terminal import Progress
from otel_ml.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from otel_ml._delivery import Exporter

MODEL, VERSION = "rain-tomorrow", "2013.03"
RAIN, DRY = "rain", "dry"
LEARNED = (date(2012, 10, 1), date(2013, 3, 31))
REPLAYED = (date(2013, 4, 1), date(2015, 12, 31))
FITTED = 0.75
EPOCHS, ITERATIONS = 6, 10
PARAMS = {"learning_rate": 0.05, "max_leaf_nodes": 4, "min_samples_leaf": 10, "random_state": 0}
FLUSH = 5.0


def demo(store: str | None = None, exporters: Sequence[str] = ()) -> int:
    """Run the demo; return 0, or 1 if some place did not take everything.

    The local store is always written; `exporters` adds `otlp` or `console`. Raises `MissingExtraError` without the
    extra `demo`, `ConfigurationError` if the store cannot be used.
    """
    path = default_path() if store is None else Path(store)
    if disabled():
        raise ConfigurationError("OTEL_SDK_DISABLED switches telemetry off. Type: OTEL_SDK_DISABLED=false otel-ml demo")
    days = weather()
    _try_store(path)
    places: list[Exporter] = [otel_ml.exporters.Local(path), *map(_place, dict.fromkeys(exporters))]
    # The console writes a line a call, which would tear a bar apart.
    live = False if "console" in exporters else None
    # An instance of its own: what is read back is this run, whatever else the store holds.
    instance = str(uuid4())

    print("Does it rain in Seattle tomorrow?\n", flush=True)
    with otel_ml.configure(
        service="otel-ml-demo", exporters=places, sampling=1.0, resource={names.SERVICE_INSTANCE: instance}
    ) as telemetry:
        model = train([day for day in days if LEARNED[0] <= day.date <= LEARNED[1]], live)
        replay(model, [day for day in days if REPLAYED[0] <= day.date <= REPLAYED[1]], live)
        telemetry.flush(FLUSH)
    quarters = read(path, MODEL, instance, positive=RAIN)
    health = telemetry.health()
    print(f"\nRead back from the local store, {path}:\n")
    print(table(quarters, sys.stdout), f"{remark(quarters)}\n{labelled(quarters)}", fates(health), sep="\n\n")
    taken = health.ok and not health.waiting
    if not taken and "otlp" in exporters:
        print("  To see why, type: OTEL_ML_EXPORTERS=otlp otel-ml doctor")
    return 0 if taken else 1


def _place(name: str) -> Exporter:
    return otel_ml.exporters.OTLP() if name == "otlp" else otel_ml.exporters.Console()


def _try_store(path: Path) -> None:
    # Better known now than after the work.
    store = Store(path)
    try:
        store.write_spans([])
        store.close()
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"The local store {path} cannot be written ({error}). Give it another place: otel-ml demo --store other.db"
        ) from error


@dataclass(frozen=True, slots=True)
class Day:
    """A day in Seattle: millimetres, degrees Celsius, metres a second; `warmer` is the difference to the day before."""

    date: date
    precipitation: float
    temp_max: float
    temp_min: float
    wind: float
    weather: str
    warmer: float

    @property
    def id(self) -> str:
        """What a prediction made on this day is known by."""
        return self.date.isoformat()

    @property
    def outcome(self) -> str:
        """What there was to predict on the day before."""
        return RAIN if self.precipitation > 0 else DRY

    @property
    def features(self) -> list[float]:
        """What is known on this day of the next."""
        kinds = [float(self.weather == kind) for kind in KINDS]
        spread = self.temp_max - self.temp_min
        return [*kinds, self.precipitation, self.temp_max, self.temp_min, spread, self.warmer, self.wind]


KINDS = ("drizzle", "fog", "rain", "snow", "sun")


def weather() -> list[Day]:
    """Return the days from 2012 to 2015, which `vega_datasets` has on disk."""
    # One thread: with so little data more of them would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        import_module("sklearn.ensemble")
        data = import_module("vega_datasets").data
    except ImportError as error:
        missing = (error.name or "a package").partition(".")[0]
        raise MissingExtraError(f"The demo needs {missing}, which is not installed. Type: {install('demo')}") from error
    rows = cast("Iterable[_Row]", data.seattle_weather().itertuples(index=False, name=None))
    days: list[Day] = []
    for moment, precipitation, temp_max, temp_min, wind, kind in rows:
        warmer = temp_max - days[-1].temp_max if days else 0.0
        days.append(Day(moment.date(), precipitation, temp_max, temp_min, wind, kind, warmer))
    return days


_Row = tuple[datetime, float, float, float, float, str]


class Classifier(Protocol):
    """What is used of scikit-learn's HistGradientBoostingClassifier, which comes without types."""

    def set_params(self, *, max_iter: int) -> object: ...

    def fit(self, rows: Sequence[Sequence[float]], outcomes: Sequence[str]) -> object: ...

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[str]: ...

    def predict_proba(self, rows: Sequence[Sequence[float]]) -> object: ...


def train(days: Sequence[Day], live: bool | None = None) -> Classifier:
    """Fit the first three quarters of `days`, one tree at a time, and judge every tree by the rest."""
    # The last day's tomorrow is not one of `days`, so nothing is learned from it.
    rows = [day.features for day in days[:-1]]
    outcomes = [day.outcome for day in days[1:]]
    cut = int(len(rows) * FITTED)
    boosting = import_module("sklearn.ensemble").HistGradientBoostingClassifier
    model = cast("Classifier", boosting(early_stopping=False, warm_start=True, max_iter=1, **PARAMS))
    held_out: dict[str, float] = {}
    with (
        otel_ml.train(MODEL, version=VERSION, params=PARAMS) as run,
        Progress("Training ", EPOCHS * ITERATIONS, live=live) as progress,
    ):
        for epoch in run.epochs(EPOCHS):
            for iteration in range(epoch.index * ITERATIONS + 1, (epoch.index + 1) * ITERATIONS + 1):
                model.set_params(max_iter=iteration)
                model.fit(rows[:cut], outcomes[:cut])
                fitted = scores(model, rows[:cut], outcomes[:cut])
                with epoch.evaluate():
                    held_out = {f"val_{key}": value for key, value in scores(model, rows[cut:], outcomes[cut:]).items()}
                run.log({**fitted, **held_out})
                progress.to(
                    iteration,
                    f"{iteration} trees from {cut} days · loss {fitted['loss']:.3f} · "
                    f"validation loss {held_out['val_loss']:.3f}, F1 {held_out['val_f1']:.2f}",
                )
            epoch.log(held_out)
    return model


def scores(model: Classifier, rows: Sequence[Sequence[float]], outcomes: Sequence[str]) -> dict[str, float]:
    """Return how well `model` predicts `outcomes`."""
    metrics = import_module("sklearn.metrics")
    predicted = model.predict(rows)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        outcomes, predicted, pos_label=RAIN, average="binary", zero_division=0.0
    )
    return {
        "loss": float(metrics.log_loss(outcomes, model.predict_proba(rows))),
        "accuracy": float(metrics.accuracy_score(outcomes, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def replay(model: Classifier, days: Sequence[Day], live: bool | None = None) -> None:
    """Live through `days` in order: learn whether yesterday's prediction was right, then make today's."""

    @otel_ml.predict(model=MODEL, version=VERSION, id="day", at="day", output=str)
    def rain_tomorrow(day: str, today: Day) -> str:  # the day's name identifies the prediction
        return str(model.predict([today.features])[0])

    with Progress("Replaying", len(days), live=live) as progress:
        for number, today in enumerate(days):
            if number:
                otel_ml.feedback(days[number - 1].id, actual=today.outcome, at=today.date)
            rain_tomorrow(today.id, today)
            progress.to(number + 1, f"{today.date} · {number + 1:,} of {len(days):,} days, each label a day late")
