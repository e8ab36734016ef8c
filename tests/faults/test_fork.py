"""Promise 5: a process may fork at any moment: no child hangs, whatever the parent's threads are doing."""

import os
from collections import Counter
from pathlib import Path

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.running import run

pytestmark = [
    pytest.mark.faults,
    pytest.mark.alone,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
]

# Seconds after which a child hangs.
LIMIT = 3.0


def fork(env: dict[str, str], forks: int, **settings: object) -> None:
    """Fork under load, and check that every child has ended by itself and well."""
    asked = {"http": [], "grpc": [], "local": None, "healthy": False, "flush": 0.05} | settings
    ended = run("forking", env, limit=60.0 + forks * 0.6, forks=forks, hangs=LIMIT, **asked)
    assert ended.code == 0, ended.err
    assert ended.said["codes"] == {"0": forks}, ended.err


def fork_and_deliver(env: dict[str, str], forks: int) -> None:
    """Fork under load with a collector that answers; everything recorded in a child arrives once."""
    with FaultCollector() as collector:
        fork(env, forks, http=[collector.endpoint], healthy=True, flush=2.5)
        delivered(collector, forks)


def delivered(collector: FaultCollector, forks: int) -> None:
    """Check that every child's call and step has arrived once."""
    ids = Counter(
        attribute.value.string_value
        for span in collector.spans
        for attribute in span.attributes
        if attribute.key == "ml.prediction.id" and attribute.value.string_value.startswith("child-")
    )
    assert ids == {f"child-{number}": 1 for number in range(forks)}
    steps = [log for log in collector.logs if log.event_name == "ml.training.step.completed"]
    runs = [a.value.string_value for log in steps for a in log.attributes if a.key == "ml.model.name"]
    assert runs.count("child") == forks


class TestForkUnderLoad:
    def test_no_child_hangs_and_everything_arrives(self, bare_environment: dict[str, str]) -> None:
        """150 forks under two recording threads and a busy exporter; children flush and leave by `os._exit`."""
        fork_and_deliver(bare_environment, 150)

    @pytest.mark.slow
    @pytest.mark.timeout(1_200)
    def test_no_child_of_2_000_hangs(self, bare_environment: dict[str, str]) -> None:
        """The same 2,000 times."""
        fork_and_deliver(bare_environment, 2_000)

    def test_no_child_hangs_or_crashes_over_grpc(self, bare_environment: dict[str, str]) -> None:
        """Forked while gRPC waits for answers that never come: its core would abort one child in twelve."""
        with FaultCollector("silent") as silent, FaultCollector("refused") as refused:
            fork(bare_environment, 40, grpc=[silent.endpoint, refused.endpoint])

    @pytest.mark.slow
    @pytest.mark.timeout(1_200)
    def test_no_child_of_500_hangs_or_crashes_over_grpc(self, bare_environment: dict[str, str]) -> None:
        """The same 500 times."""
        with FaultCollector("silent") as silent, FaultCollector("refused") as refused:
            fork(bare_environment, 500, http=[silent.endpoint], grpc=[silent.endpoint, refused.endpoint])

    def test_no_child_hangs_with_the_local_store(self, bare_environment: dict[str, str], tmp_path: Path) -> None:
        """Forked while the store is being written."""
        fork(bare_environment, 20, local=str(tmp_path / "store.db"), flush=2.0, healthy=True)

    def test_no_child_hangs_at_a_line_of_ours(self, bare_environment: dict[str, str]) -> None:
        """Forked while a line is being written to `sys.stderr`, whose lock a child would find locked for ever."""
        ended = run("printing", bare_environment, forks=100, hangs=LIMIT)

        assert ended.said["codes"] == {"0": 100}
