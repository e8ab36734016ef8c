"""The spool's folders: order, acknowledgements, the bound, leases, age, modes, and what somebody else put there."""

import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep, time_ns

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_ml import ConfigurationError
from otel_ml._backlog import MAX_AGE, Backlog
from otel_ml._delivery import Parcel
from otel_ml._segment import key_of, write
from otel_ml._segment_file import NUMBER_BYTES, pack, unpack
from otel_ml._shelf import Shelf
from otel_ml._spool import LEAST_BYTES, Spool
from otel_ml._tally import Tally
from tests.stopwatch import stopwatch

fcntl = pytest.importorskip("fcntl", reason="there is no spool on this system")

PROGRAM = Path(__file__).parent / "faults" / "programs" / "shelving.py"
MEGABYTE = 1024 * 1024
HERE, THERE = "traces-here", "traces-there"
# What segments are called after; a minute ago.
RECENT = time_ns() - 60_000_000_000
# A user without rights, on every system.
NOBODY = 65_534
is_root = os.geteuid() == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a spool, which does not exist yet."""
    return tmp_path / "spool"


class Kept:
    """A backlog and its account."""

    def __init__(self, root: Path, destination: str = HERE, max_bytes: int = 64 * MEGABYTE) -> None:
        self.tally = Tally("spans")
        self.backlog = Backlog(Spool(root, max_bytes=max_bytes), destination, self.tally)
        self.made = 0

    def put(self, *names: str, header: bytes = b"header") -> bool:
        """Put a parcel; what is not kept stays with the caller."""
        self.made += len(names)
        self.tally.add(held=len(names))
        return self.backlog.put(Parcel(header, tuple(name.encode() for name in names)))

    def take(self, loads: int | None = None) -> list[str]:
        """Look for what others left, then take and settle some loads, or all there are."""
        self.backlog.look()
        names: list[str] = []
        while loads != 0 and (load := self.backlog.load()) is not None:
            names += [record.decode() for parcel in load.parcels for record in parcel.records]
            self.backlog.settle(load, {})
            loads = None if loads is None else loads - 1
        return names

    def close(self) -> None:
        """End as a process does."""
        self.backlog.close(monotonic() + 5.0)

    @property
    def dropped(self) -> dict[str, int]:
        """What was lost, by reason."""
        return self.tally.account(None).dropped

    def balanced(self) -> bool:
        """Say whether every record is in one place."""
        account = self.tally.account(None)
        assert account.delivered >= 0
        assert account.queued >= 0
        assert account.spooled >= 0
        return account.created == self.made


def left(root: Path, names: list[str], *, destination: str = HERE, per_parcel: int = 3) -> None:
    """Leave records in a spool, as a process that has ended does."""
    kept = Kept(root, destination)
    for at in range(0, len(names), per_parcel):
        assert kept.put(*names[at : at + per_parcel])
    kept.close()


def orphan(root: Path, name: str, *, destination: str = HERE) -> Path:
    """Make the folder of a process that was killed."""
    folder = root / "v1" / destination / name
    folder.mkdir(parents=True, mode=0o700)
    for one in (root, root / "v1", root / "v1" / destination):
        one.chmod(0o700)
    (folder / "lease").touch(mode=0o600)
    return folder


def segment(folder: Path, names: list[str], *, at: int | None = None) -> Path:
    """Write a segment file into an orphan."""
    path = folder / f"{time_ns() if at is None else at:020d}.seg"
    path.write_bytes(write(Parcel(b"header", tuple(name.encode() for name in names)), key_of(path.name)))
    path.chmod(0o600)
    return path


def size(root: Path) -> int:
    """Return how many bytes lie in a folder; some files may be deleted at this moment."""
    found = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                found += (Path(folder) / name).lstat().st_size
    return found


@contextmanager
def watched(root: Path) -> Iterator[list[int]]:
    """Note how many bytes lie in a spool, again and again; nobody writes while they are counted."""
    sizes, ending = list[int](), threading.Event()

    def watch() -> None:
        while not ending.wait(0.001):
            with suppress(FileNotFoundError), (root / "v1" / ".room").open() as shared:
                fcntl.flock(shared, fcntl.LOCK_EX)
                sizes.append(size(root))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sizes
    finally:
        ending.set()
        watcher.join()


def numbered(count: int, prefix: str = "record") -> list[str]:
    """Return names that differ, in order."""
    return [f"{prefix}-{number:05}" for number in range(count)]


def until(seen: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait until something is true; False if it is not in time."""
    limit = monotonic() + seconds
    while not seen():
        if monotonic() >= limit:
            return False
        sleep(0.01)
    return True


@contextmanager
def shelving(root: Path, **asked: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a program that works on the spool by itself; it is killed when it is not needed any more."""
    given = {"folder": str(root), "destination": HERE, "max_bytes": 64 * MEGABYTE, "children": 0, "user": None} | asked
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(PROGRAM), json.dumps(given)],
        text=True, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def said(process: "subprocess.Popen[str]", limit: float = 10.0) -> object:
    """Return what a program says next; a program that hangs fails the test."""
    out: list[str] = []
    reader = threading.Thread(target=lambda: out.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]  # a pipe
    reader.start()
    reader.join(limit)
    if not out:
        os.killpg(process.pid, signal.SIGKILL)
        reader.join(limit)
        pytest.fail(f"the program did not answer in {limit} s")
    assert out[0], process.stderr.read()[-5_000:]  # type: ignore[union-attr]  # a pipe
    return json.loads(out[0]) if out[0].startswith(("[", "{")) else out[0].strip()


def tell(process: "subprocess.Popen[str]", line: str = "") -> None:
    """Have a program go on."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


class TestOrder:
    def test_records_come_back_as_they_were_put(self, root: Path) -> None:
        """Through several segments, with reading and writing in turns."""
        kept, names, read = Kept(root, max_bytes=MEGABYTE), numbered(3_000), list[str]()
        for at in range(0, 3_000, 30):
            assert kept.put(*(name.ljust(250) for name in names[at : at + 30]))
            assert kept.balanced()
            if at % 900 == 0:
                read += kept.take(loads=1)
                assert kept.balanced()
        assert len(list(root.glob("v1/*/*/*.seg"))) > 2
        read += kept.take()

        assert [name.strip() for name in read] == names
        assert kept.tally.account(None).delivered == 3_000
        kept.close()

    def test_what_an_earlier_process_left_comes_first(self, root: Path) -> None:
        """That of two earlier processes, in the order in which they wrote, then our own."""
        left(root, numbered(10, "first"))
        second = Kept(root)
        # The second process ends before it has looked for what the first left.
        assert second.put(*numbered(10, "second"))
        second.close()
        kept = Kept(root)
        assert kept.put(*numbered(10, "own"))

        assert kept.take() == [*numbered(10, "first"), *numbered(10, "second"), *numbered(10, "own")]
        account = kept.tally.account(None)
        assert (account.delivered, account.spooled, account.queued, account.dropped) == (30, 0, 0, {})
        kept.close()

    def test_a_clock_that_is_set_back_changes_nothing(self, root: Path) -> None:
        """Segments of one process are in order whatever the clock does; those of one from the future come last."""
        folder = orphan(root, "1-future")
        segment(folder, ["of the future"], at=time_ns() + 3_600_000_000_000)
        left(root, ["of the past"])

        assert Kept(root).take() == ["of the past", "of the future"]

    @pytest.mark.parametrize("records", [1, 511, 512, 513])
    def test_a_load_holds_about_a_batch(self, root: Path, records: int) -> None:
        """Small parcels are sent together, up to 512 records; a larger one goes alone."""
        kept = Kept(root)
        for name in numbered(700):
            kept.put(name)
        kept.put(*numbered(records, "large"))
        sizes = []
        while (load := kept.backlog.load()) is not None:
            sizes.append(load.count)
            kept.backlog.settle(load, {})

        assert sizes[0] == 512
        assert sum(sizes) == 700 + records
        assert max(sizes) <= max(512, records)
        kept.close()


class TestAcknowledgements:
    def test_what_was_delivered_is_not_read_again(self, root: Path) -> None:
        """After re-opening, reading goes on behind the last load that was settled; what was only loaded comes again."""
        first = Kept(root)
        for at in range(0, 2_000, 100):
            first.put(*numbered(2_000)[at : at + 100])
        read = first.take(loads=2)
        unsettled = first.backlog.load()
        assert unsettled is not None
        first.backlog.release(unsettled)
        first.close()

        second = Kept(root)
        assert read + second.take() == numbered(2_000)
        assert second.tally.account(None).delivered == 2_000 - len(read)
        second.close()

    @pytest.mark.parametrize("cut", range(12))
    def test_a_torn_acknowledgement_means_twice(self, root: Path, cut: int) -> None:
        """An `.ack` file that was not written to its end counts for nothing: twice is better than never."""
        ack, first = self.acknowledged(root)
        ack.write_bytes(ack.read_bytes()[:cut])

        assert (first, Kept(root).take()) == (numbered(600)[: len(first)], numbered(600))

    @pytest.mark.parametrize("at", range(12))
    def test_a_damaged_acknowledgement_means_twice(self, root: Path, at: int) -> None:
        """The same where one byte of it is not what it was."""
        ack, first = self.acknowledged(root)
        data = bytearray(ack.read_bytes())
        data[at] ^= 0x10
        ack.write_bytes(data)

        assert (first, Kept(root).take()) == (numbered(600)[: len(first)], numbered(600))

    def acknowledged(self, root: Path) -> tuple[Path, list[str]]:
        """Leave a segment of which a part is acknowledged."""
        kept = Kept(root)
        for at in range(0, 600, 50):
            kept.put(*numbered(600)[at : at + 50])
        read = kept.take(loads=1)
        kept.close()
        (ack,) = root.glob("v1/*/*/*.ack")
        assert 0 < len(read) < 600
        return ack, read

    def test_nothing_is_left_where_all_is_delivered(self, root: Path) -> None:
        """The folders of processes that have delivered everything are gone, those that they took over as well."""
        left(root, numbered(10))
        kept = Kept(root)
        kept.put("own")
        assert len(kept.take()) == 11
        assert kept.put("later")
        assert kept.take() == ["later"]
        kept.close()

        assert list(root.glob("v1/*/*")) == []

    def test_records_refused_are_gone_and_counted(self, root: Path) -> None:
        """A load that is settled with refusals is not sent again."""
        kept = Kept(root)
        kept.put(*numbered(10))
        load = kept.backlog.load()
        assert load is not None
        kept.backlog.settle(load, {"http_400": 3})
        account = kept.tally.account(None)

        assert (account.delivered, account.dropped, account.spooled) == (7, {"http_400": 3}, 0)
        assert kept.tally.lost == 3
        assert kept.take() == []
        kept.close()


class TestDamage:
    def test_a_damaged_record_costs_itself_and_is_counted(self, root: Path) -> None:
        """In our own segment and in one that an earlier process left, whose losses are not ours."""
        for own in (True, False):
            kept = Kept(root)
            kept.put(*numbered(20))
            (path,) = root.glob("v1/*/*/*.seg")
            path.write_bytes(path.read_bytes().replace(b"record-00007", b"recorD-00007"))
            if not own:
                kept.close()
                kept = Kept(root)

            assert kept.take() == [name for name in numbered(20) if name != "record-00007"]
            account = kept.tally.account(None)
            assert (account.delivered, account.dropped, account.spooled) == (19, {"spool_corrupt": 1}, 0)
            assert kept.tally.lost == int(own)
            kept.close()
            assert list(root.glob("v1/*/*")) == []

    def test_a_segment_that_was_cut_short_costs_what_was_cut(self, root: Path) -> None:
        """Its own process knows how many records there were, and counts them."""
        kept = Kept(root)
        kept.put(*numbered(20))
        (path,) = root.glob("v1/*/*/*.seg")
        os.truncate(path, path.stat().st_size // 2)
        read = kept.take()

        assert read == numbered(20)[: len(read)]
        assert kept.dropped == {"spool_corrupt": 20 - len(read)}
        assert kept.balanced()
        assert kept.put("after")
        assert kept.take() == ["after"]
        kept.close()

    @pytest.mark.parametrize("what", ["segment", "folder", "root"])
    def test_what_somebody_deletes_is_counted_and_the_spool_goes_on(self, root: Path, what: str) -> None:
        """A cleaner of temporary files, say: what was in it is counted as lost, what comes after it is kept."""
        kept = Kept(root)
        kept.put(*numbered(20))
        (path,) = root.glob("v1/*/*/*.seg")
        if what == "segment":
            path.unlink()
        else:
            shutil.rmtree(root if what == "root" else path.parent)

        assert kept.take() == []
        assert sum(kept.dropped.values()) == 20
        assert kept.balanced()
        assert kept.put("after")
        assert kept.take() == ["after"]
        kept.close()

    def test_what_is_written_into_a_folder_that_is_gone_is_counted(self, root: Path) -> None:
        """Somebody deletes everything while more is being put: every record is delivered, or counted as lost."""
        kept = Kept(root, max_bytes=MEGABYTE)
        for number, name in enumerate(numbered(400)):
            assert kept.put(name.ljust(1_000))
            if number == 200:
                shutil.rmtree(root)
        read = kept.take()

        assert [name.strip() for name in read] == numbered(400)[400 - len(read) :]
        assert sum(kept.dropped.values()) == 400 - len(read)
        assert kept.balanced()
        assert len(read) > 50
        kept.close()


class TestBound:
    def test_the_oldest_go_first_and_are_counted(self, root: Path) -> None:
        """Never more bytes than allowed; what is missing is counted as `spool_full`; what is there is the newest."""
        kept = Kept(root, max_bytes=4 * LEAST_BYTES)
        for name in numbered(1_000):
            assert kept.put(name.ljust(1_000))
            assert size(root) <= 4 * LEAST_BYTES
            assert kept.balanced()
        spooled = kept.tally.account(None).spooled
        read = [name.strip() for name in kept.take()]

        assert read == numbered(1_000)[1_000 - spooled :]
        assert kept.dropped == {"spool_full": 1_000 - spooled}
        # Not much room is wasted.
        assert spooled * 1_000 > 2.5 * LEAST_BYTES
        kept.close()

    @given(st.lists(st.integers(1, 1_000) | st.integers(100_000, 400_000), min_size=1, max_size=30))
    @example([290_000] * 4)
    @settings(deadline=None, max_examples=25)
    def test_whatever_the_parcels_are_there_is_never_more(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
    ) -> None:
        """Parcels up to the size of a batch, in a spool that holds a few of them."""
        root = tmp_path_factory.mktemp("spool")
        kept = Kept(root, max_bytes=MEGABYTE)
        for one in sizes:
            kept.put("x" * one)
            assert size(root) <= MEGABYTE
            assert kept.balanced()
        kept.close()

    def test_a_parcel_that_is_larger_than_the_spool_is_not_kept(self, root: Path) -> None:
        """A batch may have 1 MB, and a spool 64 KB: the bound holds, and nothing is lost without being counted."""
        kept = Kept(root, max_bytes=LEAST_BYTES)
        kept.put("small")
        kept.put(*(name.ljust(1_000) for name in numbered(512)))

        assert size(root) <= LEAST_BYTES
        assert kept.balanced()
        kept.close()

    def test_two_destinations_share_it(self, root: Path) -> None:
        """What one writes makes what is oldest of the other go; each loss is in the account of whose record it was."""
        limit = 8 * LEAST_BYTES
        one, other = Kept(root, HERE, limit), Kept(root, THERE, limit)
        for name in numbered(400):
            assert one.put(name.ljust(1_000))
        for name in numbered(800):
            assert other.put(name.ljust(1_000))
            assert size(root) <= limit
        read = [[name.strip() for name in kept.take()] for kept in (one, other)]

        assert read[0] == numbered(400)[400 - len(read[0]) :]
        assert read[1] == numbered(800)[800 - len(read[1]) :]
        assert one.dropped == {"spool_full": 400 - len(read[0])}
        assert other.dropped == {"spool_full": 800 - len(read[1])}
        assert one.balanced()
        assert other.balanced()
        one.close()
        other.close()

    @pytest.mark.parametrize("destination", [HERE, THERE])
    def test_two_processes_share_it(self, root: Path, destination: str) -> None:
        """Both write at the same time; there is never more than allowed, and what each one lost is in its account."""
        limit, count = 8 * LEAST_BYTES, 1_500
        with (
            shelving(root, what="fill", name="a", count=count, max_bytes=limit) as a,
            shelving(root, what="fill", name="b", count=count, max_bytes=limit, destination=destination) as b,
        ):
            assert [said(one) for one in (a, b)] == ["ready", "ready"]
            with watched(root) as sizes:
                tell(a)
                tell(b)
                filled = [said(one) for one in (a, b)]
            assert [one["kept"] for one in filled] == [count, count]  # type: ignore[index]  # a dictionary
            for name, process in (("a", a), ("b", b)):
                tell(process)
                end = said(process)
                assert isinstance(end, dict)
                names = end["names"]
                assert names == [f"{name}-{number}" for number in range(count)][count - len(names) :]
                assert end["dropped"] == {"spool_full": count - len(names)}
                assert (end["delivered"], end["spooled"]) == (len(names), 0)
        assert limit / 2 < max(sizes) <= limit

    def test_many_processes_share_it(self, root: Path) -> None:
        """So it is with more processes than there are files of the usual size, and each of them has some room."""
        limit, count = 8 * LEAST_BYTES, 300
        with ExitStack() as stack:
            them = [
                stack.enter_context(shelving(root, what="fill", name=str(number), count=count, max_bytes=limit))
                for number in range(12)
            ]
            assert [said(one) for one in them] == ["ready"] * 12
            with watched(root) as sizes:
                for one in them:
                    tell(one)
                filled = [said(one) for one in them]
        for one in filled:
            assert isinstance(one, dict)
            # What finds no room beside files that others are writing to is still the caller's.
            assert one["kept"] > 0
            assert one["spooled"] + one["dropped"].get("spool_full", 0) == one["kept"]
        assert limit / 2 < max(sizes) <= limit

    @pytest.mark.parametrize(
        "how", ["stopped", "a link", "a folder", "a pipe", "text", "too little room", "another user's"]
    )
    def test_a_shared_count_that_cannot_be_used(self, root: Path, tmp_path: Path, how: str) -> None:
        """Whatever has become of the number that processes share: records are kept, within the bound, without much ado."""
        limit = 4 * LEAST_BYTES
        before, kept = Kept(root, THERE, limit), Kept(root, max_bytes=limit)
        for name in numbered(150):
            assert before.put(name.ljust(1_000))
        shared = root / "v1" / ".room"
        written = shared.read_bytes()
        assert len(written) == 12
        locked = -1
        if how == "stopped":
            # By a process that was stopped while it wrote.
            locked = os.open(shared, os.O_RDWR)
            fcntl.flock(locked, fcntl.LOCK_EX)
        elif how == "text":
            shared.write_text("much")
        elif how == "too little room":
            shared.write_bytes(pack(10**15))
        elif how == "another user's":
            if not is_root:
                pytest.skip("only root may give a file away")
            os.chown(shared, NOBODY, NOBODY)
        else:
            shared.unlink()
            if how == "a link":
                (tmp_path / "victim").write_bytes(b"untouched")
                shared.symlink_to(tmp_path / "victim")
            elif how == "a folder":
                shared.mkdir()
            else:
                os.mkfifo(shared)

        with stopwatch() as took:
            for name in numbered(10):
                assert kept.put(name.ljust(1_000))
                assert size(root) <= limit
        assert took.seconds < 2.0
        for name in numbered(290)[10:]:
            assert how == "stopped" or kept.put(name.ljust(1_000))
            assert size(root) <= limit
        assert kept.balanced()
        assert how != "a link" or (tmp_path / "victim").read_bytes() == b"untouched"
        if locked >= 0:
            os.close(locked)
        before.close()
        kept.close()

    def test_what_is_about_to_be_written_is_counted_already(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process may be killed at any moment: the shared number is never less than what lies there."""
        kept, put, noted = Kept(root, max_bytes=4 * LEAST_BYTES), Shelf.put, list[int]()

        def watched_put(shelf: Shelf, parcel: Parcel) -> None:
            taken = unpack((root / "v1" / ".room").read_bytes())
            assert taken is not None
            put(shelf, parcel)
            noted.append(taken - (size(root) - NUMBER_BYTES))

        monkeypatch.setattr(Shelf, "put", watched_put)
        for name in numbered(500):
            assert kept.put(name.ljust(1_000))

        assert len(noted) == 500
        assert min(noted) >= 0
        # Nor is it so much more that there is hardly any room.
        assert max(noted) < LEAST_BYTES
        kept.close()

    def test_what_nobody_will_ever_send_makes_room_first(self, root: Path) -> None:
        """Processes with other credentials were killed, each with one segment: they must not take the room for ever."""
        limit = 8 * LEAST_BYTES
        for number in range(20):
            segment(
                orphan(root, f"{number}-dead", destination=f"traces-{number}"),
                [name.ljust(1_000) for name in numbered(30)],
            )
        kept = Kept(root, max_bytes=limit)
        for name in numbered(300):
            assert kept.put(name.ljust(1_000))
        # The orphans are older than anything of ours, and ours fits.
        assert size(root) <= limit
        assert len(kept.take()) == 300
        kept.close()

    def test_what_a_dead_process_loses_is_counted_by_who_made_room(self, root: Path) -> None:
        """Nobody else is there to count it."""
        limit = 8 * LEAST_BYTES
        folder = orphan(root, "1-dead", destination=THERE)
        for number in range(10):
            segment(folder, [name.ljust(1_000) for name in numbered(50)], at=RECENT + number)
        kept = Kept(root, max_bytes=limit)
        for name in numbered(400):
            assert kept.put(name.ljust(1_000))

        gone = 10 - len(list(folder.glob("*.seg")))
        assert gone > 0
        assert kept.dropped.get("spool_full", 0) >= 50 * gone
        kept.close()

    def test_a_file_that_is_none_of_ours_takes_nothing_away(self, root: Path) -> None:
        """A sparse file of a terabyte in a dead process's folder does not make everything else go."""
        path = segment(orphan(root, "1-dead", destination=THERE), [])
        try:
            os.truncate(path, 1 << 40)
        except OSError:
            pytest.skip("this file system has no files of a terabyte")
        kept = Kept(root, max_bytes=8 * LEAST_BYTES)
        for name in numbered(300):
            assert kept.put(name.ljust(1_000))

        assert len(kept.take()) == 300
        kept.close()

    def test_nothing_is_deleted_behind_a_link(self, root: Path, tmp_path: Path) -> None:
        """A link inside the spool leads to files of the user's that are called like ours."""
        mine = tmp_path / "mine" / "below"
        mine.mkdir(parents=True)
        for number in range(5):
            (mine / f"{number:020d}.seg").write_bytes(bytes(LEAST_BYTES))
        orphan(root, "1-dead")
        (root / "v1" / HERE / "link").symlink_to(mine)
        (root / "v1" / "link").symlink_to(mine.parent)
        kept = Kept(root, max_bytes=4 * LEAST_BYTES)
        for name in numbered(600):
            assert kept.put(name.ljust(1_000))

        assert len(list(mine.iterdir())) == 5
        kept.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted(where, "size=1m")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def mounted(where: Path, options: str) -> None:
    """Mount a small disk, or skip where that is not allowed; where everything is required, fail."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
    if is_root and shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0:
        return
    message = f"This machine does not let tests mount a disk. As root, type: {' '.join(command)}"
    (pytest.fail if os.environ.get("OTEL_ML_REQUIRE_LIVE") == "1" else pytest.skip)(message)


@pytest.mark.faults
class TestFullDisk:
    def test_what_does_not_fit_stays_with_the_caller(self, small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
        """On a full disk nothing raises, one line tells, and what is on it can be read; with room again, it goes on."""
        filler = small_disk / "filler"
        filler.write_bytes(bytes(600 * 1024))
        kept = Kept(small_disk / "spool")
        results = [kept.put(name.ljust(1_000)) for name in numbered(600)]
        first = results.index(False)
        assert not any(results[first:])
        assert kept.balanced()
        assert kept.tally.account(None).spooled == first
        lines = [record.getMessage() for record in caplog.records if record.name == "otel_ml"]
        assert len(lines) == 1
        assert "no room left" in lines[0]
        assert str(small_disk / "spool") in lines[0]

        filler.unlink()
        assert kept.put("after")
        assert [name.strip() for name in kept.take()] == [*numbered(first), "after"]
        assert kept.put("later")
        assert kept.take() == ["later"]
        kept.close()

    def test_the_oldest_make_room_for_the_newest(self, small_disk: Path) -> None:
        """Where the disk is smaller than the bound, what is oldest is dropped, and counted."""
        kept = Kept(small_disk / "spool", max_bytes=2 * MEGABYTE)
        for name in numbered(2_000):
            assert kept.put(name.ljust(1_000))
            assert kept.balanced()
        read = [name.strip() for name in kept.take()]

        assert read == numbered(2_000)[2_000 - len(read) :]
        assert len(read) > 300
        assert kept.dropped == {"spool_full": 2_000 - len(read)}
        kept.close()

    def test_what_is_torn_off_by_a_full_disk_costs_nothing(self, small_disk: Path) -> None:
        """A parcel of which only the beginning fitted is taken out again; what is put later can be read."""
        kept = Kept(small_disk / "spool")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(800 * 1024))
        assert kept.put("before")
        assert not kept.put("x" * 500_000)
        filler.unlink()
        assert kept.put("after")

        assert kept.take() == ["before", "after"]
        assert kept.dropped == {}
        kept.close()

    def test_a_disk_without_files_to_give_gathers_no_folders(self, tmp_path: Path) -> None:
        """Where a folder can be made but no file in it, trying again and again leaves nothing behind."""
        where = tmp_path / "disk"
        where.mkdir()
        # The disk, the spool's three folders, and a process's one.
        mounted(where, "size=1m,nr_inodes=5")
        try:
            kept = Kept(where / "spool")
            assert not any(kept.put(name) for name in numbered(20))
            assert list((where / "spool" / "v1" / HERE).iterdir()) == []
        finally:
            subprocess.run(["umount", "-l", where], check=True)


class TestModes:
    def test_everything_is_for_its_owner_alone(self, root: Path) -> None:
        """Whatever the process's mask: folders have 0700, files 0600, and what was more open is closed."""
        before = os.umask(0)
        try:
            (root / "v1").mkdir(parents=True, mode=0o755)
            (root / "v1").chmod(0o755)
            kept = Kept(root)
            for name in numbered(600):
                kept.put(name)
            kept.take(loads=1)
            made = list(root.rglob("*"))
            assert {path.suffix for path in made} >= {".seg", ".ack"}
            assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o700}
            assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o600}
            kept.close()
        finally:
            os.umask(before)

    def test_a_root_that_is_made_is_private(self, tmp_path: Path) -> None:
        """Also the folders on the way to it that are missing."""
        before = os.umask(0o022)
        try:
            kept = Kept(tmp_path / "state" / "otel_ml" / "spool")
            assert kept.put("record")
            kept.close()
        finally:
            os.umask(before)

        assert stat.S_IMODE((tmp_path / "state" / "otel_ml" / "spool").stat().st_mode) == 0o700
        assert not stat.S_IMODE((tmp_path / "state").stat().st_mode) & 0o022

    @pytest.mark.parametrize("directory", ["", "  ", "a\0b", "~nobody-has-this-name/spool"])
    def test_a_directory_that_is_none_is_refused_at_once(self, directory: str) -> None:
        """While things are set up, and not by a thread of ours later on."""
        with pytest.raises(ConfigurationError, match="Write exporters"):
            Spool(directory).root()

    @pytest.mark.parametrize("variable", ["~nobody-has-this-name/spool"])
    def test_a_variable_that_names_no_directory_is_no_surprise(
        self, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is refused with our own class, or there is no spool."""
        monkeypatch.setenv("OTEL_ML_SPOOL", variable)
        try:
            assert Spool().root() is None
        except ConfigurationError as error:
            assert "OTEL_ML_SPOOL" in str(error)  # noqa: PT017  # not raising is right too


class TestAge:
    def test_what_is_older_than_a_week_is_deleted(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        """One line tells; what is younger is sent."""
        day, folder = 86_400_000_000_000, orphan(root, "1-dead")
        segment(folder, ["too old"], at=time_ns() - 8 * day)
        segment(folder, ["old"], at=time_ns() - 6 * day)
        kept = Kept(root)

        assert kept.take() == ["old"]
        assert len([record for record in caplog.records if "week" in record.getMessage()]) == 1
        assert list(root.glob("v1/*/*/*.seg")) == []
        assert kept.tally.account(None).spooled == 0
        kept.close()

    def test_what_was_deleted_is_counted(self, root: Path) -> None:
        """It is a loss like any other."""
        segment(orphan(root, "1-dead"), numbered(5), at=time_ns() - (MAX_AGE + 60) * 1_000_000_000)
        kept = Kept(root)

        assert kept.take() == []
        assert sum(kept.dropped.values()) == 5
        kept.close()

    def test_it_is_deleted_whoever_it_was_for(self, root: Path) -> None:
        """Credentials that change leave folders behind for which nobody comes any more."""
        folder = orphan(root, "1-dead", destination=THERE)
        segment(folder, ["too old"], at=time_ns() - 8 * 86_400_000_000_000)
        kept = Kept(root)
        kept.take()

        assert list(folder.glob("*.seg")) == []
        kept.close()


class TestLeases:
    def test_what_belongs_to_a_live_process_is_left_alone_and_a_dead_ones_is_taken(self, root: Path) -> None:
        """Another process holds its folder until it is killed, and not a moment longer."""
        with shelving(root, what="write", parcels=[numbered(5)]) as process:
            said(process)
            alive = Kept(root)
            assert alive.take() == []
            assert len(list(root.glob("v1/*/*/*.seg"))) == 1
            process.kill()
            process.wait()
        alive.close()

        assert Kept(root).take() == numbered(5)

    def test_what_belongs_to_another_part_of_this_process_is_left_alone(self, root: Path) -> None:
        """Two exporters of one process with the same destination, in one folder."""
        one, other = Kept(root), Kept(root)
        one.put("first")
        other.put("second")

        assert one.take() == ["first"]
        assert other.take() == ["second"]
        one.close()
        other.close()

    @pytest.mark.parametrize("spelled", ["link/spool", "x/../spool"])
    def test_that_holds_however_the_folder_is_written(self, root: Path, tmp_path: Path, spelled: str) -> None:
        """Through a link above it, or around a corner: to open a lease of one's own would give it away."""
        (tmp_path / "x").mkdir()
        (tmp_path / "link").symlink_to(tmp_path)
        one, other = Kept(root), Kept(tmp_path / spelled)
        one.put("first")

        assert other.take() == []
        assert one.take() == ["first"]
        one.close()
        other.close()

    def test_only_one_of_many_takes_what_is_left(self, root: Path) -> None:
        """Eight processes look at the same moment for what six killed ones left: every record is read once."""
        for number in range(6):
            segment(orphan(root, f"{number}-dead"), numbered(5, f"of {number}"))
        with shelving(root, what="claim", children=8) as process:
            shares = said(process)
        assert isinstance(shares, list)

        assert sorted(name for share in shares for name in share) == sorted(
            name for number in range(6) for name in numbered(5, f"of {number}")
        )
        assert list(root.glob("v1/*/*")) == []

    def test_a_forked_child_does_not_keep_its_parents_lease(self, root: Path) -> None:
        """The parent is killed, a child of its lives on: the folder is free."""
        with shelving(root, what="write", parcels=[numbered(5)], children=2) as process:
            answer = said(process)
            assert isinstance(answer, dict)
            process.kill()
            process.wait()
            for child in answer["children"]:
                os.kill(child, 0)

            assert Kept(root).take() == numbered(5)

    def test_a_child_that_ends_takes_nothing_from_its_parent(self, root: Path) -> None:
        """Neither its lease nor its segments; the child of a fork has nothing of its own until it puts something."""
        kept = Kept(root)
        kept.put(*numbered(5))
        for end in ("_exit", "close"):
            pid = os.fork()
            if pid == 0:
                if end == "close":
                    kept.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        with shelving(root, what="adopt") as process:
            answer = said(process)
        assert isinstance(answer, dict)

        assert answer["found"] == ["own"]
        assert kept.put("after")
        assert kept.take() == [*numbered(5), "after"]
        kept.close()

    def test_what_is_left_at_a_clean_exit_is_there_for_the_next(self, root: Path) -> None:
        """A process that ends by itself gives its folder back, and the next one need not wait."""
        with shelving(root, what="write", parcels=[numbered(5), numbered(5, "more")]) as process:
            said(process)
            tell(process, "close")
            assert process.wait(10.0) == 0

        assert Kept(root).take() == [*numbered(5), *numbered(5, "more")]

    def test_a_folder_that_a_killed_process_was_making_does_not_stay(self, root: Path) -> None:
        """One that was never shown to anybody, with nothing in it."""
        folder = orphan(root, ".1-dead")
        kept = Kept(root)
        kept.take()

        assert not folder.exists()
        kept.close()


def _sparse(folder: Path, tmp_path: Path) -> None:
    path = segment(folder, numbered(3, "hostile"), at=RECENT)
    os.truncate(path, 1 << 38)


def _pipe(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / f"{RECENT:020d}.seg")


def _link_to_data(folder: Path, tmp_path: Path) -> None:
    (folder / f"{RECENT:020d}.seg").symlink_to("/etc/passwd")


def _link_to_records(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (folder / f"{RECENT:020d}.seg").symlink_to(segment(other, ["hostile"], at=RECENT))


def _folder(folder: Path, tmp_path: Path) -> None:
    (folder / f"{RECENT:020d}.seg").mkdir()
    segment(folder, ["hostile, but good"], at=RECENT + 1)


def _heads(folder: Path, tmp_path: Path) -> None:
    # Each begins as a frame does that would reach to the end of the file.
    heads = 80_000
    (folder / f"{RECENT:020d}.seg").write_bytes(
        b"".join(struct.pack("<4sBIIII", b"\xf5oml", 2, 1, 1, 21 * (heads - one - 1), 0) for one in range(heads))
    )


def _ack_pipe(folder: Path, tmp_path: Path) -> None:
    path = folder / f"{RECENT:020d}.seg"
    path.write_bytes(b"".join(write(Parcel(b"h", (b"hostile, but good",)), key_of(path.name)) for _ in range(600)))
    os.mkfifo(path.with_suffix(".ack"))


def _ack_link(folder: Path, tmp_path: Path) -> None:
    _ack_pipe(folder, tmp_path)
    ack = folder / f"{RECENT:020d}.ack"
    ack.unlink()
    (tmp_path / "mine").write_text("notes of mine")
    ack.symlink_to(tmp_path / "mine")


def _lease_pipe(folder: Path, tmp_path: Path) -> None:
    (folder / "lease").unlink()
    os.mkfifo(folder / "lease")


def _lease_link(folder: Path, tmp_path: Path) -> None:
    (folder / "lease").unlink()
    (folder / "lease").symlink_to("/etc/passwd")


def _lease_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "lease").unlink()
    (folder / "lease").mkdir()


def _lease_missing(folder: Path, tmp_path: Path) -> None:
    (folder / "lease").unlink()
    segment(folder, ["hostile"])


def _names(folder: Path, tmp_path: Path) -> None:
    for name in ("x.seg", "9" * 40 + ".seg", "²" * 20 + ".seg", "\udcff" * 20 + ".seg", "-1.seg"):
        (folder / name).write_bytes(write(Parcel(b"h", (b"hostile, but good",)), zlib.crc32(os.fsencode(name))))


def _file(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def look_while_closing(kept: Kept) -> list[BaseException]:
    """Look and close at the same moment; return what was raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(2)
    kept.put("record")

    def look() -> None:
        start.wait()
        try:
            kept.backlog.look()
        except BaseException as error:
            errors.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    start.wait()
    kept.close()
    looking.join()
    kept.close()
    return errors


@pytest.mark.faults
class TestHostileOrphans:
    @pytest.mark.parametrize(
        "make",
        [
            _sparse, _pipe, _link_to_data, _link_to_records, _folder, _heads, _ack_pipe, _ack_link,
            _lease_pipe, _lease_link, _lease_folder, _lease_missing, _names, _file,
        ],
    )  # fmt: skip
    def test_it_costs_nobody_anything(self, make: Callable[[Path, Path], None], root: Path, tmp_path: Path) -> None:
        """What lies in a dead process's folder does not hang, is not followed, and does not keep others from anything."""
        segment(orphan(root, "2-good"), numbered(3))
        try:
            make(orphan(root, "1-hostile"), tmp_path)
        except OSError as error:
            pytest.skip(f"this system does not have such files ({error})")
        passwords = Path("/etc/passwd").read_bytes()
        with shelving(root, what="adopt") as process:
            answer = said(process, 8.0)
            errors = process.communicate(timeout=10.0)[1]
        assert isinstance(answer, dict)

        assert [name for name in answer["found"] if not name.startswith("hostile")] == [*numbered(3), "own"]
        assert answer["kept"]
        assert answer["spooled"] == 0
        assert "hostile" not in answer["found"]
        assert "Traceback" not in errors
        assert Path("/etc/passwd").read_bytes() == passwords
        if (tmp_path / "mine").exists():
            assert (tmp_path / "mine").read_text() == "notes of mine"

    @pytest.mark.skipif(not is_root, reason="only root can leave something that belongs to another user")
    def test_what_belongs_to_another_user_is_left_alone(self) -> None:
        """A folder that root left among those of a user, by `sudo` say, is passed over; everything else goes on."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name) / "spool"
            segment(orphan(root, "2-good"), numbered(3))
            path = segment(orphan(root, "1-foreign"), ["hostile"])
            for one in (Path(name), root, root / "v1", root / "v1" / HERE, *(root / "v1" / HERE / "2-good").iterdir()):
                os.chown(one, NOBODY, NOBODY)
            os.chown(root / "v1" / HERE / "2-good", NOBODY, NOBODY)
            with shelving(root, what="adopt", user=NOBODY) as process:
                answer = said(process)
            assert isinstance(answer, dict)

            assert answer["found"] == [*numbered(3), "own"]
            assert path.exists()


class TestThreads:
    def test_looking_while_it_is_being_closed_raises_nothing(self, root: Path) -> None:
        """The one who looks every minute may come at the moment in which the program ends."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            errors = [error for _ in range(200) for error in look_while_closing(Kept(root))]
        finally:
            sys.setswitchinterval(before)

        assert errors == []

    def test_one_puts_while_another_takes(self, root: Path) -> None:
        """Everything arrives once, in order, and the account is right at every moment."""
        kept, names = Kept(root, max_bytes=4 * MEGABYTE), numbered(4_000)
        random.seed(7)

        def put() -> None:
            for at in range(0, 4_000, 8):
                assert kept.put(*names[at : at + 8])

        putting = threading.Thread(target=put)
        putting.start()
        read: list[str] = []
        limit = monotonic() + 20.0
        while len(read) < 4_000 and monotonic() < limit:
            read += kept.take(loads=1)
        putting.join()

        assert read == names
        assert kept.balanced()
        assert kept.tally.account(None).delivered == 4_000
        kept.close()
