"""Seeded programs: ids differ from run to run, and what the seeds give is what they give without us."""

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.running import run

pytestmark = pytest.mark.faults


def seeded(env: dict[str, str], mode: str, *, observed: bool = True, sampling: float = 1.0) -> dict[str, list[object]]:
    """Run the program that seeds everything with 42, and return its trace ids and what it drew."""
    with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
        ended = run("seeded", env, endpoint=collector.endpoint, observed=observed, sampling=sampling)
    assert ended.code == 0, ended.err
    return ended.said  # type: ignore[return-value]  # lists


@pytest.mark.parametrize("sampling", [1.0, 0.0, 0.5])
def test_two_runs_of_a_seeded_program_have_no_trace_in_common(
    sampling: float, bare_environment: dict[str, str]
) -> None:
    """`random.seed(42)` repeats the ids of OpenTelemetry's own generator, but not ours."""
    first, second = (seeded(bare_environment, "healthy", sampling=sampling)["traces"] for _ in range(2))

    assert set(first).isdisjoint(second)
    assert "0" * 32 not in first


@pytest.mark.parametrize("mode", ["healthy", "refused", 503])
def test_nothing_is_drawn_from_the_users_generators(mode: str, bare_environment: dict[str, str]) -> None:
    """A seeded program draws the same numbers with us as without, also while a collector is tried again and again."""
    without = seeded(bare_environment, "healthy", observed=False)
    with_us = seeded(bare_environment, mode)

    assert with_us["drawn"] == without["drawn"]
    assert len(with_us["drawn"]) >= 10
