"""Promise 3 and 7 at SIGTERM: nobody's handler is touched unless asked; then what was recorded is sent, or on disk."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.running import PROGRAMS, run

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.name != "posix", reason="SIGTERM is a signal of POSIX")]


def terminated(env: dict[str, str], folder: Path, endpoint: str, **settings: object) -> tuple[int, str, float]:
    """Run the program; return its exit code, what it printed, and the seconds from the signal to its end."""
    asked = {"own": False, "asked": True, "flushing": False, "spool": str(folder / "spool"), "endpoint": endpoint}
    ended = run("terminated", env, **{**asked, **settings})
    return ended.code, ended.out, ended.seconds


def spooled(folder: Path) -> bytes:
    """Return everything that lies in the spool."""
    return b"".join(path.read_bytes() for path in sorted((folder / "spool").glob("v1/*/*/*.seg")))


@pytest.mark.parametrize("own", [False, True], ids=["default", "own handler"])
def test_asked_for_it_delivers_and_hands_on(own: bool, bare_environment: dict[str, str], tmp_path: Path) -> None:
    """A call recorded right before the signal arrives; then the program's own handler runs, or the signal ends it."""
    with FaultCollector() as collector:
        code, out, _ = terminated(bare_environment, tmp_path, collector.endpoint, own=own)

        assert [span.name for span in collector.spans] == ["predict churn"]
    assert code == (7 if own else -signal.SIGTERM)
    assert ("handled" in out) is own


@pytest.mark.parametrize("mode", ["refused", "silent", "drip", 503])
@pytest.mark.parametrize("flushing", [False, True], ids=["at once", "in mid-flush"])
def test_a_dead_collector_holds_up_nobody(
    mode: str | int, flushing: bool, bare_environment: dict[str, str], tmp_path: Path
) -> None:
    """The program ends within two seconds, also out of another flush, and its record is on disk."""
    with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # modes of it
        code, _, seconds = terminated(bare_environment, tmp_path, collector.endpoint, flushing=flushing)

    assert code == -signal.SIGTERM
    assert seconds <= 2.0
    assert b"predict churn" in spooled(tmp_path)


def test_unasked_no_handler_is_touched(bare_environment: dict[str, str], tmp_path: Path) -> None:
    """Without the option the signal's handler stays what it was."""
    with FaultCollector() as collector:
        code, out, _ = terminated(bare_environment, tmp_path, collector.endpoint, asked=False)

    assert code == -signal.SIGTERM
    assert '"touched": false' in out


def test_what_was_recorded_before_is_on_disk_though_nobody_handles_the_signal(
    bare_environment: dict[str, str], tmp_path: Path
) -> None:
    """A program killed by SIGTERM while its collector hangs has left its records in the spool: it had 0.2 s to."""
    with FaultCollector("silent") as collector:
        program = subprocess.Popen(
            [
                sys.executable, str(PROGRAMS / "recording.py"), collector.endpoint, str(tmp_path / "spool"),
            ],
            env=bare_environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert program.stdout is not None
        # It says so 0.5 seconds after it has recorded what must be there.
        assert program.stdout.readline() == "recorded\n"
        program.terminate()
        assert program.wait(5.0) == -signal.SIGTERM
        program.stdout.close()

    assert spooled(tmp_path).count(b"predict churn") == 100


def test_in_a_thread_it_says_what_to_do() -> None:
    """Python sets handlers in the main thread alone; elsewhere the option is refused at once."""
    raised: list[Exception] = []

    def configure() -> None:
        try:
            otel_ml.configure(exporters=[], flush_on_sigterm=True)
        except otel_ml.ConfigurationError as error:
            raised.append(error)

    thread = threading.Thread(target=configure)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])
