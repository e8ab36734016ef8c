"""We do not watch ourselves: with every instrumentation on, one call is one span, whether or not the collector answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from otel_ml.testing import FaultCollector

pytest.importorskip("opentelemetry.instrumentation.requests", reason="type: make test-all")

PROGRAM = Path(__file__).with_name("program.py")
SECONDS = 4.0


def watched(endpoint: str, protocol: str, folder: Path) -> dict[str, object]:
    """Run the program and return what it says."""
    asked = json.dumps({"endpoint": endpoint, "protocol": protocol, "seconds": SECONDS})
    done = subprocess.run(
        [sys.executable, str(PROGRAM), asked], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_one_call_is_one_span(protocol: str, tmp_path: Path) -> None:
    """Sending, storing and collecting make no span and no endless log, with a collector that answers."""
    with FaultCollector() as collector:
        said = watched(collector.endpoint, protocol, tmp_path)
        # The collector speaks HTTP only: to gRPC it is one that does not understand.
        assert [span.name for span in collector.spans] == ["predict watched"] * (protocol != "grpc")

    assert set(said["created"].values()) == {1}  # type: ignore[attr-defined]  # a mapping of numbers
    assert said["lines"] <= 20  # type: ignore[operator]  # a number


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_nor_while_the_collector_is_away(protocol: str, tmp_path: Path) -> None:
    """Failing and trying again is not watched either, and says what it has to say in a few lines."""
    said = watched("http://127.0.0.1:9", protocol, tmp_path)

    assert set(said["created"].values()) == {1}  # type: ignore[attr-defined]  # a mapping of numbers
    assert said["lines"] <= 20  # type: ignore[operator]  # a number
