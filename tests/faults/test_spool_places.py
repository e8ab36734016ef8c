"""Places that cannot be a spool: one clear line, the program goes on, losses are counted, and what can be sent is sent."""

import ctypes
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from opentelemetry.sdk.resources import Resource

import otel_ml
from otel_ml import exporters
from otel_ml._delivery import Packs
from otel_ml._health import Account
from otel_ml.testing import FaultCollector
from tests.faults.running import run

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there is no spool on this system"),
]

CALLS = 40
NOBODY = 65_534
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def collector() -> Iterator[FaultCollector]:
    """A collector that is away at first."""
    with FaultCollector("refused") as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the spool is to be."""
    return tmp_path / "spool"


def missing(command: str) -> None:
    """Skip for want of rights, or fail where everything is required."""
    message = f"This machine does not let tests do it. As root, type: {command}"
    (pytest.fail if os.environ.get("OTEL_ML_REQUIRE_LIVE") == "1" else pytest.skip)(message)


def mount(*arguments: str | Path) -> None:
    """Mount something, or skip."""
    command = ["mount", *map(str, arguments)]
    if not is_root or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        missing(" ".join(command))


def unmount(where: Path) -> None:
    """Undo it."""
    subprocess.run(["umount", "-l", where], check=True)


def destination(collector: FaultCollector) -> str:
    """Return the name of the folder for spans that go to a collector."""
    part = exporters.OTLP(collector.endpoint).build(Resource({})).spans
    assert isinstance(part, Packs)
    return part.destination


def lines_of(caplog: pytest.LogCaptureFixture, root: Path) -> list[str]:
    """Return the lines of ours that are about a spool."""
    return [one.getMessage() for one in caplog.records if one.name == "otel_ml" and str(root) in one.getMessage()]


def record() -> None:
    """Record some calls, as a program does."""
    for _ in range(CALLS):
        with otel_ml.predict("churn"):
            pass


class Going:
    """A program whose spool is in some place."""

    def __init__(self, collector: FaultCollector, root: Path) -> None:
        self.collector = collector
        self.telemetry = otel_ml.configure(
            exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(root))], set_global=False
        )

    @property
    def account(self) -> Account:
        """The account of spans."""
        return self.telemetry.health().exporters[0].signals["spans"]


def goes_on_in_memory(collector: FaultCollector, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Go through an outage that ends and one that does not, with a spool that cannot be used."""
    going = Going(collector, root)
    record()
    assert not going.telemetry.flush(0.3)
    assert going.account == Account(queued=CALLS)
    lines = lines_of(caplog, root)
    assert len(lines) == 1, lines
    assert "spool=exporters.Spool(" in lines[0]
    assert "Traceback" not in caplog.text

    collector.mode = "healthy"
    record()
    assert going.telemetry.flush()
    assert going.account == Account(delivered=2 * CALLS)
    assert len(collector.spans) == 2 * CALLS

    collector.mode = "refused"
    record()
    assert not going.telemetry.shutdown(0.3)
    assert going.account == Account(delivered=2 * CALLS, dropped={"shutdown": CALLS})
    assert len(lines_of(caplog, root)) == 1


def _link(root: Path, collector: FaultCollector) -> None:
    root.with_name("elsewhere").mkdir()
    root.symlink_to(root.with_name("elsewhere"))


def _dangling_link(root: Path, collector: FaultCollector) -> None:
    root.symlink_to(root.with_name("nowhere"))


def _linked_version(root: Path, collector: FaultCollector) -> None:
    root.mkdir()
    root.with_name("elsewhere").mkdir()
    (root / "v1").symlink_to(root.with_name("elsewhere"))


def _linked_destination(root: Path, collector: FaultCollector) -> None:
    (root / "v1").mkdir(parents=True, mode=0o700)
    root.with_name("elsewhere").mkdir()
    for signal in ("traces", "metrics", "logs"):
        (root / "v1" / destination(collector).replace("traces", signal)).symlink_to(root.with_name("elsewhere"))


def _file(root: Path, collector: FaultCollector) -> None:
    root.write_text("notes of mine")


def _file_for_version(root: Path, collector: FaultCollector) -> None:
    root.mkdir()
    (root / "v1").write_text("notes of mine")


def _file_for_destination(root: Path, collector: FaultCollector) -> None:
    (root / "v1").mkdir(parents=True, mode=0o700)
    for signal in ("traces", "metrics", "logs"):
        (root / "v1" / destination(collector).replace("traces", signal)).write_text("notes of mine")


def _pipe(root: Path, collector: FaultCollector) -> None:
    os.mkfifo(root)


PLACES = [
    _link, _dangling_link, _linked_version, _linked_destination, _file, _file_for_version, _file_for_destination, _pipe,
]  # fmt: skip


class TestPlaces:
    @pytest.mark.parametrize("make", PLACES)
    def test_what_is_no_folder_of_ours_is_not_used(
        self,
        make: Callable[[Path, FaultCollector], None],
        root: Path,
        collector: FaultCollector,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Links are not followed, files stay as they are."""
        make(root, collector)
        goes_on_in_memory(collector, root, caplog)

        elsewhere = root.with_name("elsewhere")
        assert not elsewhere.exists() or list(elsewhere.iterdir()) == []
        assert not root.with_name("nowhere").exists()
        for path in (root, root / "v1"):
            if path.is_file():
                assert path.read_text() == "notes of mine"

    @pytest.mark.parametrize("below", ["file/spool", "x" * 300, "/proc/nowhere/spool"])
    def test_a_folder_that_cannot_be_made(
        self, below: str, tmp_path: Path, collector: FaultCollector, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Below a file, with a name that is too long, where nothing can be made."""
        (tmp_path / "file").write_text("")
        goes_on_in_memory(collector, tmp_path / below, caplog)

    @pytest.mark.skipif(not is_root, reason="only root can give a folder to another user: sudo chown 12345")
    @pytest.mark.parametrize("level", ["version", "destination"])
    def test_a_folder_of_another_user(
        self, level: str, root: Path, collector: FaultCollector, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing is written into it, although root could."""
        folders = [
            root / "v1" / destination(collector).replace("traces", signal) for signal in ("traces", "metrics", "logs")
        ]
        for folder in folders:
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for folder in [root / "v1"] if level == "version" else folders:
            os.chown(folder, 12_345, 12_345)
        goes_on_in_memory(collector, root, caplog)

        assert [path for folder in folders for path in folder.iterdir()] == []

    def test_a_read_only_disk(self, root: Path, collector: FaultCollector, caplog: pytest.LogCaptureFixture) -> None:
        """A disk that is mounted so, as containers often have it."""
        root.mkdir()
        mount("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", root)
        try:
            goes_on_in_memory(collector, root, caplog)
            goes_on = root / "spool"
            assert not goes_on.exists()
        finally:
            unmount(root)

    def test_a_disk_that_becomes_read_only(
        self, root: Path, collector: FaultCollector, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What was kept before is sent; what comes afterwards is in memory."""
        root.mkdir()
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", root)
        try:
            going = Going(collector, root)
            record()
            assert not going.telemetry.flush(0.3)
            assert going.account == Account(spooled=CALLS)
            # Files that are open for writing keep a disk from it; what is new fails all the same.
            subprocess.run(["mount", "-o", "remount,ro", root], capture_output=True)
            record()
            going.telemetry.flush(0.3)
            assert going.account.created == 2 * CALLS
            collector.mode = "healthy"
            assert going.telemetry.flush()
            assert going.account == Account(delivered=2 * CALLS)
            going.telemetry.shutdown()
        finally:
            unmount(root)
        assert len(collector.spans) == 2 * CALLS
        assert len(lines_of(caplog, root)) <= 1

    @pytest.mark.skipif(not is_root, reason="only root can become another user")
    @pytest.mark.parametrize("rights", [0o500, 0o000])
    def test_a_folder_without_rights(self, rights: int, bare_environment: dict[str, str]) -> None:
        """A program of a user who may not write there, or not even look: one line, nothing lost, on time."""
        with tempfile.TemporaryDirectory() as name, FaultCollector() as collector:
            os.chown(name, NOBODY, NOBODY)
            Path(name).chmod(0o755)
            root = Path(name) / "spool"
            root.mkdir()
            os.chown(root, NOBODY, NOBODY)
            root.chmod(rights)
            ended = run(
                "lodging", bare_environment, endpoint=collector.endpoint, spool=str(root), user=NOBODY, calls=CALLS
            )
            assert ended.code == 0, ended.err
            arrived = len(collector.spans)

        assert arrived == CALLS
        assert ended.said["spans"] == [CALLS, CALLS, 0, 0, {}]
        assert len([line for line in ended.err.splitlines() if str(root) in line]) == 1, ended.err
        assert "Traceback" not in ended.err


class TestNewer:
    def test_a_newer_versions_folder_is_left_alone(
        self, root: Path, collector: FaultCollector, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One line tells; our own version's folder is used beside it."""
        newer = root / "v2" / destination(collector) / "1-abc"
        newer.mkdir(parents=True, mode=0o700)
        for name in ("lease", "00000000000000000001.seg", "something.new"):
            (newer / name).write_bytes(b"of a newer version")
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in newer.iterdir()}
        going = Going(collector, root)
        record()
        assert not going.telemetry.flush(0.3)
        assert going.account == Account(spooled=CALLS)
        collector.mode = "healthy"
        assert going.telemetry.flush()
        going.telemetry.shutdown()

        assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in newer.iterdir()} == before
        lines = lines_of(caplog, root)
        assert len(lines) == 1, lines
        assert "newer" in lines[0]

    def test_a_newer_versions_folder_does_not_make_room(self, root: Path, collector: FaultCollector) -> None:
        """What we may not touch is not deleted either, although it takes all the room."""
        newer = root / "v2" / destination(collector) / "1-abc"
        newer.mkdir(parents=True, mode=0o700)
        (newer / "00000000000000000001.seg").write_bytes(bytes(200_000))
        telemetry = otel_ml.configure(
            exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(root, max_bytes=64 * 1024))],
            set_global=False,
        )
        for _ in range(10):
            record()
            telemetry.flush(0.05)
        telemetry.shutdown(0.1)

        assert (newer / "00000000000000000001.seg").stat().st_size == 200_000


class TestFullDisks:
    def test_a_disk_of_1_mb(self, root: Path, collector: FaultCollector, caplog: pytest.LogCaptureFixture) -> None:
        """What does not fit waits in memory; when the collector comes back, all of it arrives; a line or two tell."""
        root.mkdir()
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", root)
        try:
            going = Going(collector, root)
            for _ in range(4_000):
                with otel_ml.predict("churn") as call:
                    call.set(text="x" * 500)
            going.telemetry.flush(0.5)
            account = going.account
            assert account.created == 4_000
            assert account.spooled > 500
            assert account.queued > 500
            collector.mode = "healthy"
            limit = monotonic() + 20.0
            while going.account.delivered + sum(going.account.dropped.values()) < 4_000 and monotonic() < limit:
                going.telemetry.flush(1.0)
            account = going.account
            going.telemetry.shutdown()
        finally:
            unmount(root)

        assert (account.created, account.queued, account.spooled) == (4_000, 0, 0)
        assert account.delivered == len(collector.spans)
        # A segment may have gone to make room for what is newer.
        assert set(account.dropped) <= {"spool_full"}
        assert len(lines_of(caplog, root)) <= 1

    @pytest.mark.parametrize("size", [0, 4_096, 100_000])
    def test_files_that_may_not_grow(self, size: int, root: Path, bare_environment: dict[str, str]) -> None:
        """A limit on the size of files, which every system has: nothing raises, everything arrives or is counted."""
        with FaultCollector("refused") as collector:
            refused = run(
                "lodging", bare_environment, endpoint=collector.endpoint, spool=str(root), calls=2_000, file_size=size
            )
            collector.mode = "healthy"
            healthy = run(
                "lodging", bare_environment, endpoint=collector.endpoint, spool=str(root), calls=2_000, file_size=size
            )
            arrived = len(collector.spans)
        for ended in (refused, healthy):
            assert ended.code == 0, ended.err
            assert "Traceback" not in ended.err
            assert len([line for line in ended.err.splitlines() if str(root) in line]) <= 1, ended.err
        created, delivered, queued, spooled, dropped = refused.said["spans"]  # type: ignore[misc]  # a list

        assert (created, delivered, queued) == (2_000, 0, 0)  # type: ignore[has-type]  # a list
        assert spooled + sum(dropped.values()) == 2_000  # type: ignore[has-type]  # a list
        assert healthy.said["spans"] == [2_000 + spooled, 2_000 + spooled, 0, 0, {}]  # type: ignore[has-type]  # a list
        assert arrived == 2_000 + spooled  # type: ignore[has-type]  # a list


@pytest.fixture
def hanging_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which nothing ever comes to an end, as a network's does whose server is gone."""
    where = tmp_path / "hanging"
    where.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        # A file system in user space that nobody serves: whoever looks at it waits, until he is killed.
        serving = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("this system lets nobody mount a file system that hangs")
    options = f"fd={serving},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"otel_ml", bytes(where), b"fuse", 0, options.encode()):
        os.close(serving)
        pytest.skip("this system lets nobody mount a file system that hangs")
    yield where
    os.close(serving)
    unmount(where)


@pytest.mark.alone
class TestHangingDisks:
    @pytest.mark.parametrize(
        ("places", "mode"),
        [
            (1, "silent"),
            (4, "refused"),
            pytest.param(1, "refused", marks=pytest.mark.slow),
            pytest.param(1, "healthy", marks=pytest.mark.slow),
        ],
    )
    def test_they_do_not_hold_up_the_end(
        self, places: int, mode: str, hanging_disk: Path, bare_environment: dict[str, str]
    ) -> None:
        """However many exporters have their spool there: two seconds at most, and `flush` and `health` keep to their time."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            for _ in range(3):
                ended = run(
                    "lodging", bare_environment, endpoint=collector.endpoint, spool=str(hanging_disk / "spool"), limit=10.0,
                    calls=CALLS, places=places, shutdown=False,
                )  # fmt: skip
                if ended.seconds <= 2.0:
                    break
        assert ended.code == 0, ended.err
        assert ended.said["flush"] <= 0.8  # type: ignore[operator]  # seconds
        assert ended.said["health"] <= 0.3 * places  # type: ignore[operator]  # seconds
        assert ended.seconds <= 2.0

    def test_what_can_be_sent_is_sent(self, hanging_disk: Path, bare_environment: dict[str, str]) -> None:
        """A disk that hangs does not keep telemetry from a collector that answers."""
        with FaultCollector() as collector:
            run(
                "lodging", bare_environment, endpoint=collector.endpoint, spool=str(hanging_disk / "spool"), limit=10.0,
                calls=CALLS, shutdown=False,
            )  # fmt: skip

            assert len(collector.spans) == CALLS


class TestGoodPlaces:
    def test_a_folder_that_others_may_write_to(self, root: Path, collector: FaultCollector) -> None:
        """A shared folder, as `/var/spool` has: ours in it is for us alone."""
        root.mkdir()
        root.chmod(0o1777)
        going = Going(collector, root)
        record()
        going.telemetry.flush(0.3)

        assert going.account == Account(spooled=CALLS)
        assert stat.S_IMODE((root / "v1").stat().st_mode) == 0o700
        going.telemetry.shutdown(0.3)

    def test_a_folder_below_a_link(self, tmp_path: Path, collector: FaultCollector) -> None:
        """A home folder may be one."""
        (tmp_path / "home").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "home")
        going = Going(collector, tmp_path / "link" / "spool")
        record()
        going.telemetry.flush(0.3)

        assert going.account == Account(spooled=CALLS)
        going.telemetry.shutdown(0.3)
