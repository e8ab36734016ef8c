"""The file that says what became of telemetry: who writes it and when, who may read it, and what is passed over."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time

import pytest

import otel_ml
from otel_ml import _health_file
from otel_ml._health import Account, ExporterHealth, Health
from otel_ml._health_file import MAX_BYTES, MAX_FILES, Report, beside, read, write
from otel_ml._health_writer import HealthWriter
from otel_ml.exporters import OTLP, Local
from otel_ml.testing import FaultCollector
from tests.recorder import Recorder, wait_for
from tests.stopwatch import stopwatch

HEALTH = Health(
    (ExporterHealth("otlp-0", "OTLP http://localhost:4318", {"spans": Account(5, 2, {"queue_full": 3}, 1)}),),
    1, 2, {"flush": 4},
)  # fmt: skip
FINE = Health((ExporterHealth("local-0", "local store", {"spans": Account(5)}),))
FOLDER = Path(".otel_ml/health")

posix = pytest.mark.skipif(os.name == "nt", reason="modes, owners and links are those of POSIX")


def written(folder: Path, pid: int = os.getpid(), health: Health = HEALTH, **more: object) -> Path:
    """Write a file, and return where it is."""
    write(folder, health, pid=pid, **{"service": "churn-api", "started": 1.0, **more})  # type: ignore[arg-type]  # as they are
    return folder / f"health-{pid}.json"


def changed(path: Path, **more: object) -> None:
    """Change members of the object in a file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def of_day_before(path: Path) -> None:
    """Make a file look a day and a bit old."""
    os.utime(path, (time() - 90_000,) * 2)


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class TestAFile:
    def test_says_what_was_written(self, workdir: Path) -> None:
        """Who wrote it, when, whether that process is alive, and its health, are read back."""
        written(FOLDER)
        (report,) = read(FOLDER)

        assert abs(report.written - time()) < 10
        assert report == Report("churn-api", os.getpid(), True, 1.0, report.written, False, HEALTH)

    @posix
    def test_is_for_its_owner_alone(self, workdir: Path) -> None:
        """Only its owner may read it or list its folder, whatever the umask; git does not see it."""
        former = os.umask(0)
        try:
            path = written(FOLDER)
        finally:
            os.umask(former)

        assert {stat.S_IMODE(one.stat().st_mode) for one in (path, FOLDER / ".gitignore")} == {0o600}
        assert stat.S_IMODE(FOLDER.stat().st_mode) == 0o700
        assert (FOLDER / ".gitignore").read_text() == "*\n"

    @posix
    def test_closes_a_folder_that_others_could_read(self, workdir: Path) -> None:
        """A folder of one's own that was made with other rights is closed to others."""
        FOLDER.mkdir(parents=True)
        FOLDER.chmod(0o755)
        written(FOLDER)

        assert stat.S_IMODE(FOLDER.stat().st_mode) == 0o700

    def test_replaces_the_one_before(self, workdir: Path) -> None:
        """However often a process writes, there is one file, and nothing else left over."""
        for _ in range(3):
            written(FOLDER)

        assert sorted(one.name for one in FOLDER.iterdir()) == [".gitignore", f"health-{os.getpid()}.json"]
        assert len(read(FOLDER)) == 1

    def test_of_an_ended_process(self, workdir: Path, ended: int) -> None:
        """A process that has ended is said to have."""
        written(FOLDER, ended)

        assert [report.alive for report in read(FOLDER)] == [False]

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells when a process began")
    def test_of_a_process_whose_number_was_given_to_another(self, workdir: Path) -> None:
        """A process that got the number of the one that wrote the file is not taken for it."""
        changed(written(FOLDER), birth="1")

        assert [report.alive for report in read(FOLDER)] == [False]

    def test_of_another_machine(self, workdir: Path, ended: int) -> None:
        """In a folder shared with other containers or machines, who has written lately is taken to be alive."""
        path = written(FOLDER, ended)
        changed(path, host="elsewhere")
        assert [report.alive for report in read(FOLDER)] == [True]

        entry = json.loads(path.read_text())["entries"][0]
        changed(path, entries=[{**entry, "written": time() - 600}])
        assert [report.alive for report in read(FOLDER)] == [False]

    def test_has_an_entry_for_each_configuration(self, workdir: Path) -> None:
        """Tenants of one process do not overwrite each other; one that ended is kept only if it lost something."""
        written(FOLDER, service="a", started=1.0)
        written(FOLDER, service="b", started=2.0, ended=True)
        written(FOLDER, service="c", started=3.0, ended=True, health=FINE)
        written(FOLDER, service="d", started=4.0)

        assert [report.service for report in read(FOLDER)] == ["d", "b", "a"]

    def test_does_not_grow_with_configurations(self, workdir: Path) -> None:
        """Of many configurations the latest are kept."""
        for n in range(40):
            written(FOLDER, service=str(n), started=float(n))

        assert [report.service for report in read(FOLDER)] == [str(n) for n in range(39, 23, -1)]


class TestOldFiles:
    def test_of_ended_processes_are_removed(self, workdir: Path, ended: int) -> None:
        """Whoever writes removes what processes left that ended more than a day ago, also what they did not finish."""
        old = written(FOLDER, ended)
        of_day_before(old)
        torn = FOLDER / f".health-{ended}-abcdef.tmp"
        torn.touch()
        of_day_before(torn)
        written(FOLDER)

        assert not old.exists()
        assert not torn.exists()

    def test_of_a_process_that_ended_today_are_kept(self, workdir: Path, ended: int) -> None:
        """What a program said that ended an hour ago can still be read."""
        path = written(FOLDER, ended)
        os.utime(path, (time() - 3_600,) * 2)
        written(FOLDER)

        assert path.exists()

    def test_of_living_processes_are_kept(self, workdir: Path) -> None:
        """A process that has not written for a day, and lives, keeps its file."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
            path = written(FOLDER, living.pid)
            of_day_before(path)
            written(FOLDER)
            assert path.exists()
            living.communicate(b"\n")

    def test_of_others_are_kept(self, workdir: Path) -> None:
        """What is not named like a file of ours is left alone."""
        FOLDER.mkdir(parents=True)
        other = FOLDER / "health-notes.json"
        other.touch()
        of_day_before(other)
        written(FOLDER)

        assert other.exists()

    def test_do_not_pile_up(self, workdir: Path, ended: int) -> None:
        """A job that is started every few seconds leaves a bounded number of files."""
        one = written(FOLDER, ended).read_text()
        for n in range(MAX_FILES + 50):
            (FOLDER / f"health-{4_200_000_000 + n}.json").write_text(one)
        written(FOLDER)

        assert len(list(FOLDER.glob("*.json"))) == MAX_FILES


class TestHostile:
    @pytest.fixture(autouse=True)
    def beside_a_good_one(self, workdir: Path) -> Iterator[None]:
        """One good file lies in the folder, and is read whatever lies beside it."""
        written(FOLDER)
        yield
        assert [report.pid for report in read(FOLDER)] == [os.getpid()]
        # Nor does it keep anybody from writing.
        written(FOLDER, health=FINE)
        assert [report.health for report in read(FOLDER)] == [FINE]

    def good(self) -> dict[str, object]:
        """What a good file would hold."""
        found = json.loads((FOLDER / f"health-{os.getpid()}.json").read_text())
        assert isinstance(found, dict)
        return {**found, "pid": 77}

    @pytest.mark.parametrize(
        "content",
        [b"", b"\x00\xff" * 500, b"{", b"[]", b"7", b"null", b"[" * 100_000, b'{"format": 1, "pid": 77}', b"9" * 6_000],
        ids=["empty", "binary", "torn", "list", "number", "null", "deep", "bare", "endless number"],
    )
    def test_content_is_passed_over(self, content: bytes) -> None:
        """What is no object of ours is no report."""
        (FOLDER / "health-77.json").write_bytes(content)

    @pytest.mark.parametrize(
        "more",
        [
            {"format": 2},
            {"pid": 78},
            {"entries": 7},
            {"entries": [7]},
            {"entries": {"a": 1}},
            {"entries": [{"service": "x"}]},
        ],
        ids=["newer", "other number", "no list", "no entry", "mapping", "half an entry"],
    )
    def test_objects_are_passed_over(self, more: dict[str, object]) -> None:
        """An object that is not whole, or not ours, is no report."""
        (FOLDER / "health-77.json").write_text(json.dumps({**self.good(), **more}))

    @pytest.mark.parametrize(
        "change",
        [
            {"started": "now"}, {"written": float("nan")}, {"service": 7}, {"health": None},
            {"health": {"exporters": [], "refused": -1, "unread": 0, "failures": {}}},
            {"health": {"exporters": [], "refused": 10**30, "unread": 0, "failures": {}}},
            {"health": {"exporters": [], "refused": 0, "unread": 0, "failures": [1]}},
            {"health": {"exporters": [{"name": "x", "where": "y", "signals": 3}], "refused": 0, "unread": 0, "failures": {}}},
        ],
    )  # fmt: skip
    def test_entries_are_passed_over(self, change: dict[str, object]) -> None:
        """An entry that is not what it should be is no report."""
        content = self.good()
        (entry,) = content["entries"]  # type: ignore[misc]  # a list
        (FOLDER / "health-77.json").write_text(json.dumps({**content, "entries": [{**entry, **change}]}))

    def test_a_huge_file_is_passed_over(self) -> None:
        """A file too large to be ours is not even read, however well it begins."""
        (FOLDER / "health-77.json").write_text(json.dumps(self.good()).ljust(50 * MAX_BYTES))

    @posix
    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        """A link in place of a file is passed over, and what it points to stays as it is, also when it is replaced."""
        secret = tmp_path / "secret.json"
        secret.write_text(json.dumps(self.good()))
        (FOLDER / "health-77.json").symlink_to(secret)
        mine = FOLDER / f"health-{os.getpid()}.json"
        mine.unlink()
        mine.symlink_to(secret)

        written(FOLDER)
        assert json.loads(secret.read_text()) == {**self.good(), **json.loads(secret.read_text())}
        assert json.loads(secret.read_text())["pid"] == 77
        assert not mine.is_symlink()

    @posix
    def test_what_is_no_file_is_passed_over(self) -> None:
        """Neither a folder nor a pipe of that name holds anybody up."""
        (FOLDER / "health-77.json").mkdir()
        os.mkfifo(FOLDER / "health-78.json")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
    def test_what_belongs_to_another_is_passed_over(self) -> None:
        """A file that somebody else put there is no report."""
        path = FOLDER / "health-77.json"
        path.write_text(json.dumps(self.good()))
        os.chown(path, 12_345, -1)


def test_what_would_move_a_terminals_cursor_is_left_out(workdir: Path) -> None:
    """Names are shown without control characters, and in part where they are long."""
    written(FOLDER, service="a\x1b[2J\nb" + "c" * 1_000)
    (report,) = read(FOLDER)

    assert report.service == "a?[2J?b" + "c" * 293


class TestFolder:
    def test_that_is_not_there(self, workdir: Path) -> None:
        """Where nobody wrote there is nothing to read, and reading makes nothing."""
        assert read(FOLDER) == []
        assert list(workdir.iterdir()) == []

    def test_that_cannot_be_made(self, workdir: Path) -> None:
        """Where there can be no folder there is no file, and nobody hears of it."""
        Path(".otel_ml").touch()
        written(FOLDER)

        assert read(FOLDER) == []

    @posix
    @pytest.mark.parametrize("link", [".otel_ml", ".otel_ml/health", "runs.db-health"])
    def test_that_is_a_link(self, link: str, workdir: Path, tmp_path: Path) -> None:
        """A link in place of a folder of ours is not followed, neither to write nor to read."""
        folder = FOLDER if link.startswith(".") else Path(link)
        real = tmp_path / "elsewhere"
        written(real / "health" if link == ".otel_ml" else real)
        before = sorted(real.rglob("*"))
        Path(link).parent.mkdir(exist_ok=True)
        Path(link).symlink_to(real)
        written(folder, pid=77)

        assert sorted(real.rglob("*")) == before
        assert read(folder) == []

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give folders away")
    def test_that_belongs_to_another(self, workdir: Path) -> None:
        """A folder of somebody else is neither written to nor read."""
        path = written(FOLDER)
        os.chown(FOLDER, 12_345, -1)
        written(FOLDER, pid=77)

        assert read(FOLDER) == []
        assert list(FOLDER.glob("*.json")) == [path]


class TestWriter:
    def test_writes_once_a_minute(self, workdir: Path) -> None:
        """However many senders ask, and however often, it writes once in a minute; the first time at once."""
        asked: list[int] = []

        def health() -> Health:
            asked.append(1)
            return HEALTH

        writer = HealthWriter(health, FOLDER, "churn-api")
        for _ in range(100):
            writer.each_minute()

        assert len(asked) == 1
        assert [report.ended for report in read(FOLDER)] == [False]

    def test_writes_at_the_end_for_the_last_time(self, workdir: Path) -> None:
        """The end is written whenever it comes; a sender that was left behind writes nothing after it."""
        states = [HEALTH, FINE, HEALTH]
        writer = HealthWriter(lambda: states.pop(0), FOLDER, "churn-api")
        writer.each_minute()
        writer.last(monotonic() + 5)
        writer._due = 0.0
        writer.each_minute()

        assert [(report.ended, report.health) for report in read(FOLDER)] == [(True, FINE)]

    def test_that_is_held_up_does_not_hold_up_the_end(self, workdir: Path) -> None:
        """A disk that hangs costs the end no more than its time, and a tenth of a second where there was none left."""
        hanging = threading.Event()

        def health() -> Health:
            hanging.wait(30)
            return HEALTH

        with stopwatch() as took:
            HealthWriter(health, FOLDER, "churn-api").last(monotonic() - 1)
        hanging.set()

        assert took.seconds < 2
        # Left alone it gets there.
        wait_for(lambda: read(FOLDER))

    @pytest.mark.shielded
    def test_that_fails_is_counted(self, workdir: Path) -> None:
        """What goes wrong in it is not raised into a sender or the program's end."""

        def health() -> Health:
            raise RuntimeError

        writer = HealthWriter(health, FOLDER, "churn-api")
        writer.each_minute()
        writer.last(monotonic() + 5)

        assert otel_ml._shield.failures() == {"write health": 2}  # type: ignore[attr-defined]  # a module

    @pytest.mark.parametrize("exporters", [[], [Recorder()]])
    def test_has_nowhere_to_write(self, exporters: list[Recorder], workdir: Path) -> None:
        """Without a store or a spool there is no file."""
        with otel_ml.configure(exporters=exporters, set_global=False), otel_ml.predict("churn"):
            pass

        assert list(workdir.rglob("health*")) == []

    def test_has_nothing_to_say(self, workdir: Path) -> None:
        """A program that records nothing leaves nothing behind."""
        otel_ml.configure(exporters=[Local()], set_global=False).shutdown()

        assert list(workdir.iterdir()) == []

    def test_prefers_the_store(self, workdir: Path) -> None:
        """With a local store and a spool, health is written beside the store."""
        with (
            FaultCollector() as collector,
            otel_ml.configure(service="a", exporters=[OTLP(collector.endpoint), Local()], set_global=False),
            otel_ml.predict("churn"),
        ):
            pass

        assert [report.service for report in read(FOLDER)] == ["a"]
        assert len(list(workdir.rglob("health-*.json"))) == 1

    def test_of_a_store_with_a_name(self, workdir: Path) -> None:
        """A store in a folder of the user's has a folder of its own for it."""
        with otel_ml.configure(exporters=[Local("runs.db")], set_global=False), otel_ml.predict("churn"):
            pass

        assert len(read(beside(Path("runs.db")))) == 1
        assert Path("runs.db-health").is_dir()


PROGRAM = """
import json, os, sys
import otel_ml
from otel_ml import exporters

what, endpoint = sys.argv[1:]
places = [exporters.OTLP(endpoint, headers={"api-key": "s3cr3t"})] if endpoint else [exporters.Local()]
telemetry = otel_ml.configure(service="churn-api", exporters=places, set_global=False)

@otel_ml.predict
def score(x):
    return x

for n in range(9):
    score(n)
if what == "fork":
    child = os.fork()
    if not child:
        for n in range(4):
            score(n)
        otel_ml.shutdown()
        os._exit(0)
    os.waitpid(child, 0)
    print(child, flush=True)
print("ready", flush=True)
input()
otel_ml.shutdown(1.0)
(place,) = telemetry.health().exporters
account = place.signals["spans"]
print(json.dumps([account.created, account.delivered, account.spooled, account.dropped]))
"""


@contextmanager
def program(what: str, environment: dict[str, str], endpoint: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run the program above until its last input is asked for; `communicate` lets it end."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what, endpoint],
        env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def lines_until_ready(process: subprocess.Popen[str]) -> list[str]:
    """Return what a program printed before it was ready."""
    assert process.stdout is not None
    return list(iter(lambda: process.stdout.readline().strip(), "ready"))  # type: ignore[union-attr]  # a pipe


class TestPrograms:
    def test_while_it_runs_and_after_it(self, workdir: Path, bare_environment: dict[str, str]) -> None:
        """A running program is found running; when it has ended, its file says what `health()` said last."""
        with program("run", bare_environment) as process:
            lines_until_ready(process)
            (running,) = wait_for(lambda: read(FOLDER))
            out, _ = process.communicate("\n", timeout=60)
        (done,) = read(FOLDER)
        account = done.health.exporters[0].signals["spans"]

        assert (running.service, running.pid, running.alive, running.ended) == ("churn-api", process.pid, True, False)
        assert running.health.exporters[0].signals["spans"].created > 0
        assert (done.pid, done.alive, done.ended, done.started) == (process.pid, False, True, running.started)
        assert (
            json.loads(out) == [account.created, account.delivered, account.spooled, account.dropped] == [9, 9, 0, {}]
        )

    def test_that_is_killed(self, workdir: Path, bare_environment: dict[str, str]) -> None:
        """A program that is killed leaves what it wrote last, and is found not to run."""
        with program("run", bare_environment) as process:
            lines_until_ready(process)
            wait_for(lambda: read(FOLDER))
            process.kill()
            process.wait()

        assert [(report.alive, report.ended) for report in read(FOLDER)] == [(False, False)]

    def test_whose_collector_refuses(self, workdir: Path, bare_environment: dict[str, str]) -> None:
        """Without a local store the file lies in the spool; it has the losses, and no secret."""
        spool = workdir / "spool"
        with (
            FaultCollector(400) as collector,
            program("run", {**bare_environment, "OTEL_ML_SPOOL": str(spool)}, collector.endpoint) as process,
        ):
            lines_until_ready(process)
            process.communicate("\n", timeout=60)
        (report,) = read(spool / "health")
        (place,) = report.health.exporters

        assert place.where.startswith(f"OTLP {collector.endpoint}")
        assert place.signals["spans"].dropped == {"http_400": 9}
        assert "s3cr3t" not in (spool / "health" / f"health-{process.pid}.json").read_text()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_that_fork(self, workdir: Path, bare_environment: dict[str, str]) -> None:
        """A forked child writes a file of its own, with what is its own."""
        with program("fork", bare_environment) as process:
            (child,) = map(int, lines_until_ready(process))
            process.communicate("\n", timeout=60)
        found = {report.pid: report.health.exporters[0].signals["spans"] for report in read(FOLDER)}

        assert {pid: account.delivered for pid, account in found.items()} == {process.pid: 9, child: 4}

    def test_with_tenants(self, workdir: Path) -> None:
        """Several configurations in one process are all there, and what one lost is not lost with it."""
        with FaultCollector(400) as collector:
            a = otel_ml.configure(
                service="a", exporters=[OTLP(collector.endpoint, spool=None), Local()], current=False, set_global=False
            )
            b = otel_ml.configure(service="b", exporters=[Local()], current=False, set_global=False)
            for one in (a, b):
                with one.use(), otel_ml.predict("churn"):
                    pass
            a.shutdown()
            b.shutdown()

        assert {report.service: report.health.dropped for report in read(FOLDER)}.keys() == {"a", "b"}
        assert all(report.ended for report in read(FOLDER))


def test_a_module_at_the_bottom_says_where() -> None:
    """The folder beside a store is named after it, but for the store that has a folder to itself."""
    assert beside(Path("/x/.otel_ml/telemetry.db")) == Path("/x/.otel_ml") / _health_file.FOLDER
    assert beside(Path("/x/a.db")) != beside(Path("/x/b.db"))
