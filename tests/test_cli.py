"""The command `otel-ml`: what it offers, and how it ends."""

import re
import signal
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from otel_ml import __version__
from otel_ml._cli import main
from tests.command import COMMAND, ROOT, bare, otel_ml


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["nothing", "--help"])
def test_help_offers_two_commands(arguments: list[str], workdir: Path) -> None:
    """Without a command, and with --help, it says what there is, and that is demo and doctor."""
    done = otel_ml(*arguments, cwd=workdir)

    assert done.returncode == 0
    assert re.findall(r"^    (\w+)  ", done.stdout, re.MULTILINE) == ["demo", "doctor"]
    assert not done.stderr


@pytest.mark.parametrize("command", ["demo", "doctor"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of a command tells every option."""
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])

    assert stopped.value.code == 0
    options = {"demo": {"--store", "--exporter"}, "doctor": {"--app", "--json", "--timeout"}}
    assert options[command] <= set(re.findall(r"--\w+", capsys.readouterr().out))


def test_version(workdir: Path) -> None:
    """--version prints the package's version."""
    done = otel_ml("--version", cwd=workdir)

    assert (done.returncode, done.stdout.split()) == (0, ["otel-ml", __version__])


@pytest.mark.parametrize(
    "arguments",
    [
        ["paint"],
        ["demo", "--exporter", "pigeon"],
        ["doctor", "--timeout", "0"],
        ["doctor", "--timeout", "nan"],
        ["doctor", "--timeout", "x"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the command does not know is refused with what it does know; the exit code is 2."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: otel-ml")
    assert "_seconds" not in said


def test_an_error_of_ours_is_one_line(workdir: Path) -> None:
    """What cannot be done is told in one line on standard error; the exit code is 2."""
    done = otel_ml("doctor", cwd=workdir, OTEL_ML_EXPORTERS="pigeon")

    assert done.returncode == 2
    assert done.stderr.startswith("otel-ml: OTEL_ML_EXPORTERS names 'pigeon'")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_interrupted_is_quiet(workdir: Path) -> None:
    """Ctrl-C ends it at once, without a traceback; the exit code is 130."""
    with subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=workdir,
        env=bare(workdir / "home", PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)

    # Where the interrupt reaches CPython in the middle of an exec(), as of a dataclass being made, it ends by the signal
    # itself, whatever we return. A shell calls both 130.
    assert running.returncode in (130, -signal.SIGINT)
    assert said == ""


def test_a_reader_may_leave(workdir: Path) -> None:
    """When whatever reads its output ends first, as `head` does, there is no traceback."""
    with subprocess.Popen(
        [*COMMAND, "doctor"],
        cwd=workdir,
        env=bare(workdir / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
        running.wait(timeout=30)

    assert running.returncode == 1
    assert said == ""


@pytest.mark.checkout
def test_the_command_is_installed() -> None:
    """pyproject.toml installs `otel-ml` as this very function."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = scripts["otel-ml"].partition(":")

    assert getattr(import_module(module), name) is main
