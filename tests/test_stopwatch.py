"""What tests go by that hold us to a time."""

import os
import subprocess
import sys
import threading
from time import monotonic

from tests.stopwatch import stopwatch


def test_a_wait_counts_in_full() -> None:
    """Whoever waits for a lock, or sleeps, is told how long."""
    with stopwatch() as took:
        threading.Event().wait(0.3)
    assert took.seconds > 0.2


def test_work_counts_in_full() -> None:
    """So is who computes, while others wait for a turn."""
    with stopwatch() as took:
        limit = monotonic() + 0.3
        while monotonic() < limit:
            pass
    assert took.seconds > 0.1


def test_a_machine_that_stood_still_does_not() -> None:
    """For as long as the whole process is held up, no time goes by."""
    stop = "import os, signal, sys, time; os.kill({0}, signal.SIGSTOP); time.sleep(0.5); os.kill({0}, signal.SIGCONT)"
    with stopwatch() as took:
        began = monotonic()
        subprocess.run([sys.executable, "-S", "-c", stop.format(os.getpid())], check=True)
        stood = monotonic() - began
    assert took.seconds < stood - 0.3
