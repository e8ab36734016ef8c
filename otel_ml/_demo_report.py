"""How good the demo's model was, quarter by quarter, computed from nothing but what the local store holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, TextIO

from otel_ml import _catalog as names
from otel_ml._store import Store
from otel_ml._terminal import encodable

if TYPE_CHECKING:
    from otel_ml._health import ExporterHealth, Health
    from otel_ml._store_records import Attributes, Origin

TOTAL = "total"
# Columns between columns, and of the longest bar.
GAP, BAR = 2, 20


@dataclass(frozen=True, slots=True)
class Quarter:
    """The calls of three months (or of all, as `total`), and the labels that came for them.

    `seconds` has each call's duration; `hits`, `misses`, `false_alarms` and `rejections` count the labels: the positive
    class predicted and right, not predicted but right, predicted but wrong, and neither. A ratio of nothing is None.
    """

    name: str
    seconds: tuple[float, ...]
    errors: int
    hits: int
    misses: int
    false_alarms: int
    rejections: int

    @property
    def labels(self) -> int:
        """Labels that found their prediction."""
        return self.hits + self.misses + self.false_alarms + self.rejections

    @property
    def accuracy(self) -> float | None:
        """Share of labels that were predicted."""
        return _ratio(self.hits + self.rejections, self.labels)

    @property
    def precision(self) -> float | None:
        """Share of the positive predictions that were right."""
        return _ratio(self.hits, self.hits + self.false_alarms)

    @property
    def recall(self) -> float | None:
        """Share of the positive labels that were predicted."""
        return _ratio(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.hits, 2 * self.hits + self.misses + self.false_alarms)

    @property
    def base_rate(self) -> float | None:
        """Share of the labels that are positive."""
        return _ratio(self.hits + self.misses, self.labels)

    def percentile(self, percent: int) -> float | None:
        """Return a percentile of the durations, interpolated, in seconds."""
        if len(self.seconds) < 2:
            return self.seconds[0] if self.seconds else None
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def read(path: Path, model: str, instance: str, *, positive: str) -> list[Quarter]:
    """Return the quarters of one process's predictions in order, and the total last.

    Each call and label counts for the quarter of its prediction's own time, not of when it was recorded.
    """
    with Store.open_read(path) as records:
        calls = [
            (_quarter(span.attributes), span.duration, span.status == "ERROR")
            for span in records.spans(f"{names.PREDICT} {model}", model=model)
            if _is_of(span.origin, instance)
        ]
        labels = [
            (_quarter(facts), facts.get(names.CLASS_ACTUAL) == positive, facts.get(names.CLASS_PREDICTED) == positive)
            for event in records.events(names.GROUND_TRUTH)
            if _is_of(event.origin, instance) and (facts := event.attributes).get(names.LABEL_RESULT) == names.MATCHED
        ]
    found = sorted({name for name, *_ in (*calls, *labels)})
    return [
        *(_quarter_of(one, [c for c in calls if c[0] == one], [x for x in labels if x[0] == one]) for one in found),
        _quarter_of(TOTAL, calls, labels),
    ]


def table(quarters: Sequence[Quarter], out: TextIO) -> str:
    """Return the quarters as a table, the total last; with F1 as bars where `out` is a terminal with room for them."""
    columns = [
        ("", "quarter", [one.name for one in quarters]),
        ("", "calls", [f"{len(one.seconds):,}" for one in quarters]),
        ("p50", "ms", [_shown(one.percentile(50), 1e3) for one in quarters]),
        ("p99", "ms", [_shown(one.percentile(99), 1e3) for one in quarters]),
        ("", "errors", [f"{one.errors:,}" for one in quarters]),
        ("", "accuracy", [_shown(one.accuracy) for one in quarters]),
        ("", "precision", [_shown(one.precision) for one in quarters]),
        ("", "recall", [_shown(one.recall) for one in quarters]),
        ("", "F1", [_shown(one.f1) for one in quarters]),
        ("base", "rate", [_shown(one.base_rate) for one in quarters]),
    ]
    widths = [max(map(len, [first, second, *cells])) for first, second, cells in columns]
    width = sum(widths) + GAP * (len(widths) - 1)
    above, head, *body = [
        (" " * GAP).join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip()
        for cells in zip(*([first, second, *cells] for first, second, cells in columns), strict=True)
    ]
    bar, line = ("█", "─") if encodable("█─", out) else ("#", "-")
    if out.isatty() and shutil.get_terminal_size().columns > width + GAP + BAR:
        head += f"{'F1':>{GAP + 2}}"
        body = [
            f"{text}{' ' * GAP}{bar * round(BAR * (one.f1 or 0.0))}" for text, one in zip(body, quarters, strict=True)
        ]
    return "\n".join([above, head, *body[:-1], line * width, body[-1]])


def remark(quarters: Sequence[Quarter]) -> str:
    """Return the one line that is worth remembering; what it says has been looked up in `quarters`."""
    if falls_in_summer(quarters):
        return (
            "F1 and recall fall every summer and come back in winter, "
            "while accuracy stays high because it seldom rains then."
        )
    return "The seasons show no clear pattern this time: compare F1 with accuracy, quarter by quarter."


def falls_in_summer(quarters: Sequence[Quarter]) -> bool:
    """Say whether every third quarter has lower F1 and recall than its neighbours, yet at least the overall accuracy."""
    *parts, total = quarters
    summers = [number for number, one in enumerate(parts) if one.name.endswith("Q3") and 0 < number < len(parts) - 1]

    def lower(this: Quarter, other: Quarter) -> bool:
        return (this.f1 or 0.0) < (other.f1 or 0.0) and (this.recall or 0.0) < (other.recall or 0.0)

    return bool(summers) and all(
        lower(parts[number], parts[number - 1])
        and lower(parts[number], parts[number + 1])
        and (parts[number].accuracy or 0.0) >= (total.accuracy or 0.0)
        and (parts[number].base_rate or 0.0) < (total.base_rate or 0.0)
        for number in summers
    )


def labelled(quarters: Sequence[Quarter]) -> str:
    """Return how many predictions the ratios are made from."""
    total = quarters[-1]
    return f"{total.labels:,} of {len(total.seconds):,} predictions have a label: the last day's tomorrow is not in the data."


def fates(health: Health) -> str:
    """Return a line for each place: what it took, what waits for it on disk, and what was lost and why."""
    return "\n".join(line for exporter in health.exporters for line in _fate(exporter))


def _fate(exporter: ExporterHealth) -> list[str]:
    took = [f"{account.delivered:,} {_COUNTED[signal]}" for signal, account in exporter.signals.items()]
    lost = [
        f"{count:,} {_COUNTED[signal]} ({reason})"
        for signal, account in exporter.signals.items()
        for reason, count in sorted(account.dropped.items())
    ]
    waits = [
        f"{account.spooled:,} {_COUNTED[signal]}" for signal, account in exporter.signals.items() if account.spooled
    ]
    lines = [f"{exporter.where} took {', '.join(took)}."]
    if waits:
        lines.append(f"  waits on disk until it answers: {', '.join(waits)}")
    return [*lines, f"  lost: {', '.join(lost)}"] if lost else lines


_COUNTED = {"spans": "spans", "events": "events", "metrics": "metric points"}


def _is_of(origin: Origin, instance: str) -> bool:
    return origin.resource.get(names.SERVICE_INSTANCE) == instance


def _quarter(facts: Attributes) -> str:
    """Return the quarter of the prediction's own time, which is in ISO 8601."""
    year, _, rest = str(facts.get(names.PREDICTION_TIME)).partition("-")
    month = rest[:2]
    return f"{year} Q{(int(month) + 2) // 3}" if month.isdecimal() else "unknown"


def _quarter_of(
    name: str, calls: Iterable[tuple[str, float, bool]], labels: Iterable[tuple[str, bool, bool]]
) -> Quarter:
    made = list(calls)
    pairs = [(actual, predicted) for _, actual, predicted in labels]
    return Quarter(
        name,
        tuple(seconds for _, seconds, _ in made),
        sum(failed for *_, failed in made),
        hits=pairs.count((True, True)),
        misses=pairs.count((True, False)),
        false_alarms=pairs.count((False, True)),
        rejections=pairs.count((False, False)),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _shown(value: float | None, factor: float = 1.0) -> str:
    return "-" if value is None else f"{value * factor:.2f}"
