"""Promise 13: we do not watch ourselves, with every instrumentation on and all logs going into OpenTelemetry.

OpenTelemetry's instrumentations ask for an SDK of their own release, so this runs in an environment of its own:
`make test-all`, or `.venv-self/bin/python -m pytest tests/selfwatch`.
"""

from pathlib import Path

import pytest

from otel_ml.testing import FaultCollector
from tests.faults import running

pytestmark = pytest.mark.faults

SECONDS = 3.0
MOST_LINES = 20


def watch(
    env: dict[str, str], tmp_path: Path, mode: str, place: str, *, host: bool
) -> tuple[dict[str, object], list[str]]:
    """Run the program that makes one span; return what it said, and the names of the spans that reached a collector."""
    with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
        ended = running.run(
            "../../selfwatch/watched", env, endpoint=collector.endpoint, place=place, host=host, seconds=SECONDS,
            store=str(tmp_path / "store.db"),
        )  # fmt: skip
        return ended.said, [span.name for span in collector.spans]


@pytest.mark.parametrize(
    ("place", "mode"),
    [
        ("http", "healthy"),
        ("http", "refused"),
        ("http", "silent"),
        ("http", 503),
        ("grpc", "healthy"),
        ("grpc", "refused"),
        ("official", "healthy"),
        ("official", "refused"),
        ("local", "healthy"),
    ],
)
@pytest.mark.parametrize("host", [False, True], ids=["alone", "in a host"])
def test_one_span_is_one_span(
    place: str, mode: str, host: bool, bare_environment: dict[str, str], tmp_path: Path
) -> None:
    """With the collector up and down, one call makes one span, and our own lines stay few."""
    said, arrived = watch(bare_environment, tmp_path, mode, place, host=host)

    assert {"grpc_client", "requests", "urllib3", "urllib", "threading", "logging"} <= set(said["instrumented"])  # type: ignore[call-overload]  # a list
    assert said["spans"] == ["predict churn"]
    if mode == "healthy" and place in ("http", "official"):
        assert arrived == ["predict churn"]
    lines = said["lines"]
    assert isinstance(lines, dict)
    assert lines["mine"] == 1
    assert lines.get("otel_ml", 0) <= MOST_LINES
    if not host:
        # What OpenTelemetry gets of the log: the user's line and ours, but not what exporting makes others log at DEBUG.
        assert 1 <= said["records"] <= MOST_LINES  # type: ignore[operator]  # a number


def test_the_environment_is_the_one_that_is_meant() -> None:
    """The SDK is of the same release as the instrumentations."""
    from importlib.metadata import version

    assert version("opentelemetry-instrumentation-requests") == "0.66b1"
    assert version("opentelemetry-sdk") == "1.45.1"
