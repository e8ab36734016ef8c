"""Promises 6, 7, 8 and 11 with a spool: outages, restarts, kills and children lose nothing, and no secret lies on disk."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import pytest

import otel_ml
from otel_ml import _segment, exporters
from otel_ml.testing import FaultCollector
from tests.faults.running import PROGRAMS, Ended, run

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no spool on this system"),
]

BATCH = 512
# Seconds after which a record outlives its process.
SAFE = 0.5
SECONDS = 20.0


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """The folder of a spool, which does not exist yet."""
    return tmp_path / "spool"


def ids(collector: FaultCollector) -> list[str]:
    """Return the id of each call that has arrived, in order."""
    return [
        attribute.value.string_value
        for span in collector.spans
        for attribute in span.attributes
        if attribute.key == "ml.prediction.id"
    ]


def expected(*who: str, count: int = 100) -> list[str]:
    """Return the ids of the calls that a program records."""
    return [f"{one}-{number:05}" for one in who for number in range(count)]


def deliver(collector: FaultCollector, spool: Path, wanted: set[str], **headers: str) -> None:
    """Be the next process: a collector that answers gets what earlier ones left."""
    collector.mode = "healthy"
    telemetry = otel_ml.configure(
        exporters=[exporters.OTLP(collector.endpoint, headers=headers, spool=exporters.Spool(spool))]
    )
    try:
        telemetry.flush()
        collector.wait_for(lambda one: wanted <= set(ids(one)), SECONDS)
        assert telemetry.flush()
    finally:
        telemetry.shutdown()


def nothing_left(spool: Path) -> bool:
    """Say whether no segment is in a spool."""
    return not list(spool.glob("v1/*/*/*.seg"))


@dataclass
class Running:
    """A program at work: what it has recorded so far, and when."""

    process: "subprocess.Popen[str]"
    recorded: list[float] = field(default_factory=list[float])
    rest: list[str] = field(default_factory=list[str])

    def read(self) -> None:
        """Take note of what it says, to its end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            number, _, at = line.partition(" ")
            # A line may be torn at the end.
            if number.isdigit() and line.endswith("\n"):
                self.recorded.append(float(at))
            else:
                self.rest.append(line)

    def until(self, count: int) -> None:
        """Wait until it has recorded so many."""
        limit = monotonic() + SECONDS
        while len(self.recorded) < count:
            assert monotonic() < limit, "the program records nothing"
            assert self.process.poll() is None or len(self.recorded) >= count
            sleep(0.005)


@contextmanager
def running(
    env: dict[str, str], collector: FaultCollector, spool: Path | None, **settings: object
) -> Iterator[Running]:
    """Start a program; it is killed at the end, if it still runs."""
    asked = {"endpoint": collector.endpoint, "spool": spool and str(spool)} | settings
    command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / "spooling.py"), json.dumps(asked)]
    with subprocess.Popen(command, env=env, text=True, start_new_session=True, stdout=subprocess.PIPE) as process:
        started = Running(process)
        reader = threading.Thread(target=started.read)
        reader.start()
        try:
            yield started
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            reader.join()


def spooling(env: dict[str, str], collector: FaultCollector, spool: Path | None, **settings: object) -> Ended:
    """Run a program to its end."""
    ended = run("spooling", env, **({"endpoint": collector.endpoint, "spool": spool and str(spool)} | settings))
    assert ended.code == 0, ended.err
    return ended


class TestOutage:
    @pytest.mark.parametrize(
        ("rate", "down", "up"),
        [
            pytest.param(100, 150, 100, id="100 a second for 1.5 s"),
            pytest.param(1_000, 1_000, 500, id="1,000 a second for 1 s"),
            pytest.param(100, 6_000, 200, id="100 a second for 60 s", marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
            pytest.param(1_000, 60_000, 1_000, id="1,000 a second for 60 s", marks=[pytest.mark.slow, pytest.mark.timeout(240)]),
        ],
    )  # fmt: skip
    def test_it_loses_nothing(
        self, rate: int, down: int, up: int, spool: Path, bare_environment: dict[str, str]
    ) -> None:
        """The collector is away and comes back: every call arrives, in order, and a batch at most arrives twice."""
        with (
            FaultCollector() as collector,
            running(bare_environment, collector, spool, count=20 + down + up, rate=rate, how="shutdown") as program,
        ):
            program.until(20)
            collector.mode = "refused"
            limit = monotonic() + 2 * down / rate + SECONDS
            while len(program.recorded) < 20 + down and monotonic() < limit:
                sleep(0.01)
            collector.mode = "healthy"
            assert program.process.wait(60.0 + up / rate) == 0
            wanted = expected("call", count=20 + down + up)
            if len(ids(collector)) < len(wanted):
                deliver(collector, spool, set(wanted))

            arrived = ids(collector)
            assert sorted(set(arrived)) == wanted
            assert len(arrived) - len(wanted) <= BATCH
            assert list(dict.fromkeys(arrived)) == wanted
            assert nothing_left(spool)

    def test_the_program_that_lived_through_it_delivers_by_itself(self, spool: Path) -> None:
        """Nobody has to start it anew, and its account says so."""
        with FaultCollector("refused") as collector:
            telemetry = otel_ml.configure(
                exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(spool))], set_global=False
            )
            for _ in range(300):
                with otel_ml.predict("churn"):
                    pass
            assert not telemetry.flush(0.5)
            account = telemetry.health().exporters[0].signals["spans"]
            assert (account.created, account.queued, account.spooled, account.dropped) == (300, 0, 300, {})
            collector.mode = "healthy"
            assert collector.wait_for(lambda one: len(one.spans) >= 300, SECONDS)
            assert telemetry.flush()
            account = telemetry.health().exporters[0].signals["spans"]
            assert (account.delivered, account.spooled) == (300, 0)
            assert telemetry.shutdown()

        assert len(collector.spans) == 300
        assert list(spool.glob("v1/*/*")) == []

    def test_a_restart_in_the_middle_loses_nothing(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """One process ends while the collector is away, the next one finds it back: all arrive once, in order."""
        with FaultCollector("refused") as collector:
            spooling(bare_environment, collector, spool, who="first")
            assert ids(collector) == []
            with running(bare_environment, collector, spool, who="second", rate=100, how="shutdown") as program:
                program.until(20)
                collector.mode = "healthy"
                assert program.process.wait(SECONDS) == 0

            assert ids(collector) == expected("first", "second")
            assert nothing_left(spool)

    def test_an_acknowledgement_that_is_lost_means_twice_at_most(self, spool: Path) -> None:
        """The collector takes a batch and the answer never comes: it is sent again, and nothing else is."""
        with FaultCollector("ack_lost", times=2) as collector:
            telemetry = otel_ml.configure(
                exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(spool))], set_global=False
            )

            @otel_ml.predict(id="name")
            def score(name: str) -> str:
                return name

            wanted = expected("call", count=1_000)
            for name in wanted:
                score(name)
            assert telemetry.flush()
            telemetry.shutdown()

            arrived = ids(collector)
            assert list(dict.fromkeys(arrived)) == wanted
            assert len(arrived) - len(wanted) <= 2 * BATCH
            assert nothing_left(spool)


class TestKilled:
    def kill(
        self,
        spool: Path,
        env: dict[str, str],
        times: int,
        number: signal.Signals,
        *,
        mode: str = "refused",
        at_once: int = 6,
    ) -> None:
        """Kill programs at random moments; the next process delivers all that they had recorded half a second before."""
        chance = random.Random(times)
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            safe: list[str] = []

            def one(who: str, delay: float) -> None:
                with running(env, collector, spool, who=who, count=100_000, rate=200) as program:
                    program.until(1)
                    limit = program.recorded[0] + delay
                    while monotonic() < limit:
                        sleep(0.001)
                    killed = monotonic()
                    program.process.send_signal(number)
                    program.process.wait()
                safe.extend(f"{who}-{at:05}" for at, when in enumerate(program.recorded) if when <= killed - SAFE)

            for turn in range(0, times, at_once):
                threads = [
                    threading.Thread(target=one, args=(f"turn{turn + index}", chance.uniform(0.4, 1.5)))
                    for index in range(min(at_once, times - turn))
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            assert len(safe) > 10 * times
            deliver(collector, spool, set(safe))

            arrived = Counter(ids(collector))
            assert set(safe) - set(arrived) == set()
            assert nothing_left(spool)
            if mode == "refused":
                # Nothing was read twice, nothing was made up, and of each program a beginning has arrived.
                assert set(arrived.values()) == {1}
                for who in {name.partition("-")[0] for name in arrived}:
                    numbers = [int(name.partition("-")[2]) for name in arrived if name.startswith(f"{who}-")]
                    assert numbers == list(range(len(numbers)))

    def test_kill_9_leaves_what_was_recorded(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """Twelve programs, killed at random moments."""
        self.kill(spool, bare_environment, 12, signal.SIGKILL)

    @pytest.mark.slow
    @pytest.mark.alone
    @pytest.mark.timeout(900)
    def test_kill_9_leaves_what_was_recorded_200_times(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """Two hundred."""
        self.kill(spool, bare_environment, 200, signal.SIGKILL)

    def test_that_holds_while_the_collector_answers(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """Killed between a delivery and its note: a batch may come twice, none is missing."""
        self.kill(spool, bare_environment, 4, signal.SIGKILL, mode="healthy")

    def test_that_holds_while_the_collector_hangs(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """The thread that sends waits for an answer; another one writes."""
        self.kill(spool, bare_environment, 4, signal.SIGKILL, mode="silent")

    def test_sigterm_leaves_what_was_recorded(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """A program without a handler of its own ends at once, as ever."""
        self.kill(spool, bare_environment, 4, signal.SIGTERM)

    def test_os_exit_leaves_what_was_recorded(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """No hook of ours runs, and none has to."""
        with FaultCollector("refused") as collector:
            spooling(bare_environment, collector, spool, how="_exit")
            deliver(collector, spool, set(expected("call")))

    def test_a_torn_end_is_no_loss_of_whoever_reads_it(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """It is counted, but `flush` answers for what its own process has recorded."""
        with FaultCollector("refused") as collector:
            spooling(bare_environment, collector, spool, how="_exit")
            path = max(spool.glob("v1/traces-*/*/*.seg"))
            os.truncate(path, path.stat().st_size - 3)

            collector.mode = "healthy"
            telemetry = otel_ml.configure(exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(spool))])
            with otel_ml.predict("own"):
                pass
            assert telemetry.flush()
            spans = telemetry.health().exporters[0].signals["spans"]
            assert (spans.delivered, spans.dropped) == (101, {"spool_corrupt": 1})
            telemetry.shutdown()

            assert ids(collector) == expected("call")

    def test_an_account_of_what_was_left_is_kept(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """What an earlier process left is in the next one's account: created, then delivered."""
        with FaultCollector("refused") as collector:
            spooling(bare_environment, collector, spool, how="_exit")
            telemetry = otel_ml.configure(
                exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(spool))], set_global=False
            )
            telemetry.flush(0.1)
            limit = monotonic() + SECONDS
            while (account := telemetry.health().exporters[0].signals["spans"]).spooled < 100:
                assert monotonic() < limit
                sleep(0.01)
            assert (account.created, account.delivered, account.dropped) == (100, 0, {})
            collector.mode = "healthy"
            assert collector.wait_for(lambda one: len(one.spans) == 100, SECONDS)
            assert telemetry.flush()
            account = telemetry.health().exporters[0].signals["spans"]
            telemetry.shutdown()

            assert (account.created, account.delivered, account.spooled) == (100, 100, 0)


class TestChildren:
    @pytest.mark.parametrize(
        ("how", "children"), [("fork", 4), ("spawn", 2), ("pool", 4), ("workers", 4)]
    )  # fmt: skip
    @pytest.mark.parametrize("mode", ["refused", pytest.param("healthy", marks=pytest.mark.slow)])
    def test_they_share_a_spool_and_every_call_arrives_once(
        self, mode: str, how: str, children: int, spool: Path, bare_environment: dict[str, str]
    ) -> None:
        """Processes, pools and a server's workers beside one another, whether the collector is there or not."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            spooling(bare_environment, collector, spool, how=how, children=children, count=50)
            who = [f"call.{number}" for number in range(children)] + ([] if how == "workers" else ["call"])
            wanted = set(expected(*who, count=50))
            deliver(collector, spool, wanted)

            arrived = Counter(ids(collector))
            assert set(arrived) == wanted
            assert set(arrived.values()) == {1}
            assert nothing_left(spool)

    def test_a_child_leaves_its_parents_records_alone(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """A child of a fork writes into a folder of its own; what the parent had is sent once, by the parent."""
        with FaultCollector("refused") as collector:
            telemetry = otel_ml.configure(
                exporters=[exporters.OTLP(collector.endpoint, spool=exporters.Spool(spool))], set_global=False
            )

            @otel_ml.predict(id="name")
            def score(name: str) -> str:
                return name

            for name in expected("parent", count=30):
                score(name)
            telemetry.flush(0.3)
            before = {path: path.read_bytes() for path in spool.glob("v1/traces-*/*/*.seg")}
            pid = os.fork()
            if pid == 0:
                for name in expected("child", count=30):
                    score(name)
                otel_ml.flush(0.5)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            after = {path: path.read_bytes() for path in spool.glob("v1/traces-*/*/*.seg")}
            assert {path: data for path, data in after.items() if path in before} == before
            assert len({path.parent for path in after}) == 2

            collector.mode = "healthy"
            assert telemetry.flush()
            telemetry.shutdown()
            deliver(collector, spool, set(expected("parent", "child", count=30)))

            assert Counter(ids(collector)) == Counter(expected("parent", "child", count=30))


class TestExit:
    def end(
        self, env: dict[str, str], collector: FaultCollector, spool: Path, within: float = 2.0, **settings: object
    ) -> Path:
        """Run a program, check that it ends in time, and return its spool.

        The quickest of three: other work delays a program, but hastens none.
        """
        for turn in range(3):
            ended = spooling(env, collector, spool / str(turn), **settings)
            if ended.seconds <= within:
                break
        assert ended.seconds <= within
        return spool / str(turn)

    @pytest.mark.parametrize("mode", ["refused", "silent", pytest.param("drip", marks=pytest.mark.slow), 503])
    def test_it_is_on_time_and_everything_is_kept(
        self, mode: str, spool: Path, bare_environment: dict[str, str]
    ) -> None:
        """A collector that is away at the end: two seconds at most, and all of it is in the spool."""
        with FaultCollector(mode) as collector:  # type: ignore[arg-type]  # one of its modes
            spool = self.end(bare_environment, collector, spool)
            deliver(collector, spool, set(expected("call")))

            assert ids(collector) == expected("call")

    def test_a_shut_down_exporter_says_what_is_in_the_spool(
        self, spool: Path, bare_environment: dict[str, str]
    ) -> None:
        """Its account has everything as spooled, nothing as dropped, and the segments hold as much."""
        with FaultCollector("refused") as collector:
            account = spooling(bare_environment, collector, spool, how="shutdown").said["account"]
        assert isinstance(account, dict)
        (signals,) = account.values()

        assert signals["spans"] == [100, 0, 0, 100, {}]
        assert signals["metrics"][2:4] == [0, signals["metrics"][0]]
        held = sum(
            _segment.count(path.read_bytes(), _segment.key_of(path.name)) for path in spool.glob("v1/traces-*/*/*.seg")
        )
        assert held == 100

    def test_a_large_backlog_does_not_hold_it_up(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """A program that lives for a moment, in a spool full to its bound with what others left."""
        with FaultCollector("silent") as collector:
            spooling(bare_environment, collector, spool / "0", how="_exit", count=20)
            (path,) = spool.glob("0/v1/traces-*/*/*.seg")
            ((parcel, _), *_) = _segment.read(path.read_bytes(), _segment.key_of(path.name))
            parcels = 1024 * 1024 // parcel.size
            for number in range(60):
                full = path.with_name(f"{int(path.stem) + number + 1:020d}.seg")
                full.write_bytes(_segment.write(parcel, _segment.key_of(full.name)) * parcels)
            self.end(bare_environment, collector, spool, count=5)

    def test_disks_that_hang_do_not_hold_it_up(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """Four exporters whose disk hangs, here at a pipe that nobody reads, in the place of each acknowledgement."""
        headers = [{"tenant": str(number)} for number in range(4)]
        with (
            FaultCollector("refused") as collector,
            running(bare_environment, collector, spool, headers=headers, count=400, rate=200) as program,
        ):
            program.until(50)
            limit = monotonic() + SECONDS
            while len(segments := list(spool.glob("v1/traces-*/*/*.seg"))) < 4:
                assert monotonic() < limit
                sleep(0.01)
            for path in segments:
                os.mkfifo(path.with_suffix(".ack"))
            collector.mode = "healthy"
            program.process.wait(SECONDS)
            ended = monotonic()

        assert ended - float(program.rest[-1]) <= 2.25


class TestNone:
    @pytest.mark.parametrize("how", ["argument", "variable"])
    def test_nothing_is_written_without_a_spool(
        self, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`spool=None` or `OTEL_ML_SPOOL=none`: not a file, not a folder, during an outage and after it."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME")
        if how == "variable":
            monkeypatch.setenv("OTEL_ML_SPOOL", "none")
        with FaultCollector("refused") as collector:
            more = {"spool": None} if how == "argument" else {}
            telemetry = otel_ml.configure(exporters=[exporters.OTLP(collector.endpoint, **more)], set_global=False)  # type: ignore[arg-type]  # an option of OTLP
            for _ in range(50):
                with otel_ml.predict("churn"):
                    pass
            assert not telemetry.flush(0.3)
            assert not telemetry.shutdown(0.3)
            account = telemetry.health().exporters[0].signals["spans"]

        assert (account.spooled, account.dropped) == (0, {"shutdown": 50})
        assert [path for path in tmp_path.rglob("*") if "spool" in str(path.relative_to(tmp_path))] == []

    def test_where_it_is_by_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the state folder of the user's home; `OTEL_ML_SPOOL` puts it somewhere else."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME")
        assert exporters.Spool().root() == tmp_path / ".local" / "state" / "otel_ml" / "spool"
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        assert exporters.Spool().root() == tmp_path / "state" / "otel_ml" / "spool"
        monkeypatch.setenv("OTEL_ML_SPOOL", str(tmp_path / "other"))
        assert exporters.Spool().root() == tmp_path / "other"
        assert exporters.Spool(tmp_path / "given").root() == tmp_path / "given"


class TestSecrets:
    def test_no_secret_is_on_disk(self, spool: Path, bare_environment: dict[str, str], tmp_path: Path) -> None:
        """Neither header values, userinfo, query, arguments nor exceptions: in no byte and no name of the spool."""
        secrets = [f"c4nary{number:03}s3cret" for number in range(70)]
        header, token, user, password, query = secrets[60:65]
        public = "sh0wn"
        with FaultCollector("refused") as collector:
            host = collector.endpoint.removeprefix("http://")
            ended = run(
                "secretive", bare_environment | {"OTEL_ML_SPOOL": str(spool)}, secrets=secrets, data=60, header=header,
                token=token, store=str(tmp_path / "store.db"), log=str(tmp_path / "debug.log"), public=public,
                endpoints=[collector.endpoint, f"http://{user}:{password}@{host}/?key={query}"],
            )  # fmt: skip
        assert ended.code == 0, ended.err
        paths = [spool, *spool.rglob("*")]
        names = "\n".join(map(str, paths)).encode()
        content = b"".join(path.read_bytes() for path in paths if path.is_file())

        # Without what may be shown there, this would prove nothing.
        assert public.encode() in content
        assert [one for one in secrets if one.encode() in content + names] == []
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}

    def test_tenants_never_get_each_others_records(self, spool: Path, bare_environment: dict[str, str]) -> None:
        """Two headers, one endpoint, one spool: what one process left goes out with its own header only."""
        with FaultCollector("refused") as collector:
            for tenant in ("a", "b"):
                spooling(bare_environment, collector, spool, who=tenant, headers=[{"tenant": tenant}], count=20)
            deliver(collector, spool, set(expected("a", count=20)), tenant="a")
            assert set(ids(collector)) == set(expected("a", count=20))
            deliver(collector, spool, set(expected("b", count=20)), tenant="b")

            assert len(ids(collector)) == 40
            for request in collector.requests:
                for span in request.spans:
                    (name,) = [one.value.string_value for one in span.attributes if one.key == "ml.prediction.id"]
                    assert request.headers["tenant"] == name.partition("-")[0]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"headers": {"tenant": "a"}}, {"headers": {"tenant": "b"}}),
            ({"endpoint": "http://a:x@127.0.0.1:1"}, {"endpoint": "http://b:x@127.0.0.1:1"}),
            ({"endpoint": "http://127.0.0.1:1/?key=a"}, {"endpoint": "http://127.0.0.1:1/?key=b"}),
            ({"endpoint": "http://127.0.0.1:1/a"}, {"endpoint": "http://127.0.0.1:1/b"}),
            ({"protocol": "grpc"}, {"protocol": "http/protobuf"}),
            ({"client_certificate": "a.pem"}, {"client_certificate": "b.pem"}),
        ],
        ids=["headers", "userinfo", "query", "path", "protocol", "certificate"],
    )
    def test_what_makes_a_destination(self, one: dict[str, object], other: dict[str, object], tmp_path: Path) -> None:
        """Whatever tells two tenants apart at the other side keeps their records apart on disk."""
        places = []
        for given in (one, other):
            asked = {
                "endpoint": "https://127.0.0.1:1" if "client_certificate" in given else "http://127.0.0.1:1"
            } | given
            for name in ("client_certificate",):
                if name in asked:
                    asked[name] = str(certificate(tmp_path, str(asked[name])))
            places.append(exporters.OTLP(**asked).build(otel_resource()).spans.destination)  # type: ignore[arg-type, union-attr]  # options of each case

        assert places[0] != places[1]


def otel_resource() -> object:
    """Return the resource of nobody in particular."""
    from opentelemetry.sdk.resources import Resource

    return Resource({})


def certificate(folder: Path, name: str) -> Path:
    """Make a certificate with its key in one file, as some like it."""
    path = folder / name
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", str(path), "-out", f"{path}.crt", "-subj", f"/CN={name}", "-days", "2"]  # fmt: skip
    try:
        made = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        message = "openssl is not installed. Type: apt-get install openssl"
        (pytest.fail if os.environ.get("OTEL_ML_REQUIRE_LIVE") == "1" else pytest.skip)(message)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path
