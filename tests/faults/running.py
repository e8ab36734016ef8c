"""Run a program of its own process, as users do, and tell how long it took to end."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.stopwatch import beating

PROGRAMS = Path(__file__).parent / "programs"
# Characters of what a program wrote that are worth reading.
MOST = 20_000


@dataclass(frozen=True)
class Ended:
    """A program that has ended: what it wrote, its exit code, and the seconds since its last line, but for
    those for which the machine stood still.
    """

    out: str
    err: str
    code: int
    seconds: float

    @property
    def said(self) -> dict[str, object]:
        """What the program printed as JSON on its last line but one."""
        found = json.loads(self.out.splitlines()[-2])
        assert isinstance(found, dict)
        return found


def run(
    program: str, env: dict[str, str], *, python: str = sys.executable, limit: float = 60.0, **settings: object
) -> Ended:
    """Run `programs/<program>.py`, which reads its settings from its first argument and prints the time when done.

    `time.monotonic()` is one clock for all processes of a machine.
    """
    command = [python, "-X", "faulthandler", str(PROGRAMS / f"{program}.py"), json.dumps(settings)]
    with beating() as pulse, subprocess.Popen(
        command, env=env, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            # With its children, which would hold the pipes open.
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"{program} did not end in {limit} s\n{out[-MOST:]}\n{err[-MOST:]}") from None
        lines = out.splitlines()
        assert lines, err[-MOST:]
        return Ended(out, err[-MOST:], process.returncode, pulse.since(float(lines[-1])))
