"""Each example runs by itself, for somebody who has just installed the package."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    """The test below looks at something."""
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_runs(example: Path, bare_environment: dict[str, str], workdir: Path) -> None:
    """An example ends with exit code 0 in an empty directory, with an empty home, and has something to say."""
    done = subprocess.run([sys.executable, example], cwd=workdir, env=bare_environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "otel_ml could not" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_says_what_it_shows(example: Path) -> None:
    """An example opens with a docstring."""
    assert example.read_text(encoding="utf-8").startswith('"""')
