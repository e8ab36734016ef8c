"""Promise 6: what is recorded in children counts, once: processes, pools, every way of starting them."""

import multiprocessing
import os
import threading
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.programs.children import CALLS, STEPS
from tests.faults.running import Ended, run

pytestmark = pytest.mark.faults

CHILDREN = 4
fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
starts = [
    pytest.param(start, marks=[] if start in multiprocessing.get_all_start_methods() else pytest.mark.skip)
    for start in ("fork", "spawn", "forkserver")
]


def totals(collector: FaultCollector, name: str) -> dict[str, float]:
    """Return a counter's total for each process, from the last collection each has sent."""
    last: dict[str, float] = {}
    for request in collector.requests:
        if not request.path.endswith("/v1/metrics"):
            continue
        for resource in ExportMetricsServiceRequest.FromString(request.body).resource_metrics:
            facts = {one.key: one.value.string_value for one in resource.resource.attributes}
            points = [
                point.as_int or point.as_double
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name == name
                for point in metric.sum.data_points
            ]
            if points:
                last[facts["service.instance.id"]] = sum(points)
    return last


def ids(collector: FaultCollector) -> Counter[str]:
    """Return how often each call arrived."""
    return Counter(
        attribute.value.string_value
        for span in collector.spans
        for attribute in span.attributes
        if attribute.key == "ml.prediction.id"
    )


def start(env: dict[str, str], collector: FaultCollector, **settings: object) -> Ended:
    """Run the program that starts children, and check that all went well."""
    asked = {"how": "process", "start": "fork", "what": "all", "children": CHILDREN, "parent": True} | settings
    ended = run("children", env, endpoint=collector.endpoint, **asked)
    assert ended.code == 0, ended.err
    assert ended.said["flushed"]
    return ended


class TestEveryKindOfChild:
    @pytest.mark.parametrize("method", starts)
    @pytest.mark.parametrize("how", ["process", "pool"])
    def test_what_a_child_records_arrives_once(self, how: str, method: str, bare_environment: dict[str, str]) -> None:
        """Every call, step and run of parent and children arrives exactly once, and the totals add up."""
        with FaultCollector() as collector:
            start(bare_environment, collector, how=how, start=method)

            who = ["parent", "parent-again", *(f"child-{number}" for number in range(CHILDREN))]
            assert ids(collector) == {f"{one}-{number}": 1 for one in who for number in range(CALLS)}
            runs = Counter(span.name for span in collector.spans if span.name.startswith("train "))
            assert runs == {f"train {one}": 1 for one in who}
            steps = [log for log in collector.logs if log.event_name == "ml.training.step.completed"]
            assert len(steps) == STEPS * len(who)
            samples = totals(collector, "ml.prediction.samples")
            assert sum(samples.values()) == CALLS * len(who)
            # A pool may give all its work to one of its processes.
            assert len(samples) == 1 + CHILDREN if how == "process" else 2 <= len(samples) <= 3
            assert sum(totals(collector, "ml.training.steps").values()) == STEPS * len(who)

    @fork_only
    def test_a_child_that_exits_by_itself_delivers(self, bare_environment: dict[str, str]) -> None:
        """`os.fork` and `sys.exit`, without multiprocessing."""
        with FaultCollector() as collector:
            start(bare_environment, collector, how="exit")

            assert len(ids(collector)) == CALLS * (CHILDREN + 2)
            assert set(ids(collector).values()) == {1}
            assert sum(totals(collector, "ml.prediction.samples").values()) == CALLS * (CHILDREN + 2)

    @fork_only
    def test_children_count_where_the_parent_records_nothing(self, bare_environment: dict[str, str]) -> None:
        """A parent that only configures, as a server's master does."""
        with FaultCollector() as collector:
            start(bare_environment, collector, parent=False)

            assert len(ids(collector)) == CALLS * CHILDREN
            assert sum(totals(collector, "ml.prediction.samples").values()) == CALLS * CHILDREN

    @fork_only
    @pytest.mark.parametrize("what", ["train", "tell", "span"])
    def test_a_child_delivers_whatever_it_records_first(self, what: str, bare_environment: dict[str, str]) -> None:
        """A training run, a label or a span of its own is the only thing the child records."""
        with FaultCollector() as collector:
            start(bare_environment, collector, what=what, parent=False)

            found = {
                "train": sum(span.name.startswith("train child-") for span in collector.spans),
                "tell": sum(log.event_name == "ml.ground_truth.received" for log in collector.logs),
                "span": sum(span.name.startswith("child-") for span in collector.spans),
            }
            assert found[what] == CHILDREN


class TestThreads:
    @fork_only
    @pytest.mark.parametrize("parent", [True, False], ids=["busy parent", "idle parent"])
    def test_a_child_that_records_nothing_has_no_thread_of_ours(
        self, parent: bool, bare_environment: dict[str, str]
    ) -> None:
        """A forked child has its one thread until it records, as Python and the system count."""
        with FaultCollector() as collector:
            ended = start(bare_environment, collector, how="nothing", parent=parent)

        assert ended.said["threads"] == [1, 1]

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
    def test_no_thread_runs_before_the_first_record(self, workdir: Path) -> None:
        """`configure()` starts nothing; the first call does."""

        def threads() -> int:
            return len(list(Path("/proc/self/task").iterdir()))

        @otel_ml.predict
        def score(value: float) -> float:
            return value

        with FaultCollector() as collector:
            before, count = threading.active_count(), threads()
            otel_ml.configure(
                exporters=[otel_ml.exporters.OTLP(collector.endpoint), otel_ml.exporters.Local("notes.db")]
            )
            otel_ml.health()
            assert (threading.active_count(), threads()) == (before, count)

            score(1.0)
            assert threading.active_count() > before
            otel_ml.shutdown()
