"""The command `otel-ml`, run as somebody runs it who has just installed the package."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "otel_ml._cli"]


def bare(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with an empty home, and nothing set but `more`."""
    home.mkdir(exist_ok=True)
    path = os.pathsep.join([more.pop("PYTHONPATH", ""), str(ROOT)]).strip(os.pathsep)
    return {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": path, "PYTHONUTF8": "1", **more}


def otel_ml(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `cwd` to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=bare(cwd / "home", **env),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
