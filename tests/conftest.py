"""Every test starts without telemetry and leaves none behind, and a failure of ours fails the test."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import context

import otel_ml
from otel_ml import _late, _shield
from otel_ml._current import CURRENT
from otel_ml._frames import FRAME

# A shell that runs the tests in the background ignores SIGINT for them, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Hostile text that a test has printed does not end a worker of pytest-xdist, which sends reports as UTF-8."""
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No OpenTelemetry setting of the machine reaches a test, and what it leaves undelivered reaches no other."""
    for name in [*os.environ]:
        if name.startswith("OTEL_") and name != "OTEL_ML_REQUIRE_LIVE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def unshielded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `otel_ml` would swallow is raised, unless the test is marked `shielded`."""
    monkeypatch.setattr(_shield, "transparent", request.node.get_closest_marker("shielded") is None)
    monkeypatch.setattr(_shield, "_told", {})
    monkeypatch.setattr(_shield, "_failures", {})
    _late.forget()


@pytest.fixture(autouse=True)
def no_state_left() -> Iterator[None]:
    """The module-level state is shut down and forgotten after each test, and nothing stays current."""
    yield
    left = repr(otel_ml.current()), {**context.get_current()}
    context.attach(context.Context())
    FRAME.set(None)
    if CURRENT.state is not None:
        otel_ml.shutdown(timeout=2.0)
        CURRENT.state = None
    CURRENT.ended = False
    assert left == ("<nothing observed>", {})


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """No test leaves a thread that the end of the whole run would wait for, and that goes on recording meanwhile."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(5.0)
            assert not thread.is_alive(), f"{thread.name} goes on after the test"


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is the current one for as long as the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bare_environment(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has just installed the package: an empty home, and nothing set."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONUTF8": "1",
    }


def pytest_report_header() -> str:
    """Say which OpenTelemetry is being tested."""
    from importlib.metadata import version

    return f"opentelemetry: api {version('opentelemetry-api')}, sdk {version('opentelemetry-sdk')}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow has the time for it, also on a machine that is half as fast as usual."""
    for item in items:
        if item.get_closest_marker("slow") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))
