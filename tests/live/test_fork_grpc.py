"""Forking with gRPC at work towards a real collector: what children record arrives once, and none of them crashes."""

import os
from time import monotonic

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.test_fork import delivered, fork
from tests.live.conftest import Rotel

pytestmark = [
    pytest.mark.live,
    pytest.mark.alone,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
]

FORKS = 40


def test_children_deliver_over_grpc(rotel: Rotel, bare_environment: dict[str, str]) -> None:
    """Forty forks under two recording threads and a busy gRPC exporter."""
    began = monotonic()
    fork(bare_environment, FORKS, grpc=[rotel.grpc], healthy=True, flush=2.5)

    def arrived(collector: FaultCollector) -> bool:
        return sum(span.name == "train child" for span in collector.spans) >= FORKS or monotonic() - began > 60.0

    rotel.behind.wait_for(arrived, timeout=10.0)
    delivered(rotel.behind, FORKS)
