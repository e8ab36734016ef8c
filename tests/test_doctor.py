"""`otel-ml doctor`: which exporters there are, whether each answers, what is installed, what to type."""

import json
import platform
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import otel_ml
from otel_ml._cli import main
from otel_ml._current import CURRENT
from otel_ml._doctor import Findings, as_data, as_text
from otel_ml._doctor_settings import configured
from otel_ml._doctor_versions import REQUIRED, Installed, install
from otel_ml._health import Account, ExporterHealth, Health
from otel_ml._health_file import read, write
from otel_ml._reasons import REASONS, UNKNOWN, explained
from otel_ml.exporters import Local
from otel_ml.testing import FaultCollector
from tests.command import otel_ml as command
from tests.recorder import wait_for

# Names exporters, and returns the environment of a program.
To = Callable[..., dict[str, str]]

SECRET = "s3cr3t-t0ken"  # looked for where it must not be


@pytest.fixture
def said(workdir: Path, capsys: pytest.CaptureFixture[str]) -> "Said":
    """Run the doctor in an empty folder."""
    return Said(capsys)


class Said:
    """The doctor's exit code and what it printed, as text and as data."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self, *arguments: str) -> tuple[int, str]:
        """Run it for a person."""
        code = main(["doctor", *arguments])
        return code, self._capsys.readouterr().out

    def data(self, *arguments: str) -> tuple[int, dict[str, object]]:
        """Run it for a script."""
        code = main(["doctor", "--json", *arguments])
        return code, json.loads(self._capsys.readouterr().out)


def use(monkeypatch: pytest.MonkeyPatch, exporters: str, **more: str) -> None:
    """Name exporters by environment variables."""
    monkeypatch.setenv("OTEL_ML_EXPORTERS", exporters)
    for name, value in more.items():
        monkeypatch.setenv(name, value)


class TestAnswers:
    def test_everything_answers(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """A collector that accepts, a store that can be written and a console make exit code 0."""
        Local("kept.db").build(None).spans.export([])  # type: ignore[union-attr, arg-type]  # an empty store
        with FaultCollector() as collector:
            use(
                monkeypatch,
                "otlp,console,local",
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
                OTEL_ML_STORE="kept.db",
            )
            code, text = said.text()
            asked = sorted(request.path for request in collector.requests)

        assert code == 0
        assert re.findall(r"^. (\w+) +(\w+ \S+)", text, re.MULTILINE) == [
            ("ok", f"OTLP {collector.endpoint}"),
            ("ok", "console (standard"),
            ("ok", "local store"),
        ]
        assert asked == ["/v1/logs", "/v1/metrics", "/v1/traces"]
        assert "Everything answers." in text

    def test_nothing_is_sent_but_empty_requests(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """Asking a collector sends it no telemetry."""
        with FaultCollector() as collector:
            use(monkeypatch, "otlp", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
            said.text()

        assert [len(request.body) for request in collector.requests] == [0, 0, 0]

    @pytest.mark.parametrize(
        ("mode", "words"),
        [
            ("refused", "nobody listens there.*Start a collector"),
            ("silent", "does not answer in time.*--timeout"),
            ("no_reply", "closes the connection.*https://"),
            ("redirect", "refuses the request.*look at its log"),
            (401, "other credentials.*OTEL_EXPORTER_OTLP_HEADERS"),
            (403, "other credentials.*OTEL_EXPORTER_OTLP_HEADERS"),
            (404, "no OTLP receiver for this signal.*pipeline"),
            (429, "takes no more.*later"),
            (500, "fails.*log"),
        ],
    )
    def test_a_collector_that_does_not_answer(
        self, mode: object, words: str, said: Said, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is wrong with a collector is said, with what to do; the exit code is 1, the others still answer."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # a mode
            use(monkeypatch, "otlp,console", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
            code, text = said.text("--timeout", "0.5")

        assert code == 1
        assert re.search(f"fails .*{words}", text, re.DOTALL)
        assert re.search(r"ok +console", text)
        assert f"No good answer from: OTLP {collector.endpoint}" in text

    def test_signals_are_asked_one_by_one(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """A collector that takes two signals and not the third is told apart."""
        with FaultCollector() as collector, FaultCollector(404) as other:
            use(
                monkeypatch,
                "otlp",
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
                OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{other.endpoint}/v1/logs",
            )
            code, data = said.data()

        assert code == 1
        assert [(one["about"], one["ok"]) for one in data["exporters"][0]["answers"]] == [  # type: ignore[index]  # parsed
            ("traces", True),
            ("metrics", True),
            ("logs", False),
        ]

    def test_grpc(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """A collector that is to be reached over gRPC is asked over gRPC."""
        with FaultCollector("refused") as nobody:
            use(
                monkeypatch,
                "otlp",
                OTEL_EXPORTER_OTLP_ENDPOINT=nobody.endpoint,
                OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            )
            code, text = said.text("--timeout", "2")

        assert code == 1
        assert "nobody answers gRPC there" in text

    def test_settings_that_cannot_be_used(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """An exporter that cannot be made is one that does not answer: what is wrong, and what to type."""
        use(monkeypatch, "otlp,console", OTEL_EXPORTER_OTLP_ENDPOINT="localhost:4318")
        code, text = said.text()

        assert code == 1
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in text
        assert "Write OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318" in text
        assert re.search(r"ok +console", text)


class TestStore:
    def test_a_store_that_is_there(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its schema and size are told; asking leaves its records alone."""
        with otel_ml.configure(exporters=[Local("kept.db")], set_global=False), otel_ml.predict("churn"):
            pass
        use(monkeypatch, "local", OTEL_ML_STORE="kept.db")
        code, text = said.text()

        assert code == 0
        assert re.search(r"can be written; schema 1, \d\.\d MB", text)
        assert sqlite3.connect("kept.db").execute("SELECT count(*) FROM span").fetchone() == (1,)

    def test_a_store_that_is_not_there_yet(self, said: Said, workdir: Path) -> None:
        """By default there is a store to be made; asking makes nothing."""
        code, text = said.text()

        assert code == 0
        assert "local store .otel_ml/telemetry.db" in text
        assert "not there yet" in text
        assert list(workdir.iterdir()) == []

    def test_a_folder_that_cannot_hold_it(self, said: Said, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no store can be made, the doctor says so and where to put it."""
        (workdir / "file").touch()
        use(monkeypatch, "local", OTEL_ML_STORE="file/telemetry.db")
        code, text = said.text()

        assert code == 1
        assert "cannot be written (Not a directory)" in text
        assert "OTEL_ML_STORE=" in text

    def test_a_foreign_file(self, said: Said, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is no store of ours stays as it is."""
        (workdir / "notes.txt").write_text("remember the milk" * 100)
        use(monkeypatch, "local", OTEL_ML_STORE="notes.txt")
        code, text = said.text()

        assert code == 1
        assert "is not a store of otel_ml" in text
        assert (workdir / "notes.txt").read_text() == "remember the milk" * 100

    def test_a_locked_store(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that somebody keeps locked does not answer."""
        Local("kept.db").build(None).spans.export([])  # type: ignore[union-attr, arg-type]  # an empty store
        other = sqlite3.connect("kept.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        use(monkeypatch, "local", OTEL_ML_STORE="kept.db")
        code, text = said.text("--timeout", "0.2")
        other.close()

        assert code == 1
        assert "another program keeps it locked" in text


PROGRAM = """
import sys
import otel_ml

with otel_ml.configure(service="churn-api", set_global=False):
    for n in range(9):
        with otel_ml.predict("churn"):
            pass
    otel_ml.flush(1.0)
    if "wait" in sys.argv:
        input()
"""


def ran(environment: dict[str, str]) -> int:
    """Run a program that makes nine predictions; return its number."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment) as process:
        assert process.wait(60) == 0
        return process.pid


class TestPrograms:
    @pytest.fixture
    def to(self, monkeypatch: pytest.MonkeyPatch, workdir: Path, bare_environment: dict[str, str]) -> "To":
        """Name exporters for the doctor and for a program, which gets the environment that is returned."""

        def name(exporters: str, **more: str) -> dict[str, str]:
            more = {"OTEL_ML_SPOOL": str(workdir / "spool"), **more}
            use(monkeypatch, exporters, **more)
            return {**bare_environment, "OTEL_ML_EXPORTERS": exporters, **more}

        return name

    @pytest.mark.parametrize(
        ("mode", "reason", "words"),
        [
            (400, "http_400", "did not understand the request: look at its log"),
            (401, "http_401", "wants other credentials: check `headers=`"),
            ("redirect", "http_302", "redirects, which is not followed: name the place"),
            ("partial_success", "partial_success", "its log says why"),
        ],
    )
    def test_that_lost_something(self, mode: object, reason: str, words: str, said: Said, to: "To") -> None:
        """What a program that has ended lost is shown, with cause and cure; it is no failure of what answers now."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # a mode
            pid = ran(to("otlp", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint))
            collector.mode = "healthy"
            code, text = said.text()

        assert code == 0
        assert re.search(rf"^churn-api  pid {pid}, ended \(as of \d+ s ago\)$", text, re.MULTILINE)
        assert re.search(rf"spans +created 9 +delivered \d +queued 0 +spooled 0 +dropped \d \({reason} \d\)", text)
        assert re.search(rf"^ +{reason}: .*{words}", text, re.MULTILINE)
        assert text.count(f"{reason}: ") == 1

    def test_whose_telemetry_waits_on_disk(self, said: Said, to: "To") -> None:
        """What a program could not deliver and has left on disk is shown, also while nobody answers."""
        with FaultCollector("refused") as nobody:
            pid = ran(to("otlp", OTEL_EXPORTER_OTLP_ENDPOINT=nobody.endpoint))
            code, text = said.text()

        assert code == 1
        assert f"pid {pid}, ended" in text
        assert re.search(r"spans +created 9 +delivered 0 +queued 0 +spooled 9 +dropped 0$", text, re.MULTILINE)

    def test_as_data(self, said: Said, to: "To") -> None:
        """For a script: every number, and what to do about each reason."""
        with FaultCollector(400) as collector:
            pid = ran(to("otlp", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint))
            code, data = said.data()

        (program,) = data["programs"]  # type: ignore[misc]  # parsed
        (place,) = program["exporters"]
        assert code == 1
        assert (program["service"], program["pid"], program["alive"], program["ended"]) == (
            "churn-api",
            pid,
            False,
            True,
        )
        assert place["name"] == "otlp-0"
        assert place["signals"]["spans"] == {
            "created": 9,
            "delivered": 0,
            "queued": 0,
            "spooled": 0,
            "dropped": {"http_400": 9},
        }
        assert program["advice"] == {"http_400": REASONS["http_400"]}

    def test_that_runs(self, said: Said, to: "To") -> None:
        """A program that is running is shown as such, from beside its local store."""
        environment = to("local")
        command = [sys.executable, "-c", PROGRAM, "wait"]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
            wait_for(lambda: read(Path(".otel_ml/health")))
            text = said.text()[1]
            process.communicate(b"\n", timeout=60)

        assert f"churn-api  pid {process.pid}, running (as of" in text

    @pytest.mark.parametrize("exporters", ["otlp,local", "otlp,otlp"])
    def test_of_several_exporters_are_shown_once(self, exporters: str, said: Said, to: "To") -> None:
        """A program is one program, whether its store and spool are looked at, or one spool for two exporters."""
        with FaultCollector() as collector:
            pid = ran(to(exporters, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint))
            text = said.text()[1]

        assert text.count(f"pid {pid}") == 1
        assert "Everything answers." in text

    def test_that_are_many(self, said: Said, to: "To") -> None:
        """A person is shown the latest, a script all."""
        to("local")
        health = Health((ExporterHealth("local-0", "local store", {"spans": Account(5)}),), 1, 2, {"flush": 4})
        for n in range(30):
            write(Path(".otel_ml/health"), health, service=f"job-{n}", pid=4_200_000_000 + n, started=1.0, ended=True)
        text, data = said.text()[1], said.data()[1]

        assert text.count("pid 42") == 10
        assert "job-29" in text
        assert "... and 20 more: otel-ml doctor --json" in text
        assert "4 times otel_ml could not flush" in text
        assert len(data["programs"]) == 30  # type: ignore[arg-type]  # parsed

    def test_that_there_are_none_of(self, said: Said, to: "To") -> None:
        """Where nobody has written there is nothing to show, and nothing is made."""
        to("local")

        assert "pid" not in said.text()[1]
        assert said.data()[1]["programs"] == []


class TestReasons:
    @pytest.mark.parametrize(
        ("reason", "known_as"),
        [
            ("queue_full", "queue_full"),
            ("http_302", "http_3xx"),
            ("http_418", "http_4xx"),
            ("http_429", "http_429"),
            ("http_500", "http_5xx"),
            ("grpc_UNAVAILABLE", "grpc_UNAVAILABLE"),
            ("grpc_DATA_LOSS", "grpc_*"),
            ("exporter_raised_KeyError", "exporter_raised_*"),
        ],
    )
    def test_have_one_sentence(self, reason: str, known_as: str) -> None:
        """A reason is explained by itself, or by its family."""
        assert explained(reason) == REASONS[known_as]

    @pytest.mark.parametrize("reason", ["", "http_", "http_9", "http_200", "no such", "queue_full2", "regrpc_"])
    def test_of_a_newer_version(self, reason: str) -> None:
        """A reason that is not known has a sentence too."""
        assert explained(reason) == UNKNOWN


class TestSource:
    def test_variables_of_ours(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_ML_EXPORTERS is named as what named the exporters, before OpenTelemetry's own variables."""
        use(monkeypatch, "console", OTEL_TRACES_EXPORTER="otlp")

        assert said.data()[1]["named_by"] == "OTEL_ML_EXPORTERS"

    def test_variables_of_opentelemetry(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise those of OpenTelemetry that ask for something, by name and never by value."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:{SECRET}@127.0.0.1:1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")

        assert said.data("--timeout", "1")[1]["named_by"] == "OTEL_EXPORTER_OTLP_ENDPOINT"

    def test_variables_of_opentelemetry_by_signal(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """A collector is asked for those signals alone that are meant for it."""
        with FaultCollector() as collector:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
            monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
            monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
            code, data = said.data()

        answers = {one["where"].split()[0]: one["answers"] for one in data["exporters"]}  # type: ignore[attr-defined]  # parsed
        assert code == 0
        assert data["named_by"] == "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_LOGS_EXPORTER, OTEL_TRACES_EXPORTER"
        assert [one["about"] for one in answers["OTLP"]] == ["metrics"]
        assert [one["about"] for one in answers["console"]] == ["stream"]

    def test_pyproject(self, said: Said, workdir: Path) -> None:
        """Otherwise pyproject.toml."""
        (workdir / "pyproject.toml").write_text('[tool.otel_ml]\nexporters = ["console"]\nservice = "churn-api"\n')
        code, data = said.data()

        assert code == 0
        assert data["named_by"] == "[tool.otel_ml] in pyproject.toml"
        assert data["service"] == "churn-api"
        assert [one["where"] for one in data["exporters"]] == ["console (standard error)"]  # type: ignore[attr-defined]  # parsed

    def test_none_is_a_choice(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who asked for no exporter has everything that was asked for."""
        use(monkeypatch, "none")
        code, text = said.text()

        assert code == 0
        assert "Nothing leaves this program." in text

    def test_nothing_by_default_is_not(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where there is no exporter because the default would serve nobody, the exit code is 1, with what to write."""
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        code, text = said.text()

        assert code == 1
        assert "Write otel_ml.configure(exporters=[otel_ml.exporters.OTLP()])" in text

    def test_switched_off(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        """OTEL_SDK_DISABLED is noticed, and the last line does not say that all is well."""
        use(monkeypatch, "console", OTEL_SDK_DISABLED="true")
        Local("kept.db").build(None).spans.export([])  # type: ignore[union-attr, arg-type]  # an empty store
        use(monkeypatch, "console,local", OTEL_ML_STORE="kept.db")
        code, text = said.text()

        assert code == 0
        assert "unset OTEL_SDK_DISABLED" in text
        assert text.rstrip().splitlines()[-1] == "Nothing is recorded: OTEL_SDK_DISABLED=true switches telemetry off."

    def test_asking_starts_nothing(self, said: Said) -> None:
        """The doctor configures nothing in its own process."""
        said.text()

        assert CURRENT.state is None


APP = """
import otel_ml
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from otel_ml import exporters

def broken():
    raise RuntimeError({secret!r})

settings = dict(service="shop", exporters=[exporters.Console(), lambda: exporters.Local("shop.db")])
foreign = dict(exporters=[exporters.Console(), ConsoleSpanExporter(), SimpleSpanProcessor(ConsoleSpanExporter())])
failing = dict(exporters=[broken, exporters.Console()])
misspelt = dict(svc="shop")
wrong = dict(sampling=7)
number = 7
"""


class TestApp:
    @pytest.fixture(autouse=True)
    def shop(self, workdir: Path) -> None:
        """A program whose settings can be imported."""
        (workdir / "shop").mkdir()
        (workdir / "shop" / "telemetry.py").write_text(APP.format(secret=SECRET))

    def test_settings_of_a_program(self, workdir: Path) -> None:
        """--app names a mapping of arguments; functions that make exporters are called, nothing is started."""
        done = command("doctor", "--json", "--app", "shop.telemetry:settings", cwd=workdir)
        data = json.loads(done.stdout)

        assert done.returncode == 0
        assert data["named_by"] == "shop.telemetry:settings"
        assert data["service"] == "shop"
        assert [one["where"] for one in data["exporters"]] == ["console (standard error)", "local store shop.db"]
        assert data["notes"] == []
        assert not (workdir / "shop.db").exists()

    def test_pyproject_may_name_it(self, workdir: Path) -> None:
        """Without --app, it is `app` in [tool.otel_ml]."""
        (workdir / "pyproject.toml").write_text('[tool.otel_ml]\napp = "shop.telemetry:settings"\n')
        done = command("doctor", "--json", cwd=workdir)

        assert json.loads(done.stdout)["named_by"] == "shop.telemetry:settings"

    def test_what_is_somebody_elses_is_left_alone(self, workdir: Path) -> None:
        """Foreign exporters and processors are named and not probed, which is no failure."""
        done = command("doctor", "--app", "shop.telemetry:foreign", cwd=workdir)

        assert done.returncode == 0
        assert re.findall(r"skipped +(\w+)", done.stdout) == ["ConsoleSpanExporter", "SimpleSpanProcessor"]
        assert done.stdout.count("not probed") == 2

    def test_a_function_that_raises(self, workdir: Path) -> None:
        """A function that cannot make its exporter is told by the type of its exception alone."""
        done = command("doctor", "--app", "shop.telemetry:failing", cwd=workdir)

        assert done.returncode == 1
        assert "broken raised RuntimeError" in done.stdout
        assert SECRET not in done.stdout + done.stderr

    def test_an_import_that_configures(self, workdir: Path) -> None:
        """Settings that start something when they are imported are noticed."""
        text = "import otel_ml\nsettings = {'exporters': []}\notel_ml.configure(**settings)\n"
        (workdir / "eager.py").write_text(text)
        done = command("doctor", "--app", "eager:settings", cwd=workdir)

        assert done.returncode == 0
        assert "has called otel_ml.configure()" in done.stdout

    @pytest.mark.parametrize(
        ("app", "words"),
        [
            ("shop.telemetry", "MODULE:NAME"),
            ("shop.nowhere:settings", "no module 'shop.nowhere'"),
            ("shop.telemetry:nothing", "has no such name"),
            ("shop.telemetry:number", "has a int there"),
            ("shop.telemetry:misspelt", "'svc', which configure() does not take"),
            ("shop.telemetry:wrong", "sampling=7"),
            ("shop.raising:settings", r"cannot be imported (RuntimeError). To see why, type: python -c"),
            ("shop.leaving:settings", r"cannot be imported (SystemExit)"),
            ("shop.needing:settings", "needs 'no_such_package', which is not installed"),
        ],
    )
    def test_an_app_that_cannot_be_used(self, app: str, words: str, workdir: Path) -> None:
        """What is wrong with --app is said in one line, without the text of somebody else's exception."""
        (workdir / "shop" / "raising.py").write_text(f"raise RuntimeError({SECRET!r})")
        (workdir / "shop" / "leaving.py").write_text("raise SystemExit(0)")
        (workdir / "shop" / "needing.py").write_text("import no_such_package")
        done = command("doctor", "--app", app, cwd=workdir)

        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert SECRET not in done.stderr


class TestSecrets:
    @pytest.mark.parametrize("mode", ["healthy", "refused", 401])
    @pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
    def test_credentials_are_never_printed(
        self, mode: object, form: list[str], said: Said, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither headers nor what stands in an endpoint before the host or after it are in what is printed."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # a mode
            endpoint = collector.endpoint.replace("//", f"//user:{SECRET}@") + f"/{SECRET}"
            headers = f"authorization=Bearer {SECRET},x-team={SECRET}"
            use(
                monkeypatch,
                "otlp",
                OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
                OTEL_EXPORTER_OTLP_HEADERS=headers,
                OTEL_RESOURCE_ATTRIBUTES=f"password={SECRET}",
            )
            _, text = said.text(*form, "--timeout", "2")

        assert collector.endpoint.partition("//")[2] in text
        assert SECRET not in text
        assert mode == "refused" or SECRET.encode() in collector.raw


class TestVersions:
    def test_what_is_installed(self, said: Said) -> None:
        """The versions are those that Python's own metadata has."""
        found = said.data()[1]["installed"]

        assert isinstance(found, dict)
        assert {name: found[name] for name in REQUIRED} == {name: version(name) for name in REQUIRED}
        assert found["otel_ml"] == otel_ml.__version__
        assert found["python"] == platform.python_version()

    def test_what_is_missing(self) -> None:
        """For a missing package the doctor says what to type, for one of an extra also what needs it."""
        there = [Installed("grpcio", None), Installed("numpy", None, "demo"), Installed("pandas", None, "demo")]
        findings = Findings(configured(None), [], there, [])

        assert as_text(findings).splitlines()[-7:-2] == [
            "grpcio  not installed",
            "numpy   not installed, needed by otel-ml demo alone",
            "pandas  not installed, needed by otel-ml demo alone",
            "Type: pip install grpcio",
            f"Type: {install('demo')}",
        ]
        assert json.loads(as_data(findings))["to_install"] == {
            "grpcio": "pip install grpcio",
            "numpy": install("demo"),
            "pandas": install("demo"),
        }
