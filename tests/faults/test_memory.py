"""Promise 4: memory is bounded by bytes, whatever is recorded and however much of it; and every record is accounted for."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.running import run

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of a process from /proc"),
]

# What the program does once before it is measured.
WARM_UP = 1_000
# The run around everything has a span of its own, and says that it began and ended.
RUN_SPANS, RUN_EVENTS = 1, 2


@dataclass(frozen=True)
class Case:
    """What to record into what, how often by default and in full, and how many megabytes and records that may be."""

    what: str
    into: str
    count: int
    full: int
    megabytes: float
    spans: int = 0
    events: int = 0

    def __str__(self) -> str:
        return f"{self.what} into {self.into}"


# The first two are the figures that are promised; the others are further ways to hold much.
LABELS = Case("labelled_without_span", "metrics", 100_000, 1_000_000, 10)
SPANS = Case("with_text", "black hole", 60_000, 600_000, 32, spans=1)
CASES = [
    LABELS,
    SPANS,
    Case("labelled", "black hole and metrics", 20_000, 200_000, 32, spans=1),
    Case("with_many_texts", "black hole", 6_000, 100_000, 32, spans=1),
    Case("with_numbers", "black hole", 5_000, 100_000, 32, spans=1),
    Case("with_result", "black hole", 2_000, 20_000, 32, spans=1),
    Case("fails", "spans", 30_000, 1_000_000, 8, spans=1),
    Case("fails_in_many_ways", "black hole", 10_000, 100_000, 32, spans=1),
    Case("named", "black hole", 10_000, 100_000, 64, spans=1),
    Case("staged", "black hole", 20_000, 200_000, 32, spans=2),
    Case("fed_back", "black hole", 30_000, 300_000, 48, events=1),
    Case("logged", "black hole", 60_000, 1_000_000, 32, events=1),
    Case("logged_texts", "black hole", 30_000, 300_000, 32, events=1),
    Case("logged_keys", "black hole", 30_000, 300_000, 32, events=1),
    Case("under_spans", "black hole", 20_000, 200_000, 32, spans=2),
    Case("own_spans", "black hole", 10_000, 100_000, 32, spans=1),
    Case("own_records", "black hole", 10_000, 100_000, 32, events=1),
    Case("spans_with_events", "black hole", 2_000, 50_000, 32, spans=1),
    # Nobody ever collects these.
    Case("measured", "spans", 200_000, 3_000_000, 4),
    Case("measured", "nothing", 200_000, 3_000_000, 4),
    Case("logged", "spans", 100_000, 1_000_000, 4),
    Case("score", "nothing", 200_000, 3_000_000, 4),
]


def grow(case: Case, count: int, env: dict[str, str]) -> dict[str, object]:
    """Run a case, check its memory and its accounts, and return what it said."""
    with FaultCollector("silent") as collector:
        ended = run(
            "growing", env, limit=600.0,
            endpoint=collector.endpoint, what=case.what, into=case.into, count=count, interval=None,
        )  # fmt: skip
    assert ended.code == 0, ended.err
    said = ended.said
    print(f"{case}: {count} records, {said['grown']:.1f} MB")
    assert isinstance(said["grown"], float)
    assert said["grown"] <= case.megabytes
    created = said["created"]
    assert isinstance(created, dict)
    if "spans" in created:
        assert created["spans"] == RUN_SPANS + case.spans * (WARM_UP + count)
    if "events" in created:
        assert created["events"] == RUN_EVENTS + case.events * (WARM_UP + count)
    return said


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_program_grows_no_further(case: Case, bare_environment: dict[str, str]) -> None:
    """However much is recorded, memory stays below the bound, and created = delivered + dropped + queued."""
    grow(case, case.count, bare_environment)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_program_grows_no_further_at_length(case: Case, bare_environment: dict[str, str]) -> None:
    """The same in full numbers: a million labels, 600,000 spans of a kilobyte, 100,000 models."""
    grow(case, case.full, bare_environment)


def conserved(said: dict[str, object], count: int) -> None:
    """Check that every measurement is in some series, and that most are in the overflow."""
    for name in ("durations", "samples", "batches"):
        series = said[name]
        assert isinstance(series, list)
        assert sum(value for _, value in series) == WARM_UP + count
        assert len(series) <= 2_001
        assert sum(over for over, _ in series) == 1
        assert sum(value for over, value in series if over) > count / 2


def test_every_measurement_is_conserved(bare_environment: dict[str, str]) -> None:
    """With more labels than there may be series, series and overflow together hold every call, exactly once."""
    conserved(grow(LABELS, LABELS.count, bare_environment), LABELS.count)


@pytest.mark.slow
def test_every_measurement_of_a_million_labels_is_conserved(bare_environment: dict[str, str]) -> None:
    """The same for a million labels."""
    conserved(grow(LABELS, LABELS.full, bare_environment), LABELS.full)
