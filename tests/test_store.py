"""The local store: nothing is lost in it, it stays within its bounds, and it never touches a file that is not its own."""

import math
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_ml import _catalog as names
from otel_ml import _store_rows as rows
from otel_ml._store import Store
from otel_ml._store_json import decode, decode_number, encode, encode_number
from otel_ml._store_read import Records
from otel_ml._store_schema import APPLICATION_ID, VERSION
from otel_ml.errors import ConfigurationError
from tests.stopwatch import stopwatch
from tests.store_records import RESOURCE, Meter, Recorder, calls, emitted, event, gauge, steps

ROOT = Path(__file__).parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / ".otel_ml" / "telemetry.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A new store."""
    made = Store(path)
    yield made
    made.close()


@pytest.fixture
def memory() -> Iterator[sqlite3.Connection]:
    """A database in memory."""
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


opened: list[Records] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever was opened to be read is closed."""
    yield
    while opened:
        opened.pop().close()


def read(path: Path) -> Records:
    """Open a store to read from it, until the end of the test."""
    opened.append(Store.open_read(path))
    return opened[-1]


def sql(path: Path, *statements: str) -> list[Any]:
    """Do something to a file behind the store's back; return what the last statement finds."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return [connection.execute(statement).fetchall() for statement in statements][-1]
    finally:
        connection.close()


def size(path: Path) -> int:
    """The bytes of the file and its log."""
    return sum(Path(f"{path}{end}").stat().st_size for end in ("", "-wal") if Path(f"{path}{end}").exists())


def sound(path: Path) -> bool:
    """Say whether SQLite finds nothing wrong with the file."""
    return sql(path, "PRAGMA integrity_check") == [("ok",)]


def fill(store: Store, *, padding: str = "", patience: float = 1.0) -> None:
    """Write 60 batches of 200 spans."""
    for _ in range(60):
        store.write_spans(calls(200, padding=padding), patience=patience)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.005)
    return False


def python(code: str, *args: object, **more: Any) -> "subprocess.Popen[str]":
    """Start a program of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **more,
    )


# ------------------------------------------------------------------------------------------------ what goes in comes out
awkward = st.sampled_from(
    [math.nan, math.inf, -math.inf, -0.0, 5e-324, 2**70, -(2**70), 10**1000, "\ud800", "\ud83d\ude00", "a\0b", "{", '"', "\u2028", b"\xff"]
)  # fmt: skip
keys = st.text() | st.sampled_from(["$f", "$b", "$i", "$s", "$m", "$", "\udfff", ""])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | awkward,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


class TestValues:
    @given(anything)
    @settings(max_examples=500)
    def test_json_loses_nothing(self, value: Any) -> None:
        """Whatever OpenTelemetry allows comes back as it was: types, signs, NaN, bytes, lone surrogates, odd keys."""
        assert repr(decode(encode(value))) == repr(value)

    @given(anything)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_json_is_what_sqlite_and_others_can_read(self, memory: sqlite3.Connection, value: Any) -> None:
        """The text is JSON to the letter: no NaN, and nothing that cannot be encoded."""
        text = encode(value)

        assert text.encode()
        assert memory.execute("SELECT json_valid(?)", (text,)).fetchone() == (1,)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers() | st.floats() | st.sampled_from([2**63, -(2**63), 2**70, -(2**70)]))
    def test_numbers_survive_a_column(self, memory: sqlite3.Connection, value: float) -> None:
        """NaN, infinities, the sign of zero and integers of any size come back from SQLite as they were."""
        memory.execute("DROP TABLE IF EXISTS t")
        memory.execute("CREATE TABLE t (v)")
        memory.execute("INSERT INTO t VALUES (?)", (encode_number(value),))

        found = decode_number(memory.execute("SELECT v FROM t").fetchone()[0])

        assert repr(found) == repr(value)

    def test_integers_that_python_would_not_write_out(self) -> None:
        """An integer of more digits than Python turns into text is kept too."""
        assert decode(encode({"n": [10**5000, -(10**5000)]})) == {"n": (10**5000, -(10**5000))}

    def test_what_is_nested_too_deeply_is_refused(self) -> None:
        """A circle is an error, not an endless text."""
        circle: list[Any] = [math.nan]
        circle.append(circle)

        with pytest.raises(ValueError, match="deep"):
            encode(circle)


class TestSpans:
    def test_a_span_comes_back_whole(self, store: Store) -> None:
        """Every field that the SDK recorded is there: ids, parent, state, status, attributes, events, links, origin."""
        recorder = Recorder()
        linked = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")]))
        attributes = {names.MODEL: "churn", "nan": math.nan, "raw": b"\x00", "deep": {"$f": ["x", None, -0.0]}}
        with recorder.tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            inner = recorder.tracer.start_span(
                "predict churn", attributes=attributes, links=[Link(linked, {"why": "k"})]
            )
            inner.add_event("something", {"n": 1}, timestamp=5)
            inner.set_status(Status(StatusCode.ERROR, "it \u00e4ches"))
            inner.end()
        first, second = recorder.take()

        assert store.write_spans([first, second]) == 0
        found, parent = read(store.path).spans()

        context = first.context
        assert context is not None
        assert found.trace_id == f"{context.trace_id:032x}"
        assert found.span_id == f"{context.span_id:016x}"
        assert found.parent_id == f"{outer.get_span_context().span_id:016x}" == parent.span_id
        assert (found.name, found.model, found.kind, parent.kind) == ("predict churn", "churn", "INTERNAL", "SERVER")
        assert (found.start_ns, found.end_ns) == (first.start_time, first.end_time)
        assert found.duration == pytest.approx((first.end_time - first.start_time) / 1e9)
        assert (found.status, found.description, parent.status) == ("ERROR", "it \u00e4ches", "UNSET")
        assert found.flags == int(context.trace_flags)
        assert repr(found.attributes) == repr(dict(first.attributes or {}))
        assert math.isnan(found.attributes["nan"])
        assert [(e.name, e.time_ns, e.attributes) for e in found.events] == [("something", 5, {"n": 1})]
        assert [(k.trace_id, k.span_id, k.attributes) for k in found.links] == [
            (f"{7:032x}", f"{8:016x}", {"why": "k"})
        ]
        assert found.origin.resource == dict(RESOURCE.attributes)
        assert (found.origin.scope, found.origin.scope_version) == ("tests", "1.0")
        assert found.origin.scope_attributes == {"team": "a"}
        assert found.dropped == (0, 0, 0)

    def test_dropped_counts_and_trace_state_are_kept(self, store: Store) -> None:
        """What the SDK's limits took away is on record."""
        recorder = Recorder()
        span = recorder.tracer.start_span("s", attributes={f"a{n}": n for n in range(130)})
        for n in range(130):
            span.add_event(str(n))
        span.end()
        (made,) = recorder.take()

        store.write_spans([made])
        (found,) = read(store.path).spans()

        assert found.dropped == (2, 2, 0)
        assert (len(found.attributes), len(found.events)) == (128, 128)

    def test_filters(self, store: Store) -> None:
        """Spans can be asked for by name, model, time, and from where one has got to."""
        store.write_spans(calls(3, model="a"))
        store.write_spans(calls(2, model="b"))
        records = read(store.path)

        everything = list(records.spans())
        assert [s.model for s in everything] == ["a", "a", "a", "b", "b"]
        assert [s.model for s in records.spans(model="b")] == ["b", "b"]
        assert [s.name for s in records.spans("predict a")] == ["predict a"] * 3
        assert list(records.spans(since=everything[-1].start_ns / 1e9 + 60)) == []
        assert len(list(records.spans(since=everything[0].start_ns / 1e9 - 60))) == 5
        assert [s.id for s in records.spans(after=everything[3].id)] == [everything[4].id]
        assert records.counts() == {"spans": 5, "events": 0, "points": 0}

    def test_a_shared_dict_is_not_confused_with_its_successor(self, store: Store) -> None:
        """Attributes are encoded once for an object, but never for another that got the same address later."""
        for n in range(50):
            store.write_spans(calls(20, number_of_batch=n))

        found = [s.attributes["number_of_batch"] for s in read(store.path).spans()]
        assert found == [n for n in range(50) for _ in range(20)]

    def test_attributes_made_on_demand_are_not_confused(self, store: Store) -> None:
        """Somebody's own span may make its attributes anew each time they are asked for."""

        class Foreign:
            def __init__(self, span: Any) -> None:
                self.span = span

            def __getattr__(self, name: str) -> Any:
                if name.startswith("_"):
                    raise AttributeError(name)
                return getattr(self.span, name)

            @property
            def attributes(self) -> dict[str, Any]:
                return dict(self.span.attributes)

        foreign: list[Any] = [Foreign(span) for span in calls(200)]

        assert store.write_spans(foreign) == 0
        assert [s.attributes["number"] for s in read(store.path).spans()] == list(range(200))

    def test_one_bad_span_costs_one_span(self, store: Store) -> None:
        """What cannot be read or stored is refused and counted; the others stay, in their order."""
        spans: list[Any] = calls(9)
        spans[2] = object()
        spans[4]._start_time = 2**80
        spans[6]._context = None

        assert store.write_spans(spans) == 3
        assert [s.attributes["number"] for s in read(store.path).spans()] == [0, 1, 3, 5, 7, 8]

    def test_names_of_any_kind_are_kept_as_text(self, store: Store) -> None:
        """A lone surrogate or a number for a name costs nothing."""
        spans: list[Any] = calls(3)
        spans[0]._name, spans[1]._name, spans[2]._name = "a\ud800", 7, object()

        assert store.write_spans(spans) == 0
        assert [s.name for s in read(store.path).spans()] == ["a?", "7", "<object>"]

    @given(st.dictionaries(st.text(min_size=1), anything, max_size=5))
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_hostile_attributes_survive_the_file(self, store: Store, attributes: dict[str, Any]) -> None:
        """What the SDK lets pass is what is read back, whatever it is."""
        recorder = Recorder()
        recorder.tracer.start_span("s", attributes=attributes).end()
        (span,) = recorder.take()

        assert store.write_spans([span]) == 0
        *_, found = read(store.path).spans()
        assert repr(found.attributes) == repr(dict(span.attributes or {}))


class TestEvents:
    def test_an_event_comes_back_whole(self, store: Store) -> None:
        """Time, name, severity, body, attributes, trace and origin are as they were."""
        recorder = Recorder()
        with recorder.tracer.start_as_current_span("s") as span:
            made = emitted(
                event_name="x", body={"n": (1, b"raw")}, attributes={"a": 1}, timestamp=5, observed_timestamp=6
            )
        context = span.get_span_context()

        assert store.write_events([made]) == 0
        (found,) = read(store.path).events()

        assert (found.name, found.time_ns, found.observed_ns) == ("x", 5, 6)
        assert (found.body, found.attributes) == ({"n": (1, b"raw")}, {"a": 1})
        assert (found.trace_id, found.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
        assert found.origin.resource == dict(RESOURCE.attributes)

    def test_a_run_is_read_in_the_order_it_was_logged(self, store: Store) -> None:
        """Two runs that log in turn are told apart, and each keeps its order, NaN included."""
        for step in range(0, 3000, 100):
            store.write_events(steps(100, run="a", first=step, loss=math.nan))
            store.write_events(steps(100, run="b", first=step, loss=0.5))
        records = read(store.path)

        found = list(records.events(run="a"))
        assert [e.attributes[names.STEP] for e in found] == list(range(3000))
        assert all(math.isnan(e.attributes["ml.training.value.loss"]) for e in found)
        assert len(list(records.events("ml.training.step.completed"))) == 6000
        assert list(records.events("other")) == []

    def test_a_log_without_name_trace_or_time(self, store: Store) -> None:
        """A plain log record is kept too."""
        store.write_events([event("", time=None), emitted(body="hello")])

        nameless, plain = read(store.path).events()
        assert (nameless.name, nameless.trace_id, nameless.run) == ("", None, None)
        assert (plain.body, plain.trace_id) == ("hello", None)

    def test_one_bad_event_costs_one_event(self, store: Store) -> None:
        """What cannot be stored is refused and counted."""
        records: list[Any] = steps(5)
        records[1] = None
        records[3].log_record.timestamp = 2**99

        assert store.write_events(records) == 2
        assert [e.attributes[names.STEP] for e in read(store.path).events()] == [0, 2, 4]


class TestMetrics:
    def test_every_kind_of_point_comes_back(self, store: Store) -> None:
        """Sums, gauges, explicit and exponential histograms are as the SDK collected them."""
        meter = Meter()
        meter.calls.add(3, {"model": "a"})
        meter.active.add(-2)
        meter.loss.set(-0.5)
        for value in (0.05, 0.5, 5.0):
            meter.took.record(value)
            meter.sizes.record(value)

        assert store.write_metrics(meter.read()) == 0
        found = {point.name: point for point in read(store.path).metrics()}

        total = found["calls"]
        assert (total.kind, total.unit, total.description, total.temporality) == (
            "sum",
            "{call}",
            "How many.",
            "cumulative",
        )
        assert (total.value, total.monotonic, total.attributes) == (3, True, {"model": "a"})
        assert (found["active"].value, found["active"].monotonic) == (-2, False)
        assert (found["loss"].kind, found["loss"].value, found["loss"].temporality) == ("gauge", -0.5, "")
        took = found["took"]
        assert (took.count, took.sum, took.min, took.max) == (3, pytest.approx(5.55), 0.05, 5.0)
        assert (took.bounds, took.buckets) == ((0.1, 1.0), (1, 1, 1))
        sizes = found["sizes"]
        assert sizes.kind == "exponential_histogram"
        assert isinstance(sizes.buckets, dict)
        assert sum(sizes.buckets["positive"][1]) == 3
        assert total.origin.resource == dict(RESOURCE.attributes)
        assert total.origin.scope == "tests"

    def test_numbers_that_sqlite_has_no_word_for(self, store: Store) -> None:
        """NaN, infinities and integers beyond 64 bits are values like others."""
        values = [math.nan, math.inf, -math.inf, 2**70, -0.0, 1]

        assert store.write_metrics(gauge("odd", values)) == 0
        assert repr([point.value for point in read(store.path).metrics("odd")]) == repr(values)

    def test_one_bad_point_costs_one_point(self, store: Store) -> None:
        """A value that is no number is refused and counted."""
        assert store.write_metrics(gauge("odd", [1, "two", 3])) == 1
        assert [point.value for point in read(store.path).metrics()] == [1, 3]

    def test_the_latest_of_each_series(self, store: Store) -> None:
        """Of cumulative points, the last of each series says everything."""
        meter = Meter()
        for _ in range(5):
            meter.calls.add(1, {"model": "a"})
            meter.calls.add(2, {"model": "b"})
            store.write_metrics(meter.read())
        records = read(store.path)

        assert {p.attributes["model"]: p.value for p in records.latest("calls")} == {"a": 5, "b": 10}
        assert len(list(records.metrics("calls"))) == 10
        assert len({point.series for point in records.metrics("calls")}) == 2

    def test_what_repeats_is_stored_once(self, store: Store) -> None:
        """A series' name, unit and attributes are one row, however many points it has, and so is its origin."""
        meter = Meter()
        for _ in range(20):
            meter.calls.add(1, {"model": "a"})
            store.write_metrics(meter.read())

        assert sql(store.path, "SELECT count(*) FROM series") == [(1,)]
        assert sql(store.path, "SELECT count(*) FROM origin") == [(1,)]


# ------------------------------------------------------------------------------------------------ bounds
class TestBounds:
    BOUND = 2_000_000

    def test_the_size_is_kept_while_writing_far_more(self, path: Path) -> None:
        """File and log stay within the bound at every moment; the newest are there; nobody else's rows pay for them."""
        store = Store(path, max_bytes=self.BOUND)
        store.write_events(steps(50))
        largest = 0
        for number in range(40):
            assert store.write_spans(calls(400, padding="x" * 300, batch=number)) == 0
            largest = max(largest, size(path))
        records = read(path)

        assert largest <= self.BOUND * 1.25
        assert size(path) > self.BOUND / 2
        batches = [span.attributes["batch"] for span in records.spans()]
        assert batches[-400:] == [39] * 400
        assert batches == sorted(batches)
        assert 400 <= len(batches) < 16_000
        assert len(list(records.events())) == 50
        store.close()

    def test_large_records_keep_the_bound_too(self, path: Path) -> None:
        """Batches of records of 20 kB each; and one that is larger than a sixteenth of the bound is refused."""
        store = Store(path, max_bytes=self.BOUND)
        largest = 0
        for number in range(10):
            padded = steps(60, first=number * 60, text="x" * 20_000)
            assert store.write_events(padded) == 0
            largest = max(largest, size(path))

        assert largest <= self.BOUND * 1.25
        assert store.write_events(steps(1, text="x" * (self.BOUND // 16))) == 1
        assert [e.attributes[names.STEP] for e in read(path).events()][-1] == 599
        store.close()

    def test_series_without_end_are_bounded(self, path: Path) -> None:
        """Even where every point has attributes of its own, the store stays within its bytes."""
        store = Store(path, max_bytes=1_000_000)
        for number in range(40):
            meter = Meter()
            for one in range(100):
                meter.calls.add(1, {"text": f"{number}-{one}-" + "x" * 200})
            store.write_metrics(meter.read())

            assert size(path) <= 1_250_000
        assert len(list(read(path).metrics())) >= 100
        store.close()

    def test_a_smaller_bound_makes_the_file_smaller(self, path: Path) -> None:
        """Given less room than before, the file gives back what it has."""
        with_room = Store(path, max_bytes=8_000_000)
        for _ in range(8):
            with_room.write_spans(calls(1000, padding="x" * 500))
        with_room.close()
        assert size(path) > 4_000_000

        store = Store(path, max_bytes=self.BOUND)
        store.write_spans(calls(1, last=True))
        store.close()

        assert size(path) <= self.BOUND
        assert list(read(path).spans())[-1].attributes["last"] is True

    def test_what_is_too_old_goes(self, path: Path) -> None:
        """Rows written longer than `max_age` ago are deleted once the store is opened, with what only they referred to."""
        store = Store(path)
        meter = Meter()
        meter.calls.add(1)
        store.write_spans(calls(5000, age="old"))
        store.write_events(steps(10, run="old"))
        store.write_metrics(meter.read())
        store.close()
        for table, column in (
            ("span", "stored"),
            ("event", "stored"),
            ("point", "stored"),
            ("series", "seen"),
            ("origin", "seen"),
        ):
            sql(path, f"UPDATE {table} SET {column} = {column} - 3600")
        kept = Store(path, max_age=7200)
        kept.write_spans(calls(5, age="new"))
        kept.close()
        assert read(path).counts() == {"spans": 5005, "events": 10, "points": 1}

        younger = Store(path, max_age=1800)

        def tidied() -> bool:
            # A write does not delete for longer than it may take; the next one goes on.
            younger.write_events(steps(1, run="new"))
            return sql(path, "SELECT count(*) FROM series") == [(0,)]

        assert eventually(tidied)
        younger.close()
        records = read(path)
        assert (records.counts()["spans"], records.counts()["points"]) == (5, 0)
        assert {s.attributes["age"] for s in records.spans()} == {"new"}
        assert {e.run for e in records.events()} == {"new"}
        assert {e.origin.scope for e in records.events()} == {"tests"}

    def test_a_replay_of_the_past_is_not_old(self, path: Path) -> None:
        """Age is counted from the writing: events of 2013, replayed now, stay."""
        store = Store(path, max_age=3600)
        store.write_events([event("day", time=1_365_000_000_000_000_000)])
        store.close()
        again = Store(path, max_age=3600)
        again.write_events([event("day", time=1_366_000_000_000_000_000)])

        assert len(list(read(path).events("day"))) == 2
        again.close()

    def test_a_reader_that_stays_cannot_make_the_log_grow_without_bound(self, path: Path) -> None:
        """While somebody keeps a transaction open, writing goes on until the log is as long as it may be, then waits."""
        store = Store(path, max_bytes=self.BOUND)
        store.write_spans(calls(10))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM span").fetchone()
        with pytest.raises(BlockingIOError, match="being read"):
            fill(store, padding="x" * 300, patience=0.05)
        assert size(path) <= self.BOUND * 1.25

        reader.execute("COMMIT")
        reader.close()
        assert store.write_spans(calls(1, last=True)) == 0
        assert list(read(path).spans())[-1].attributes["last"] is True
        store.close()

    def test_iterating_slowly_does_not_hold_writers_up(self, path: Path) -> None:
        """Our own reader keeps nothing open between two portions, so the log begins anew meanwhile."""
        store = Store(path, max_bytes=self.BOUND)
        store.write_spans(calls(1500))
        spans = read(path).spans()
        next(spans)
        for _ in range(30):
            store.write_spans(calls(200, padding="x" * 300), patience=0.05)

        assert size(path) <= self.BOUND * 1.25
        assert sum(1 for _ in spans) > 0
        store.close()


# ------------------------------------------------------------------------------------------------ several at once
WRITER = """
import sys
from pathlib import Path
from otel_ml._store import Store
from tests.store_records import steps
store = Store(Path(sys.argv[1]))
for first in range(0, int(sys.argv[3]), 100):
    store.write_events(steps(100, run=sys.argv[2], first=first), patience=20.0)
    print(first, flush=True)
store.close()
"""


BUSY = """
import sys
from pathlib import Path
from otel_ml._store import Store
from tests.store_records import steps
store, events = Store(Path(sys.argv[1])), steps(512)
store.write_events(events, patience=20.0)
print("written", flush=True)
while True:
    store.write_events(events, patience=20.0)
"""


class TestTogether:
    def test_a_busy_writer_lets_others_in(self, path: Path) -> None:
        """Beside a program that writes without a pause, sixty begin to write, and each is done in a second."""
        busy = python(BUSY, path)
        try:
            assert busy.stdout is not None
            assert busy.stdout.readline() == "written\n"
            for number in range(60):
                store = Store(path)
                assert store.write_events(steps(1, run=f"other-{number}"), patience=1.0) == 0
                store.close()
        finally:
            busy.kill()
            busy.communicate()
        records = read(path)
        assert all(len(list(records.events(run=f"other-{number}"))) == 1 for number in range(60))

    def test_several_processes_write_one_store(self, path: Path) -> None:
        """Two programs that begin at the same moment both make it, and neither loses nor reorders anything."""
        programs = [python(WRITER, path, run, 3000) for run in "ab"]
        for program in programs:
            _, said = program.communicate(timeout=60)
            assert program.returncode == 0, said

        records = read(path)
        for run in "ab":
            assert [e.attributes[names.STEP] for e in records.events(run=run)] == list(range(3000))
        assert sound(path)

    def test_several_threads_write_one_store(self, store: Store) -> None:
        """Threads take turns; every record is there."""
        spans, events = calls(50), steps(50)

        def work(number: int) -> None:
            for _ in range(20):
                store.write_spans(spans) if number % 2 else store.write_events(events)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert read(store.path).counts() == {"spans": 2000, "events": 2000, "points": 0}

    def test_it_can_be_read_while_it_is_written(self, path: Path) -> None:
        """A reader sees whole batches, and with `after` only what is new."""
        program = python(WRITER, path, "a", 2000)
        assert eventually(lambda: path.exists() and bool(path.stat().st_size))
        seen = 0
        last = 0
        while seen < 2000:
            with read(path) as records:
                for record in records.events(after=last):
                    last, seen = record.id, seen + 1
            assert seen % 100 == 0
            assert program.poll() in (None, 0)
        program.communicate(timeout=20)

    def test_a_locked_store_is_an_error_after_the_patience(self, store: Store) -> None:
        """Somebody who keeps the store locked is waited for, not for ever; then everything goes on."""
        store.write_spans(calls(1))
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with stopwatch() as took, pytest.raises(sqlite3.OperationalError, match="locked"):
            store.write_spans(calls(1), patience=0.2)
        assert took.elapsed >= 0.15
        assert took.seconds < 2.0

        other.execute("COMMIT")
        other.close()
        assert store.write_spans(calls(1)) == 0
        assert read(store.path).counts()["spans"] == 2

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such signals")
    def test_a_write_within_a_write_is_put_off(self, store: Store) -> None:
        """A signal handler that writes while its own thread is writing gets an error, and harms neither."""
        refused: list[BaseException] = []
        done: list[int] = []

        def handler(*_: object) -> None:
            try:
                done.append(store.write_events(one, patience=0.1))
            except BlockingIOError as error:
                refused.append(error)

        one, spans = steps(1), calls(500)
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        until = time.monotonic() + 20
        written = 0
        try:
            while not refused and time.monotonic() < until:
                written += len(spans) - store.write_spans(spans)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

        assert refused
        assert read(store.path).counts() == {"spans": written, "events": len(done), "points": 0}

    def test_sqlite3_as_others_have_patched_it_is_not_used(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An instrumentation that replaces `sqlite3.connect` does not see the store at work."""

        def connect(*args: object, **kwargs: object) -> None:
            raise AssertionError("watched ourselves")

        monkeypatch.setattr(sqlite3, "connect", connect)
        monkeypatch.setattr(sqlite3.dbapi2, "connect", connect)
        store = Store(path)

        assert store.write_spans(calls(1)) == 0
        assert len(list(read(path).spans())) == 1
        store.close()

    def test_a_store_that_is_deleted_is_made_anew(self, store: Store) -> None:
        """Whoever removes the folder while a program runs loses the past, not the future."""
        store.write_spans(calls(3))
        shutil.rmtree(store.path.parent)

        assert store.write_spans(calls(2)) == 0
        assert read(store.path).counts()["spans"] == 2

    def test_writing_goes_on_after_closing(self, store: Store) -> None:
        """`close` brings everything into the one file; the next write opens it again."""
        store.write_spans(calls(3))
        store.close()

        assert not Path(f"{store.path}-wal").exists()
        store.write_spans(calls(1))
        assert read(store.path).counts()["spans"] == 4


# ------------------------------------------------------------------------------------------------ kill and fork
@pytest.mark.faults
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("after", [0, 7, 15, 31])
def test_a_killed_writer_leaves_a_readable_store(path: Path, after: int) -> None:
    """A writer that is killed in mid-write: the file is sound, and everything acknowledged before is in it, in order, without gaps."""
    program = python(WRITER, path, "a", 10**7)
    assert program.stdout is not None
    said = 0
    for line in program.stdout:
        said = int(line)
        if said >= after * 100:
            break
    os.kill(program.pid, signal.SIGKILL)
    rest, _ = program.communicate(timeout=20)
    said = max([said, *map(int, rest.split())])

    found = [e.attributes[names.STEP] for e in read(path).events(run="a")]

    assert sound(path)
    assert found == list(range(len(found)))
    assert len(found) >= said + 100
    store = Store(path)
    assert store.write_spans(calls(1)) == 0
    store.close()


FORKS = """
import os, sys, threading, time
from pathlib import Path
from otel_ml._store import Store
from tests.store_records import steps
store = Store(Path(sys.argv[1]))
store.write_events(steps(1, run="first"))
done = threading.Event()
def work():
    first = 0
    while not done.is_set():
        store.write_events(steps(20, run="parent", first=first), patience=20.0)
        first += 20
    print("parent", first)
thread = threading.Thread(target=work)
thread.start()
for number in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        inherited = [fd for fd in os.listdir("/proc/self/fd") if "telemetry.db" in os.path.realpath(f"/proc/self/fd/{fd}")]
        store.write_events(steps(5, run=f"child-{number}"), patience=20.0)
        del work, thread
        store.close()
        del store
        import gc; gc.collect()
        still = [fd for fd in inherited if os.path.exists(f"/proc/self/fd/{fd}")]
        sys.exit(0 if still == inherited and inherited else 3)
    until = time.monotonic() + 30
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(child, 9)
            sys.exit("a child hung")
        time.sleep(0.002)
    if status:
        done.set()
        sys.exit(f"a child failed: {status}")
done.set()
thread.join()
store.close()
"""


@pytest.mark.faults
@needs_fork
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
def test_forked_children_write_and_leave_the_parents_store_alone(path: Path) -> None:
    """Forks in mid-write: no child hangs, each writes on a connection of its own, and ends without closing the other.

    The children end as programs do, interpreter and all; the parent writes on, and everything is there afterwards.
    """
    program = python(FORKS, path, 20)
    said, errors = program.communicate(timeout=100)

    assert program.returncode == 0, errors
    written = int(said.split()[-1])
    records = read(path)
    assert [e.attributes[names.STEP] for e in records.events(run="parent")] == list(range(written))
    for number in range(20):
        assert [e.attributes[names.STEP] for e in records.events(run=f"child-{number}")] == list(range(5))
    assert sound(path)


UNTOLD = """
import ctypes, os, sys, threading
from pathlib import Path
from otel_ml._store import Store
from tests.store_records import steps
store = Store(Path(sys.argv[1]))
store.write_events(steps(5, run="parent"))
taken, leave = threading.Event(), threading.Event()
def hold():
    with store._turn:
        taken.set()
        leave.wait()
thread = threading.Thread(target=hold)
thread.start()
taken.wait()
child = ctypes.CDLL(None).fork()
if not child:
    store.write_events(steps(5, run="child"))
    os._exit(0)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
store.write_events(steps(5, run="parent", first=5))
store.close()
sys.exit(status)
"""


@pytest.mark.faults
@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="forks through the C library")
def test_a_fork_that_python_is_not_told_of(path: Path) -> None:
    """A server written in C forks without Python's hooks, perhaps while a thread writes: the child notices by itself."""
    program = python(UNTOLD, path)
    _, errors = program.communicate(timeout=60)

    assert program.returncode == 0, errors
    records = read(path)
    assert [e.attributes[names.STEP] for e in records.events(run="parent")] == list(range(10))
    assert [e.attributes[names.STEP] for e in records.events(run="child")] == list(range(5))


# ------------------------------------------------------------------------------------------------ files
def foreign_text(path: Path) -> None:
    """Somebody's notes."""
    path.write_text("my notes, dear to me\n" * 20)


def foreign_database(path: Path) -> None:
    """Somebody else's database, in the mode that a store has too."""
    sql(path, "PRAGMA journal_mode = WAL", "PRAGMA application_id = 77", "CREATE TABLE span (mine)")


def unnamed_database(path: Path) -> None:
    """A database that says nothing of whose it is."""
    sql(path, "CREATE TABLE t (mine)")


def newer(path: Path) -> None:
    """A store of a version to come."""
    written(path)
    sql(path, f"PRAGMA user_version = {VERSION + 1}")


def truncated(path: Path) -> None:
    """A store whose second half is missing."""
    written(path)
    os.truncate(path, path.stat().st_size // 2)


def scribbled(path: Path) -> None:
    """A store with nonsense in the middle."""
    written(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def beheaded(path: Path) -> None:
    """A store without its tables."""
    written(path)
    sql(path, "DROP TABLE origin")


def written(path: Path) -> None:
    """A store with something in it."""
    store = Store(path)
    store.write_spans(calls(400))
    store.close()


class TestFiles:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (foreign_text, "not a store of otel_ml"),
            (foreign_database, "not a store of otel_ml"),
            (unnamed_database, "not a store of otel_ml"),
            (newer, "newer otel_ml"),
            (truncated, "damaged"),
            (scribbled, "damaged"),
            (beheaded, "damaged"),
        ],
    )
    def test_a_file_that_cannot_be_used_is_left_as_it_is(
        self, path: Path, make: Callable[[Path], None], says: str
    ) -> None:
        """Opened to write or to read: one clear error of two sentences, and not a byte of the file is changed."""
        path.parent.mkdir(parents=True)
        make(path)
        before = path.read_bytes()
        beside = set(path.parent.iterdir())

        store = Store(path)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=says) as raised:
                store.write_spans(calls(300))
        store.close()
        with pytest.raises(ConfigurationError, match=says):
            list(read(path).spans())

        assert str(path) in str(raised.value)
        assert str(raised.value).count(". ") >= 1
        assert path.read_bytes() == before
        if "damaged" not in says:
            assert set(path.parent.iterdir()) == beside

    def test_an_empty_file_is_a_store_not_begun(self, path: Path) -> None:
        """A program that was killed before its first transaction leaves an empty file, which is as good as none."""
        path.parent.mkdir()
        path.touch()
        with pytest.raises(ConfigurationError, match="empty"):
            read(path)
        store = Store(path)

        assert store.write_spans(calls(1)) == 0
        store.close()

    def test_a_missing_store_says_what_to_type(self, path: Path) -> None:
        """Reading what is not there names the place, and the command that fills it."""
        with pytest.raises(ConfigurationError, match="otel-ml demo") as raised:
            read(path)

        assert str(path) in str(raised.value)
        assert not path.parent.exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
    @pytest.mark.parametrize("end", ["", "-wal", "-shm"])
    def test_links_are_not_followed(self, path: Path, tmp_path: Path, end: str) -> None:
        """A link planted in the store's place, or beside it, leads nowhere."""
        target = tmp_path / "precious"
        target.write_text("mine")
        if end:
            written(path)
        else:
            path.parent.mkdir()
        Path(f"{path}{end}").symlink_to(target)

        with pytest.raises(ConfigurationError, match="symbolic link"):
            Store(path).write_spans(calls(1))
        with pytest.raises(ConfigurationError, match="symbolic link"):
            read(path)
        assert target.read_text() == "mine"

    @pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
    def test_the_folder_is_not_a_link_either(self, path: Path, tmp_path: Path) -> None:
        """`.otel_ml` itself may have been planted."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        path.parent.symlink_to(elsewhere)

        with pytest.raises(ConfigurationError, match="symbolic link"):
            Store(path).write_spans(calls(1))
        assert list(elsewhere.iterdir()) == []

    @pytest.mark.parametrize("what", ["folder", "fifo"])
    def test_something_else_in_its_place(self, path: Path, what: str) -> None:
        """A folder or a pipe by that name is an error, not a hang."""
        path.parent.mkdir()
        path.mkdir() if what == "folder" else os.mkfifo(path)

        with pytest.raises(ConfigurationError, match="not a regular file"):
            Store(path).write_spans(calls(1))

    def test_a_file_where_the_folder_should_be(self, path: Path) -> None:
        """A file named like the folder is left alone."""
        path.parent.write_text("mine")

        with pytest.raises(ConfigurationError, match="cannot be opened or written"):
            Store(path).write_spans(calls(1))
        assert path.parent.read_text() == "mine"

    @pytest.mark.skipif(sys.platform == "win32", reason="has other rights")
    def test_only_the_owner_can_read_it(self, store: Store) -> None:
        """0600 for the file and what SQLite keeps beside it, 0700 for the folder, whatever the umask."""
        before = os.umask(0)
        try:
            store.write_spans(calls(1))
        finally:
            os.umask(before)

        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in store.path.parent.glob("telemetry*")}
        assert modes == {"telemetry.db": 0o600, "telemetry.db-wal": 0o600, "telemetry.db-shm": 0o600}
        assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700

    def test_git_ignores_it(self, store: Store) -> None:
        """The folder it makes says so itself; a folder of the user's is left as it is."""
        store.write_spans(calls(1))
        assert (store.path.parent / ".gitignore").read_text() == "*\n"

        mine = store.path.parents[1] / "mine" / "runs.db"
        other = Store(mine)
        other.write_spans(calls(1))
        other.close()
        assert [file.name for file in mine.parent.iterdir()] == ["runs.db"]

    def test_it_says_whose_it_is(self, store: Store) -> None:
        """The file carries an application id and the version of its schema."""
        store.write_spans(calls(1))
        store.close()

        assert sql(store.path, "PRAGMA application_id") == [(APPLICATION_ID,)]
        assert sql(store.path, "PRAGMA user_version") == [(VERSION,)]

    def test_a_damaged_record_costs_itself(self, store: Store) -> None:
        """A row that cannot be read is left out and counted."""
        store.write_spans(calls(5))
        sql(store.path, "UPDATE span SET attributes = '{oops' WHERE id = 3")
        records = read(store.path)

        assert [s.attributes["number"] for s in records.spans()] == [0, 1, 3, 4]
        assert records.unreadable == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="has other rights")
    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        """Said clearly, for a store to be made and for one that is there; that one can still be read."""
        folder = tmp_path / "readonly"
        written(folder / "telemetry.db")
        before = (folder / "telemetry.db").read_bytes()
        code = (
            "import os, sys; from pathlib import Path; from otel_ml._store import Store;"
            "from tests.store_records import calls; from otel_ml.errors import ConfigurationError\n"
            "if not os.geteuid(): os.setgid(65534); os.setuid(65534)\n"
            "for name in ('telemetry.db', 'new.db', 'deeper/new.db'):\n"
            "    try: Store(Path(sys.argv[1]) / name).write_spans(calls(1))\n"
            "    except ConfigurationError as error: print(error)\n"
            "print(Store.open_read(Path(sys.argv[1]) / 'telemetry.db').counts()['spans'])\n"
        )
        with open_to_all(folder):
            program = python(code, folder)
            said, errors = program.communicate(timeout=30)

        assert program.returncode == 0, errors
        *refusals, count = said.splitlines()
        assert len(refusals) == 3
        assert all("cannot be opened or written" in line and "OTEL_ML_STORE=" in line for line in refusals)
        assert count == "400"
        assert (folder / "telemetry.db").read_bytes() == before
        assert {file.name for file in folder.iterdir()} == {"telemetry.db"}


class open_to_all:
    """Let an unprivileged user look into a folder that nobody may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        for parent in [*self.folder.parents][:-2]:
            if is_root:
                parent.chmod(parent.stat().st_mode | 0o055)
        (self.folder / "telemetry.db").chmod(0o444)
        self.folder.chmod(0o555)

    def __exit__(self, *_: object) -> None:
        self.folder.chmod(0o755)


# ------------------------------------------------------------------------------------------------ no room
@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_limit_of_file_size_is_an_error_and_no_harm(path: Path) -> None:
    """Where no more can be written, the write says so, what is stored stays readable, and later writes go on."""
    code = (
        "import resource, sqlite3, sys; from pathlib import Path; from otel_ml._store import Store;"
        "from tests.store_records import calls\n"
        "store = Store(Path(sys.argv[1])); store.write_spans(calls(10))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "try:\n    for _ in range(50): store.write_spans(calls(200))\n"
        "except (OSError, sqlite3.OperationalError) as error: print(type(error).__name__)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "store.write_spans(calls(1, last=True)); store.close()\n"
    )
    program = python(code, path)
    said, errors = program.communicate(timeout=60)

    assert program.returncode == 0, errors
    assert said.strip() == "OperationalError"
    spans = list(read(path).spans())
    assert spans[-1].attributes.get("last") is True
    assert (len(spans) - 11) % 200 == 0
    assert sound(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = shutil.which("mount")
    if mount is None or not is_root:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", where], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a disk")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.faults
def test_a_full_disk_is_an_error_and_no_harm(small_disk: Path) -> None:
    """On a full disk the write says so; the store stays readable; with room again, it goes on."""
    store = Store(small_disk / "telemetry.db")
    with pytest.raises((OSError, sqlite3.OperationalError)):
        fill(store)
    before = read(store.path).counts()["spans"]
    assert before >= 200
    with pytest.raises((OSError, sqlite3.OperationalError)):
        fill(store)

    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert store.write_spans(calls(1, last=True)) == 0
    assert list(read(store.path).spans())[-1].attributes["last"] is True
    store.close()
    assert sound(store.path)


@pytest.mark.parametrize("make", [
    lambda origin: rows.span_rows(calls(3), 0, origin),
    lambda origin: rows.event_rows(steps(3), 0, origin),
    lambda origin: rows.points(gauge("ml.training.loss", [0.5]), origin),
], ids=["spans", "events", "points"])  # fmt: skip
def test_a_store_that_fails_is_no_fault_of_the_records(make: Callable[[Callable[..., int]], object]) -> None:
    """Where an origin cannot be named, for want of room or behind somebody's lock, no record is refused for it."""

    def origin(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        make(origin)


class TestArguments:
    @pytest.mark.parametrize(("name", "value"), [("max_bytes", 10), ("max_age", 0), ("max_age", math.nan)])
    def test_bounds_that_keep_nothing_are_refused(self, path: Path, name: str, value: Any) -> None:
        """A bound that leaves no room is an error at once."""
        with pytest.raises(ConfigurationError, match=name):
            Store(path, **{name: value})

    def test_the_place_by_default(self, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`.otel_ml/telemetry.db` here, wherever the program goes later; or what OTEL_ML_STORE says."""
        store = Store()
        (workdir / "elsewhere").mkdir()
        monkeypatch.chdir(workdir / "elsewhere")
        assert store.path == workdir / ".otel_ml" / "telemetry.db"

        monkeypatch.setenv("OTEL_ML_STORE", "my.db")
        assert Store().path == workdir / "elsewhere" / "my.db"
