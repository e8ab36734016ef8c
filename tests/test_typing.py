"""The types a user sees are exact: a file that uses the whole public face passes both type checkers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FACE = ROOT / "tests" / "typing" / "api.py"

pytestmark = [pytest.mark.checkout, pytest.mark.timeout(300)]


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy on `files` alone, as strictly as it can be."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", ".mypy_cache", *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def pyright(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright on `files` alone, in strict mode."""
    settings = {"include": [str(file) for file in files], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", project]
    return subprocess.run(command, capture_output=True, text=True)


def test_public_face_passes_mypy() -> None:
    """Mypy, at its strictest, accepts every use in tests/typing/api.py, and each `assert_type` in it holds."""
    done = mypy(FACE)

    assert done.returncode == 0, done.stdout + done.stderr


def test_public_face_passes_pyright(tmp_path: Path) -> None:
    """Pyright's strict mode accepts the same file."""
    done = pyright(tmp_path, FACE)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_type_is_seen(tmp_path: Path) -> None:
    """Both checkers refuse a decorated function called with a wrong argument: decorating loses no type."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import otel_ml\n\n\n@otel_ml.predict(model='m')\ndef score(rows: list[float]) -> float:\n"
        "    return sum(rows)\n\n\nscore('not rows')\n",
        encoding="utf-8",
    )

    assert "arg-type" in mypy(wrong).stdout
    assert "reportArgumentType" in pyright(tmp_path, wrong).stdout
