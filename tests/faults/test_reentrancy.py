"""Promise 5: signal handlers, finalizers and the garbage collector may record and flush at any moment, and nothing hangs."""

import signal

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.running import run

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that interrupt"),
]

WORK = ("record", "flush", "configure", "threads", "fork")


def interrupt(
    env: dict[str, str], by: str, work: str, count: int, *, foreign: bool, mode: str = "healthy", interval: float = 0.05
) -> dict[str, object]:
    """Interrupt some work until the handler has run `count` times; nothing hangs and nothing is counted wrong."""
    hangs = 20.0 + count / 100
    with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
        ended = run(
            "interrupted", env, limit=hangs + 10.0,
            endpoint=collector.endpoint, by=by, work=work, count=count, hangs=hangs, foreign=foreign,
            healthy=mode == "healthy", interval=interval,
        )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err, ended.err
    said = ended.said
    assert isinstance(said["handled"], int)
    assert said["handled"] >= (1 if work == "fork" else count)
    if work not in ("configure", "fork"):
        # Two decorated calls and a step each time; a new configuration or a child counts for itself.
        assert isinstance(said["calls"], int)
        assert (said["counted"], said["steps"]) == (2 * said["calls"], said["logs"])
    return said


@pytest.mark.parametrize("by", ["signal", "collector"])
@pytest.mark.parametrize("foreign", [False, True], ids=["own", "foreign"])
@pytest.mark.parametrize("work", WORK)
def test_nothing_hangs(by: str, work: str, foreign: bool, bare_environment: dict[str, str]) -> None:
    """A handler records new labels, logs, tells labels and flushes while the program does the same."""
    interrupt(bare_environment, by, work, 100 if foreign else 200, foreign=foreign)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("by", "work", "foreign", "count"),
    [
        ("signal", "record", False, 10_000),
        ("signal", "threads", False, 10_000),
        ("signal", "flush", False, 2_000),
        ("signal", "configure", False, 2_000),
        ("signal", "fork", False, 2_000),
        ("signal", "flush", True, 500),
        ("signal", "record", True, 500),
        ("collector", "record", False, 10_000),
        ("collector", "flush", True, 1_000),
        ("collector", "fork", False, 2_000),
    ],
)
def test_nothing_hangs_10_000_times(
    by: str, work: str, foreign: bool, count: int, bare_environment: dict[str, str]
) -> None:
    """The same 10,000 times, or fewer where one time takes long."""
    interrupt(bare_environment, by, work, count, foreign=foreign, interval=1.0)


def test_a_flush_in_a_handler_during_a_flush_keeps_to_its_time(bare_environment: dict[str, str]) -> None:
    """With a collector that never answers, flushes in flushes come back."""
    said = interrupt(bare_environment, "signal", "flush", 100, foreign=True, mode="silent")

    # A handler that has begun when the time is up runs to its end, with a flush of its own.
    longest, of_ours = said["longest"]  # type: ignore[misc]  # two numbers
    assert longest >= 0.5
    assert of_ours < 1.5


@pytest.mark.parametrize(("variables", "every"), [(0, 1), (0, 20), (40, 1)])
@pytest.mark.parametrize("spans", [True, False], ids=["spans", "metrics only"])
@pytest.mark.parametrize("sampling", [1.0, 0.0])
def test_finalizers_that_call_watched_functions(
    variables: int, every: int, spans: bool, sampling: float, bare_environment: dict[str, str]
) -> None:
    """Garbage may be collected at any moment, in the middle of our own work too: CPython 3.11 would crash at that."""
    ended = run(
        "finalized", bare_environment, variables=variables, every=every, spans=spans, sampling=sampling, calls=30_000
    )

    assert ended.code == 0, ended.err
    assert ended.said["current"] == "<nothing observed>"
