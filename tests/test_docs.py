"""What README and docs say is what happens: their Python runs, and the page of names is the catalogue's."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from otel_ml import _catalog
from otel_ml._reasons import REASONS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def test_every_page_was_found() -> None:
    """The tests below look at something."""
    assert {"README.md", "predict.md", "telemetry.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page: Path, bare_environment: dict[str, str], workdir: Path) -> None:
    """The Python blocks of a page run as one script, in order, without a complaint."""
    script = workdir / f"{page.stem}.py"
    script.write_text(python_of(page.read_text(encoding="utf-8")), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=workdir, env=bare_environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "otel_ml could not" not in done.stderr
    assert "Traceback" not in done.stderr


def test_only_blocks_of_python_are_run() -> None:
    """A block keeps its line numbers; other languages and blocks marked `no-run` are left out."""
    page = "text\n```python\na = 1\n```\n```sh\nrm x\n```\n```python no-run\nb = 2\n```\n```python\nc = 3\n```\n"

    assert python_of(page).split("\n") == ["", "", "a = 1", "", "", "", "", "", "", "", "", "c = 3", "", ""]


def test_page_of_names_is_the_catalogues() -> None:
    """docs/telemetry.md is what docs/generate.py makes of the catalogue."""
    generator = load(ROOT / "docs" / "generate.py")

    assert generator.render() == generator.PAGE.read_text(encoding="utf-8"), "type: make docs"


def test_every_reason_for_a_loss_is_in_the_docs() -> None:
    """The page on exporters says of each reason what the doctor says of it."""
    page = (ROOT / "docs" / "exporters.md").read_text(encoding="utf-8").partition("## What became of it")[2]

    assert [reason for reason, said in REASONS.items() if f"| `{reason}` | {said} |" not in page] == []


def test_every_attribute_of_a_metric_is_explained() -> None:
    """No metric carries an attribute that the page of names does not list."""
    explained = {attribute.name for attribute in _catalog.ATTRIBUTES}

    assert {name for metric in _catalog.METRICS for name in metric.attributes} <= explained


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of this repository names a file that is there."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


def python_of(page: str) -> str:
    """Return a page's Python blocks, with everything else as empty lines: a traceback then names the page's line."""
    lines, inside = [], False
    for line in page.split("\n"):
        if line.startswith("```"):
            inside = line == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


def load(path: Path) -> ModuleType:
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
