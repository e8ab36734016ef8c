"""Real parts that run beside the tests; one that is missing skips its tests, unless OTEL_ML_REQUIRE_LIVE=1."""

import importlib.util
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import pytest

from otel_ml.testing import FaultCollector

ROTEL = "rotel==0.0.1a15"


@dataclass(frozen=True)
class Rotel:
    """A running rotel: where it takes OTLP, and the collector that it forwards everything to, over HTTP."""

    http: str
    grpc: str
    behind: FaultCollector
    process: "subprocess.Popen[bytes]"


@pytest.fixture
def rotel(tmp_path: Path) -> Iterator[Rotel]:
    """A real OpenTelemetry collector between the test and a `FaultCollector` that decodes what comes out of it."""
    binary = rotel_binary()
    with FaultCollector() as behind, running(binary, behind, tmp_path) as collector:
        yield collector


def rotel_binary() -> Path:
    """Return the collector's executable, which is inside the wheel."""
    spec = importlib.util.find_spec("rotel")
    if spec is None or spec.origin is None:
        missing("rotel", f"pip install {ROTEL}")
    return Path(spec.origin).with_name("rotel-agent")


def missing(what: str, command: str) -> NoReturn:
    """Skip for want of a real part, or fail where all of them are required."""
    message = f"{what} is not installed. Type: {command}"
    if os.environ.get("OTEL_ML_REQUIRE_LIVE") == "1":
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def running(binary: Path, behind: FaultCollector, folder: Path) -> Iterator[Rotel]:
    """Run rotel on two free ports until both answer; ports may be taken meanwhile, so try three times."""
    for attempt in range(3):
        http, grpc = free_port(), free_port()
        log = folder / f"rotel-{attempt}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    binary, "start", "--exporter", "otlp", "--otlp-exporter-protocol", "http",
                    "--otlp-exporter-endpoint", behind.endpoint, "--batch-timeout", "50ms",
                    "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
                ],
                stdout=output, stderr=subprocess.STDOUT, cwd=folder,
                env={"PATH": os.defpath},
            )  # fmt: skip
        try:
            if not all(answers(port, process) for port in (http, grpc)):
                continue
            yield Rotel(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}", behind, process)
            return
        finally:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    pytest.fail(f"rotel did not start: {log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, process: "subprocess.Popen[bytes]", seconds: float = 10.0) -> bool:
    """Wait until a port accepts connections; False if the process ends first, or it takes too long."""
    limit = monotonic() + seconds
    while monotonic() < limit and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        sleep(0.01)
    return False
