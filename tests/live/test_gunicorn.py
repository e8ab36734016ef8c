"""Promise 6 with a real server: gunicorn, preloaded, with two workers; every request counts once."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

import pytest

from otel_ml.testing import FaultCollector
from tests.faults.test_children import ids, totals
from tests.live.conftest import free_port, missing

pytestmark = [pytest.mark.live, pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")]

REQUESTS, WORKERS = 200, 2


@pytest.fixture(autouse=True)
def required() -> None:
    """Skip where gunicorn is not installed, or fail where it must be."""
    if find_spec("gunicorn") is None:
        missing("gunicorn", "pip install gunicorn")


class Server:
    """A gunicorn on a free port."""

    def __init__(self, env: dict[str, str], collector: FaultCollector, log: Path) -> None:
        self.port, self.log = free_port(), log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "tests.live.serving:application", "--preload",
                    "--workers", str(WORKERS), "--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "5",
                    # A thread of gunicorn's own, which writes to the home directory, too.
                    "--no-control-socket",
                ],
                env=env | {"COLLECTOR": collector.endpoint}, cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def get(self, path: str) -> dict[str, object]:
        """Return what the server answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10.0) as answer:
            found = json.load(answer)
        assert isinstance(found, dict)
        return found

    def wait(self) -> None:
        """Wait until it answers."""
        limit = monotonic() + 20.0
        while True:
            try:
                self.get("/threads")
            except OSError:
                assert self.process.poll() is None, self.said()
                assert monotonic() < limit, self.said()
            else:
                return

    def stop(self) -> int:
        """Ask it to stop as systemd and Kubernetes do; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15.0)

    def said(self) -> str:
        """Return what it has logged."""
        return self.log.read_text()


@pytest.fixture
def collector() -> Iterator[FaultCollector]:
    """A healthy collector."""
    with FaultCollector() as made:
        yield made


@pytest.fixture
def server(collector: FaultCollector, bare_environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server that sends to it."""
    made = Server(bare_environment, collector, tmp_path / "gunicorn.log")
    try:
        made.wait()
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def test_every_request_counts_once(server: Server, collector: FaultCollector) -> None:
    """Two hundred requests to two workers, then SIGTERM: every call has arrived once, and the totals add up."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.get(f"/?name=request-{number}"), range(REQUESTS)))
    assert server.stop() == 0, server.said()

    assert ids(collector) == {f"request-{number}": 1 for number in range(REQUESTS)}
    samples = totals(collector, "ml.prediction.samples")
    assert sum(samples.values()) == REQUESTS
    # Each worker under an instance id of its own, with the calls that it answered.
    by_worker = Counter(answer["pid"] for answer in answers)
    assert sorted(samples.values()) == sorted(by_worker.values())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_the_master_and_idle_workers_have_no_thread_of_ours(server: Server, collector: FaultCollector) -> None:
    """The master has configured us but records nothing; a worker starts its sender with its first call."""
    threads = {int(str(server.get("/threads")["pid"])): server.get("/threads") for _ in range(20)}
    assert {(found["python"], found["system"]) for found in threads.values()} == {(1, 1)}
    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1

    pid = server.get("/?name=first")["pid"]
    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) > 1

    assert server.stop() == 0, server.said()
    assert ids(collector) == {"first": 1}
