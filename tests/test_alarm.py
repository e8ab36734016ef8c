"""`Alarm`: what can be said, and what is refused."""

import pickle
from typing import Any

import pytest

from otel_ml import Alarm, ConfigurationError
from otel_ml import _catalog as names

GOOD: list[dict[str, Any]] = [
    {"metric": "ml.prediction.duration", "quantile": 0.99, "above": 0.5},
    {"metric": "ml.prediction.duration", "statistic": "average", "above": 0.5, "model": ["a", "b"]},
    {"metric": "ml.prediction.errors", "above": 1},
    {"metric": "ml.evaluation.f1", "below": 0.8, "periods": (2, 3), "severity": "critical", "model": "churn"},
    {"metric": "ml.drift.feature.count", "above": 0, "when_missing": "alarm", "advice": "Look at drift."},
]

BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "needs a name"),
    ({"metric": "ml.prediction.duratoin"}, 'Write metric="ml.prediction.duration"'),
    ({"metric": "nothing like it at all"}, "docs/telemetry.md"),
    ({"metric": "ml.prediction.duration"}, "does not say what of the histogram"),
    ({"metric": "ml.prediction.duration", "quantile": 1.5}, "between 0 and 1"),
    ({"metric": "ml.prediction.errors", "quantile": 0.5}, "between 0 and 1"),
    ({"metric": "ml.prediction.duration", "quantile": 0.5, "statistic": "sum"}, "statistic="),
    ({"statistic": "median"}, "statistic="),
    ({"above": None}, "one of above and below"),
    ({"below": 1.0}, "one of above and below"),
    ({"above": float("nan")}, "no number"),
    ({"above": True}, "no number"),
    ({"above": "much"}, "no number"),
    ({"periods": (3, 2)}, "m of the last n"),
    ({"periods": (0, 2)}, "m of the last n"),
    ({"periods": 3}, "m of the last n"),
    ({"periods": (1, 2, 3)}, "m of the last n"),
]


@pytest.mark.parametrize("given", GOOD, ids=lambda given: given["metric"])
def test_what_can_be_said(given: dict[str, Any]) -> None:
    """An alarm is a value: equal to another that says the same, and it goes from process to process."""
    alarm = Alarm(name="one", **given)

    assert alarm == Alarm(name="one", **given)
    assert pickle.loads(pickle.dumps(alarm)) == alarm
    assert alarm.models == {"churn": ("churn",)}.get(str(given.get("model")), tuple(given.get("model", ())))


@pytest.mark.parametrize(("given", "says"), BAD, ids=[says for _, says in BAD])
def test_what_is_refused(given: dict[str, Any], says: str) -> None:
    """At once, with a sentence that says what to type."""
    asked = {"name": "one", "metric": "ml.prediction.errors", "above": 1.0} | given
    with pytest.raises(ConfigurationError, match=says):
        Alarm(**asked)


@pytest.mark.parametrize("instrument", names.METRICS, ids=lambda instrument: instrument.name)
def test_every_metric_can_have_one(instrument: names.Instrument) -> None:
    """Whatever is recorded can be alarmed on."""
    how: dict[str, Any] = {"quantile": 0.9} if instrument.kind == "histogram" else {}
    assert Alarm(name="any", metric=instrument.name, above=1.0, **how).metric == instrument.name
