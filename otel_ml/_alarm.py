"""A condition on a metric, written out for whatever back end is in use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, cast

from otel_ml import _catalog as names
from otel_ml._finding import Severity
from otel_ml.errors import ConfigurationError

Statistic = Literal["average", "sum", "minimum", "maximum", "count", "rate"]
Missing = Literal["ignore", "ok", "alarm"]

_STATISTICS = ("average", "sum", "minimum", "maximum", "count", "rate")
_KNOWN = {one.name: one for one in names.METRICS}


@dataclass(frozen=True)
class Alarm:
    """A condition on one of our metrics: it holds where the metric lies `above` or `below` a number.

    Nothing evaluates it inside your program: `otel-ml alarms` writes it out for your back end.

    `metric` is a name from docs/telemetry.md. Of a histogram, `quantile` says which one; of anything else, or of a
    histogram's values as a whole, `statistic` (without it: the rate a second of a counter, the average of a gauge). The
    condition has to hold in m of the last n `periods`. `model` names one model or several; None: all of them, where the
    back end can say so. `when_missing` says what no data means. `advice` goes into the notification.

    >>> Alarm(name="slow", metric="ml.prediction.duration", quantile=0.99, above=0.5).periods
    (1, 1)
    """

    name: str
    metric: str
    quantile: float | None = None
    statistic: Statistic | None = None
    above: float | None = None
    below: float | None = None
    periods: tuple[int, int] = (1, 1)
    model: str | tuple[str, ...] | None = None
    severity: Severity = "warning"
    when_missing: Missing = "ignore"
    advice: str = ""

    def __post_init__(self) -> None:
        if type(self.name) is not str or not self.name.strip():
            raise ConfigurationError('An alarm needs a name. Write for example Alarm(name="slow", ...).')
        given: object = self.model
        if isinstance(given, list):
            object.__setattr__(self, "model", tuple(cast("list[str]", given)))
        self._check_metric()
        self._check_condition()

    @property
    def models(self) -> tuple[str, ...]:
        """The models it is about; empty where it is about all."""
        return () if self.model is None else (self.model,) if isinstance(self.model, str) else self.model

    def _check_metric(self) -> None:
        instrument = _KNOWN.get(self.metric)
        if instrument is None:
            near = get_close_matches(str(self.metric), _KNOWN, 1)
            cure = f'Write metric="{near[0]}".' if near else "docs/telemetry.md lists them."
            raise ConfigurationError(f"Alarm {self.name!r} names {self.metric!r}, which is no metric of ours. {cure}")
        histogram = instrument.kind == "histogram"
        if self.quantile is not None and (not histogram or not 0.0 < self.quantile < 1.0):
            raise ConfigurationError(
                f"Alarm {self.name!r} has quantile={self.quantile!r}, which {self.metric} has not. "
                "Give a number between 0 and 1 for a histogram, as quantile=0.99, or leave it out."
            )
        if histogram and self.quantile is None and self.statistic is None:
            raise ConfigurationError(
                f"Alarm {self.name!r} does not say what of the histogram {self.metric} it looks at. "
                'Write quantile=0.99, or statistic="average".'
            )
        if self.statistic is not None and (self.statistic not in _STATISTICS or self.quantile is not None):
            raise ConfigurationError(
                f"Alarm {self.name!r} has statistic={self.statistic!r}, which cannot be used here. "
                f"Write one of {', '.join(_STATISTICS)}, and no quantile beside it."
            )

    def _check_condition(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ConfigurationError(f"Alarm {self.name!r} needs one of above and below. Write for example above=0.5.")
        if not _is_number(self.above if self.above is not None else self.below):
            raise ConfigurationError(f"Alarm {self.name!r} has a limit that is no number. Write for example above=0.5.")
        if not _are_periods(self.periods):
            raise ConfigurationError(
                f"Alarm {self.name!r} has periods={self.periods!r}. Write (m, n): it holds in m of the last n, as (2, 3)."
            )


def _are_periods(given: object) -> bool:
    if not isinstance(given, tuple) or len(cast("tuple[object, ...]", given)) != 2:
        return False
    m, n = cast("tuple[object, object]", given)
    return type(m) is int and type(n) is int and 1 <= m <= n


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and not math.isnan(given)
