"""Promise 14: clocks and freezes do not matter: a stopped process loses nothing, a wall clock that jumps changes nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.running import PROGRAMS, Ended, run

pytestmark = pytest.mark.faults

SPANS = 100
NANOSECONDS = 1e9
# Seconds that a span of nothing, and one around a flush, may take on a machine with other work.
QUICK, LONG = 2.0, 8.0


@contextmanager
def begun(program: str, env: dict[str, str], **settings: object) -> Iterator[subprocess.Popen[str]]:
    """Begin a program, which is over at the end of the block, one way or another."""
    command = [sys.executable, str(PROGRAMS / f"{program}.py"), json.dumps(settings)]
    with subprocess.Popen(
        command, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
class TestFreeze:
    @pytest.mark.parametrize(
        ("seconds", "timeout"), [(3.0, 1.0), pytest.param(12.0, None, marks=pytest.mark.slow)], ids=["3s", "12s"]
    )
    @pytest.mark.parametrize("answers", ["meanwhile", pytest.param("later", marks=pytest.mark.slow), "never"])
    def test_a_process_that_is_stopped_in_an_export_loses_nothing(
        self, answers: str, seconds: float, timeout: float | None, bare_environment: dict[str, str]
    ) -> None:
        """Stopped for longer than its time-out, whenever the answer comes, a program delivers everything in the end."""
        with (
            FaultCollector("silent" if answers == "never" else "healthy", delay=0.2) as collector,
            begun(
                "freezing", bare_environment, endpoint=collector.endpoint, timeout=timeout, spans=SPANS
            ) as process,
        ):  # fmt: skip
            if answers == "never":
                assert collector.wait_for(lambda c: bool(c.requests), 20.0)
            else:
                assert collector.wait_for(lambda c: any(one.path == "/v1/traces" for one in c.requests), 20.0)
            os.kill(process.pid, signal.SIGSTOP)
            seen = len(collector.requests)
            assert not collector.wait_for(lambda c: len(c.requests) > seen, seconds)
            if answers == "later":
                # The connection that was there is gone as well.
                collector.mode = "refused"
            collector.mode = "healthy"
            os.kill(process.pid, signal.SIGCONT)
            out, err = process.communicate(timeout=60.0)

            assert process.returncode == 0, err
            assert len({span.span_id for span in collector.spans}) == SPANS
        accounts = json.loads(out.splitlines()[-2])
        assert accounts["spans"] == [SPANS, SPANS, 0]
        assert [dropped for _, _, dropped in accounts.values()] == [0, 0, 0], accounts


def seconds_of(collector: FaultCollector, name: str) -> list[float]:
    """Return how long the spans of a name took, as they say."""
    return [
        (span.end_time_unix_nano - span.start_time_unix_nano) / NANOSECONDS
        for span in collector.spans
        if span.name == name
    ]


def stepped(collector: FaultCollector, env: dict[str, str], during: str, hours: int = 0) -> Ended:
    """Run the program whose clock jumps, and check that it delivered everything in time."""
    ended = run("stepping", env, endpoint=collector.endpoint, during=during, hours=hours)
    assert ended.code == 0, ended.err
    assert ended.said["dropped"] == 0
    assert ended.said["flushed"] == [True] * 4
    assert len(seconds_of(collector, "predict quick")) == 80
    return ended


class TestClockSteps:
    def test_an_export_does_not_look_at_the_wall_clock(self, bare_environment: dict[str, str]) -> None:
        """The clock jumps by an hour at each read and write: no time-out exceeds 10 s, and flushes take no longer."""
        with FaultCollector(delay=0.05) as collector:
            ended = stepped(collector, bare_environment, "exchanges")

            assert ended.said["steps"] > 30  # type: ignore[operator]  # a number
            shortest, longest = ended.said["timeouts"]  # type: ignore[misc]  # two numbers
            assert 0 < shortest <= longest <= 10.0
            assert ended.said["longest"] < LONG  # type: ignore[operator]  # a number
            assert all(0 <= one < QUICK for one in seconds_of(collector, "predict quick"))

    def test_pauses_do_not_look_at_the_wall_clock(self, bare_environment: dict[str, str]) -> None:
        """A batch that is to be tried again in a second is, whatever the wall clock says meanwhile."""
        # Each of the three signals is refused about twice.
        with FaultCollector(503, times=6, retry_after="1") as collector:
            ended = stepped(collector, bare_environment, "exchanges")

            assert 0.9 < ended.said["longest"] < LONG  # type: ignore[operator]  # a number

    @pytest.mark.parametrize("hours", [1, -1])
    def test_spans_last_as_long_as_they_lasted(self, hours: int, bare_environment: dict[str, str]) -> None:
        """A call or run in which the clock is put right, and telemetry is sent, has a true duration all the same."""
        with FaultCollector() as collector:
            stepped(collector, bare_environment, "calls", hours)

            for name in ("predict long", "train long"):
                lasted = seconds_of(collector, name)
                assert len(lasted) == 4
                assert all(0 <= one < LONG for one in lasted), lasted

    @pytest.mark.parametrize("hours", [1, -1])
    def test_points_do_not_end_before_they_begin(self, hours: int, bare_environment: dict[str, str]) -> None:
        """The time of a point is never before its start, whichever way the clock was put right."""
        with FaultCollector() as collector:
            stepped(collector, bare_environment, "calls", hours)

            points = [
                point
                for metric in collector.metrics
                for point in (*metric.sum.data_points, *metric.histogram.data_points)
            ]
            assert points
            assert [one for one in points if one.start_time_unix_nano > one.time_unix_nano] == []

    @pytest.mark.parametrize("hours", [1, -1])
    def test_measured_durations_are_true(self, hours: int, bare_environment: dict[str, str]) -> None:
        """What histograms have of calls in which the clock was put right is how long those took."""
        with FaultCollector() as collector:
            stepped(collector, bare_environment, "calls", hours)

            sums = [
                point.sum
                for metric in collector.metrics
                if metric.name in ("ml.prediction.duration", "ml.training.duration")
                for point in metric.histogram.data_points
            ]
            assert sums
            assert all(0 <= one < 4 * LONG for one in sums), sums
