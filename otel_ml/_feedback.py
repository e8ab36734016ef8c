"""`feedback`: what really happened, told later, and joined to what was predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, cast

from otel_ml import _catalog as names
from otel_ml._call import items, moment, outcome_of, text
from otel_ml._current import CURRENT
from otel_ml._shield import failed, tell
from otel_ml._values import as_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_ml._buckets import Attributes
    from otel_ml._call import When
    from otel_ml._journal import Scalar
    from otel_ml._outcomes import Remembered
    from otel_ml._state import State

    Segments = str | bool | int | float | Sequence[str | bool | int | float | None]
    Labelled = str | bool | int | float | Scalar | Iterable[str | bool | int | float | Scalar]

# A confusion has a class for each side: more than this many and the rest are `_OTHER`.
MAX_CLASSES = 20


def feedback(
    ids: str | int | Iterable[str | int],
    actual: Labelled,
    *,
    predicted: Labelled | None = None,
    score: float | Scalar | Iterable[float | Scalar] | None = None,
    model: str | None = None,
    version: str | None = None,
    at: When | None = None,
    segment: Mapping[str, Segments] | None = None,
) -> None:
    """Tell what really happened: one label, or one for each id of a batch.

    Each is an event in the trace of its prediction, a count in `ml.ground_truth.labels` and, for classes, one in
    `ml.evaluation.confusions`. With `predicted` given, nothing needs to be remembered: labels may come from another
    job, weeks later. Otherwise the prediction's outcome is joined by id, if its call was asked to remember it (by
    `id=`, `output=`, or by reading or setting `call.id`). The version that counts is that of the prediction.

    Never raises.

    Args:
        ids: What the predictions were identified by.
        actual: The class or number that turned out to be right.
        predicted: What was predicted, if it is known here.
        score: The score that was predicted.
        model: The model's name, if the prediction is not remembered here.
        version: Likewise its version.
        at: The label's own time.
        segment: What divides predictions, each with one value or one for each id: `{"plan": "basic"}`. Checks tell
            segments and groups apart by it; it leaves the process only where a check is asked to show it.

    >>> feedback("order-17", actual="churned", predicted="stayed", model="churn")
    """
    try:
        state = CURRENT.live() if CURRENT.state is not None else CURRENT.find_host()
        if state is None:
            return
        state.start()
        model = None if model is None else as_name(model)
        version = None if version is None else as_name(version)
        when = None if at is None else moment(at)
        many = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str | bytes) else [ids]
        columns = [_column(one, len(many)) for one in (actual, predicted, score)]
        segments = _segments(segment, len(many))
        for id, truth, guess, points, apart in zip(many, *columns, segments, strict=True):
            _label(state, text(id), truth, guess, points, model, version, when, apart)
    except Exception:
        failed("take feedback")


def _column(values: object, count: int) -> list[object]:
    listed: list[object] = items(values) if values is not None else [None] * count
    if len(listed) != count and isinstance(values, Iterable) and not isinstance(values, str | bytes):
        listed = list(cast("Iterable[object]", values))
    if len(listed) != count:
        tell("feedback:length", f"feedback got {count} ids but {len(listed)} values. Give one value for each id.")
        listed = (listed + [None] * count)[:count]
    return listed


def _segments(given: Mapping[str, Segments] | None, count: int) -> list[dict[str, str] | None]:
    if not given:
        return [None] * count
    columns = {
        as_name(key): _column(value, count) if not _is_one(value) else [value] * count for key, value in given.items()
    }
    return [
        {key: as_name(str(values[at])) for key, values in columns.items() if values[at] is not None}
        for at in range(count)
    ]


def _is_one(value: object) -> bool:
    return isinstance(value, str | bool | int | float)


def _label(
    state: State,
    id: str,
    actual: object,
    predicted: object,
    score: object,
    model: str | None,
    version: str | None,
    at: str | None,
    segments: dict[str, str] | None,
) -> None:
    remembered, former = state.outcomes.take(id, (model, version))
    truth, guess = outcome_of(actual), outcome_of(predicted) if predicted is not None else None
    if remembered is not None:
        model, version = remembered.model, remembered.version
        guess = guess if guess is not None else remembered.predicted
    result = names.MATCHED if remembered is not None or guess is not None else names.UNMATCHED
    if former is not None and remembered is None:
        result = names.DUPLICATE
        # It counts where the first label of this prediction did.
        model, version = former if former[0] is not None else (model, version)
    name = model if model is not None else names.OTHER
    state.count(names.GROUND_TRUTH_LABELS, name, version, {names.LABEL_RESULT: result})
    facts: dict[str, object] = {
        names.PREDICTION_ID: id,
        names.MODEL: name,
        names.VERSION: version,
        names.LABEL_RESULT: result,
        names.LABEL_TIME: at,
        names.PREDICTION_TIME: remembered.at if remembered is not None else None,
        names.SCORE: outcome_of(score) if score is not None else None,
    }
    if type(truth) is float or type(guess) is float:
        facts |= {names.ACTUAL_VALUE: truth, names.PREDICTED_VALUE: guess}
    else:
        facts |= {names.CLASS_ACTUAL: named(truth), names.CLASS_PREDICTED: named(guess)}
        if result == names.MATCHED and truth is not None and guess is not None:
            classes: Attributes = {
                names.CLASS_ACTUAL: state.class_names.bounded(name, named(truth)),
                names.CLASS_PREDICTED: state.class_names.bounded(name, named(guess)),
            }
            state.count(names.EVALUATION_CONFUSIONS, name, version, classes)
    context = remembered.context if remembered is not None else None
    if remembered is not None:
        seconds = _delay(remembered, at)
        if seconds is not None:
            state.measure(names.GROUND_TRUTH_DELAY, name, version, seconds)
    kept = {k: v for k, v in facts.items() if v is not None}
    state.log(names.GROUND_TRUTH, time_ns(), kept, context, segments=segments)


def _delay(remembered: Remembered, at: str | None) -> float | None:
    """Return the seconds from a prediction to its label: by their own times where both have one, by the clock if neither."""
    if remembered.at is None and at is None:
        return max(0.0, time_ns() / 1e9 - remembered.made)
    if remembered.at is None or at is None:
        return None
    from datetime import UTC, datetime

    def parsed(text: str) -> datetime:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    try:
        return max(0.0, (parsed(at) - parsed(remembered.at)).total_seconds())
    except ValueError:
        return None


def named(value: object) -> str | None:
    """Return a class as text; True and 1 are the same class, as they are to numpy and scikit-learn."""
    if value is None:
        return None
    return str(int(value)) if isinstance(value, bool) else str(value)
