"""The outbox of an exporter that takes encoded records: divided requests, superseded metrics, and an account that adds up."""

import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep

import pytest
from opentelemetry.sdk.metrics import Counter as CounterKind
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from otel_ml._delivery import Packs
from otel_ml._health import Account
from otel_ml._outbox import MAX_DELTAS, points
from otel_ml._packed import MAX_DIVISIONS, PackedOutbox, halves
from otel_ml._request import BATCH
from otel_ml._spool import Spool
from otel_ml._tally import Tally
from otel_ml.exporters import OTLP
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, make_events, make_metrics, make_spans

# With its length: the tag of the next field is an ASCII "0".
BAD = b"\x08span 300"
SECONDS = 10.0


@cache
def batch() -> Sequence[ReadableSpan]:
    """Return 512 spans, "span 0" the last of them."""
    return make_spans(BATCH)


class Posted:
    """An outbox to a collector, fed with records of one signal; its account is checked whenever it is looked at."""

    def __init__(self, collector: FaultCollector, signal: str = "spans", spool: Path | None = None) -> None:
        parts = OTLP(collector.endpoint, timeout=2.0).build(RESOURCE)
        part = getattr(parts, signal)
        assert isinstance(part, Packs)
        self.part = part
        self.collector, self.signal, self.made = collector, signal, 0
        self.queue: deque[object | None] = deque()
        self.outbox = PackedOutbox(part, Tally(signal), None, None if spool is None else Spool(spool))

    def add(self, records: Sequence[object]) -> None:
        """Queue records, as callers do."""
        self.queue.extend(records)
        self.made += len(records)

    def put(self, collected: MetricsData) -> None:
        """Hand in a collection."""
        before = self.account.created
        self.outbox.put_metrics(collected)
        assert self.account.created >= before

    def send(self) -> bool:
        """Take what there is room for, and try once."""
        if self.signal != "metrics":
            self.outbox.take(self.queue)
        return self.outbox.send(monotonic() + SECONDS)

    def send_all(self, tries: int = 50) -> Account:
        """Send until nothing is left; the account holds after every step."""
        for _ in range(tries):
            self.send()
            account = self.balanced()
            if not account.queued and not account.spooled:
                return account
        raise AssertionError(f"{account} after {tries} tries")

    def balanced(self) -> Account:
        """Return the account, in which every record made has one place, and those delivered are those that arrived."""
        account = self.account
        assert min(account.delivered, account.queued, account.spooled, *account.dropped.values(), 0) == 0
        assert account.created == self.made
        assert account.delivered <= self.arrived
        return account

    @property
    def account(self) -> Account:
        """The account as `health()` shows it."""
        return self.outbox.tally.account(self.queue)

    @property
    def arrived(self) -> int:
        """How many records the collector has accepted, those that came twice counted twice."""
        return len(self.collector.spans if self.signal == "spans" else self.collector.logs)

    def names(self) -> Counter[str]:
        """Return how often each span has arrived."""
        return Counter(span.name for span in self.collector.spans)


@pytest.fixture(params=["memory", "disk"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where what waits is kept: every promise holds with a spool and without one."""
    return tmp_path / "spool" if request.param == "disk" else None


@contextmanager
def posting(collector: FaultCollector, spool: Path | None, signal: str = "spans") -> Iterator[Posted]:
    """Make an outbox, and end it as a program ends it."""
    posted = Posted(collector, signal, spool)
    try:
        yield posted
    finally:
        posted.outbox.abandon(monotonic() + 1.0)
        posted.part.shutdown()


def until(collector: FaultCollector, requests: int) -> None:
    """Wait until so many requests have arrived."""
    assert collector.wait_for(lambda one: len(one.requests) >= requests)


class TestOneBadRecord:
    @pytest.mark.parametrize("bad", [0, 1, 255, 256, 300, 511])
    def test_it_costs_itself(self, bad: int, spool: Path | None) -> None:
        """511 of 512 are delivered, once each, and one is dropped with the reason that the collector gave."""
        spans = batch()
        name = f"span {bad}"
        # No other span's encoded name begins like it.
        with (
            FaultCollector(poison=len(name).to_bytes(1, "big") + name.encode()) as collector,
            posting(collector, spool) as posted,
        ):
            posted.add(spans)
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (BATCH - 1, {"http_400": 1})
            assert posted.names() == {f"span {number}": 1 for number in range(BATCH) if number != bad}

    def test_two_cost_themselves(self, spool: Path | None) -> None:
        """However far they lie apart."""
        with FaultCollector(poison=b"p0ison") as collector, posting(collector, spool) as posted:
            spans = [*make_spans(BATCH - 2)]
            spans.insert(3, make_spans(1, {"text": "p0ison"})[0])
            spans.insert(400, make_spans(1, {"text": "p0ison"})[0])
            posted.add(spans)
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (BATCH - 2, {"http_400": 2})
            assert len(collector.requests) <= MAX_DIVISIONS * 2 + 1

    def test_a_few_cost_themselves(self, spool: Path | None) -> None:
        """A dozen, all over the batch, are more than are looked for one by one: they cost a quarter of it at most."""
        with FaultCollector(poison=b"p0ison") as collector, posting(collector, spool) as posted:
            good, bad = [*make_spans(500)], make_spans(1, {"text": "p0ison"})[0]
            posted.add([one for at in range(0, 500, 42) for one in (*good[at : at + 42], bad)])
            account = posted.send_all()

            assert account.created == 512
            assert account.delivered >= 384

    def test_it_costs_itself_among_events(self, spool: Path | None) -> None:
        """The same for events, of which each is as another but for its time."""
        events = make_events(BATCH)
        time = (1_000_000_000 + 77).to_bytes(8, "little")
        with FaultCollector(poison=time) as collector, posting(collector, spool, "events") as posted:
            posted.add(events)
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (BATCH - 1, {"http_400": 1})

    def test_it_costs_itself_among_metrics(self, spool: Path | None) -> None:
        """One metric's points are dropped; the other metrics of the collection arrive."""
        with FaultCollector(poison=b"gauge") as collector, posting(collector, spool, "metrics") as posted:
            posted.put(make_metrics())
            assert posted.send()

            account = posted.account
            assert (account.delivered, account.dropped, account.created) == (4, {"http_400": 2}, 6)
            assert Counter(metric.name for metric in collector.metrics) == {"count": 1, "explicit": 1, "exponential": 1}

    def test_every_batch_with_one_loses_one(self, spool: Path | None) -> None:
        """Not the first alone."""
        with FaultCollector(poison=BAD) as collector, posting(collector, spool) as posted:
            for _ in range(3):
                posted.add(batch())
                account = posted.send_all()

            assert (account.delivered, account.dropped) == (3 * (BATCH - 1), {"http_400": 3})


class TestTooLarge:
    @pytest.mark.parametrize("most", [60_000, 20_000, 5_000])
    def test_a_request_that_is_too_large_is_divided(self, most: int, spool: Path | None) -> None:
        """Every record arrives, once, in requests that the collector takes."""
        with FaultCollector(max_bytes=most) as collector, posting(collector, spool) as posted:
            posted.add(batch())
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (BATCH, {})
            assert set(posted.names().values()) == {1}
            assert [span.name for span in collector.spans] == [f"span {n}" for n in [*range(1, BATCH), 0]]

    def test_a_record_that_is_too_large_costs_itself(self, spool: Path | None) -> None:
        """The others arrive; it is dropped for being too large."""
        with FaultCollector(max_bytes=90_000) as collector, posting(collector, spool) as posted:
            posted.add([*make_spans(100), *make_spans(1, {"text": "x" * 100_000}), *make_spans(100)])
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (200, {"too_large": 1})


class TestServersThatRefuseEverything:
    @pytest.mark.parametrize("mode", [400, 413, 422])
    def test_they_are_not_asked_again_and_again(self, mode: int, spool: Path | None) -> None:
        """Dividing is tried, found to be of no use, and left alone: about one request for each batch from then on."""
        with FaultCollector(mode) as collector, posting(collector, spool) as posted:
            for _ in range(10):
                posted.add(batch())
                account = posted.send_all()

            assert account.delivered == 0
            assert sum(account.dropped.values()) == 10 * BATCH
            assert len(collector.requests) <= 2 * MAX_DIVISIONS + 10

    def test_once_they_accept_they_are_asked_in_parts_again(self, spool: Path | None) -> None:
        """A server that was mended gets 511 of 512 once more."""
        with FaultCollector(400) as collector, posting(collector, spool) as posted:
            posted.add(batch())
            posted.send_all()
            collector.mode = "healthy"
            posted.add(make_spans(3))
            posted.send_all()
            collector._poison = BAD
            posted.add(batch())
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (3 + BATCH - 1, {"http_400": BATCH + 1})

    def test_dividing_is_not_given_up_for_ever(self, spool: Path | None) -> None:
        """A server that refused everything for a while, and a bad record in every batch since: the good ones arrive."""
        with FaultCollector(400, poison=BAD) as collector, posting(collector, spool) as posted:
            posted.add(batch())
            posted.send_all()
            collector.mode = "healthy"
            spans = batch()
            for _ in range(40):
                posted.add(spans)
                posted.send_all()

            assert posted.account.delivered > 20 * BATCH

    def test_codes_that_say_nothing_of_records_are_not_divided(self, spool: Path | None) -> None:
        """One request, and the batch is dropped with its reason."""
        with FaultCollector(401) as collector, posting(collector, spool) as posted:
            posted.add(batch())
            account = posted.send_all()

            assert account.dropped == {"http_401": BATCH}
            assert len(collector.requests) == 1


class TestBrokenOff:
    def test_a_division_goes_on_where_it_was(self, spool: Path | None) -> None:
        """A failure in the middle: nothing that was accepted is sent again, and the bad record is still found."""
        with FaultCollector(poison=BAD, delay=0.02) as collector, posting(collector, spool) as posted:
            posted.add(batch())
            sending = threading.Thread(target=posted.send)
            sending.start()
            until(collector, 6)
            collector.mode = 503
            sending.join()
            assert posted.balanced().delivered < BATCH - 1
            assert posted.arrived > 0
            assert not posted.send()
            posted.balanced()
            collector.mode = "healthy"
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (BATCH - 1, {"http_400": 1})
            assert posted.names() == {f"span {number}": 1 for number in range(BATCH) if number != 300}

    def test_an_end_in_the_middle_loses_nothing(self, tmp_path: Path) -> None:
        """The program ends in the middle of a division: the next one delivers all; a batch may come twice at most."""
        with FaultCollector(poison=BAD, delay=0.02) as collector:
            with posting(collector, tmp_path / "spool") as posted:
                posted.add(batch())
                sending = threading.Thread(target=posted.send)
                sending.start()
                until(collector, 6)
                posted.outbox.abandon(monotonic() + 1.0)
                sending.join()
                account = posted.account
                assert (account.spooled, account.created) == (BATCH, BATCH)
            with posting(collector, tmp_path / "spool") as second:
                second.outbox.look()
                second.made = BATCH
                account = second.send_all()

            assert (account.delivered, account.dropped) == (BATCH - 1, {"http_400": 1})
            assert set(posted.names()) == {f"span {number}" for number in range(BATCH) if number != 300}
            assert max(posted.names().values()) <= 2

    def test_without_a_spool_it_is_counted_what_did_not_arrive(self) -> None:
        """The same in memory: what was accepted is delivered, the rest is dropped."""
        with FaultCollector(poison=BAD, delay=0.02) as collector, posting(collector, None) as posted:
            posted.add(batch())
            sending = threading.Thread(target=posted.send)
            sending.start()
            until(collector, 6)
            posted.outbox.abandon(monotonic() + 1.0)
            sending.join()
            account = posted.balanced()

            assert account.queued == 0
            # The request that was under way may have been accepted, or not.
            assert account.delivered <= posted.arrived
            assert account.delivered + sum(account.dropped.values()) == BATCH


class TestAccount:
    @pytest.mark.parametrize(
        "modes",
        [
            ["refused", "refused", "healthy"],
            [503, "healthy", "reset", "healthy"],
            ["partial_success", 400, "healthy"],
            [401, "redirect", "healthy"],
            ["no_reply", 429, "healthy"],
        ],
    )
    def test_it_holds_at_every_step(self, modes: list[str | int], spool: Path | None) -> None:
        """Whatever the collector does, what was made is delivered, dropped, queued or spooled, and the collector agrees."""
        with FaultCollector() as collector, posting(collector, spool) as posted:
            for mode in modes:
                collector.mode = mode  # type: ignore[assignment]  # one of its modes
                posted.add(make_spans(200))
                posted.balanced()
                for _ in range(3):
                    posted.send()
                    posted.balanced()
            account = posted.send_all()

            # A collector that refuses some of a request's records has the others only.
            assert account.delivered == posted.arrived - account.dropped.get("partial_success", 0)
            assert account.delivered + sum(account.dropped.values()) == 200 * len(modes)

    def test_it_holds_while_others_look(self, spool: Path | None) -> None:
        """Read from another thread all the time: no record is ever in two places, or in none."""
        with FaultCollector(max_bytes=20_000) as collector, posting(collector, spool) as posted:
            spans, wrong, ending = batch(), list[Account](), threading.Event()
            for _ in range(6):
                posted.add(spans)

            def look() -> None:
                while not ending.is_set():
                    account = posted.account
                    if account.created != posted.made:
                        wrong.append(account)

            looking = threading.Thread(target=look)
            looking.start()
            account = posted.send_all()
            ending.set()
            looking.join()

            assert account.delivered == 6 * BATCH
            assert wrong == []

    def test_what_cannot_be_encoded_is_counted(self, spool: Path | None) -> None:
        """Beside records that can."""
        with FaultCollector() as collector, posting(collector, spool) as posted:
            posted.add([*make_spans(5), object(), *make_spans(5)])
            account = posted.send_all()

            assert (account.delivered, account.dropped) == (10, {"encoding": 1})

    def test_a_full_outbox_takes_no_more(self) -> None:
        """In memory one batch waits; the others stay in their queue, where they are bounded."""
        with FaultCollector("refused") as collector, posting(collector, None) as posted:
            posted.add(make_spans(3 * BATCH))
            for _ in range(3):
                posted.send()
            assert len(posted.queue) == 2 * BATCH
            assert posted.balanced().queued == 3 * BATCH

    def test_a_spool_takes_everything(self, tmp_path: Path) -> None:
        """On disk all of it waits, in order."""
        with FaultCollector("refused") as collector, posting(collector, tmp_path / "spool") as posted:
            posted.add(make_spans(3 * BATCH))
            for _ in range(3):
                assert not posted.send()
            account = posted.balanced()
            assert (account.queued, account.spooled) == (0, 3 * BATCH)
            collector.mode = "healthy"
            posted.send_all()
            assert [span.name for span in collector.spans] == [f"span {n}" for n in [*range(1, 3 * BATCH), 0]]


def collection(reader: InMemoryMetricReader) -> MetricsData:
    """Collect once."""
    collected = reader.get_metrics_data()
    assert collected is not None
    return collected


@contextmanager
def metering(
    temporality: AggregationTemporality, scopes: int
) -> Iterator[tuple[InMemoryMetricReader, list[CounterKind]]]:
    """Make a counter in each of several scopes, and what collects them."""
    reader = InMemoryMetricReader(preferred_temporality={CounterKind: temporality})
    provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    counters = [provider.get_meter(f"scope {number}").create_counter("made") for number in range(scopes)]
    try:
        yield reader, counters  # type: ignore[misc]  # counters of the SDK
    finally:
        provider.shutdown()


def totals(collector: FaultCollector) -> list[int]:
    """Return every value of every counter that arrived, in order."""
    return [point.as_int for metric in collector.metrics for point in metric.sum.data_points]


class TestCumulativeMetrics:
    def test_in_memory_the_latest_takes_the_place_of_those_before(self) -> None:
        """During an outage one collection waits; nothing is lost, for the latest says it all, and `created` stays."""
        with (
            FaultCollector("refused") as collector,
            posting(collector, None, "metrics") as posted,
            metering(AggregationTemporality.CUMULATIVE, 2) as (reader, counters),
        ):
            for _ in range(5):
                for counter in counters:
                    counter.add(1)
                posted.put(collection(reader))
                assert not posted.send()
                account = posted.account
                assert (account.queued, account.created, account.dropped) == (2, 2, {})
            collector.mode = "healthy"
            assert posted.send()

            assert totals(collector) == [5, 5]
            assert posted.account == Account(delivered=2)

    def test_points_that_are_not_said_again_are_counted(self) -> None:
        """A collection with fewer points than the one it replaces: `created` never decreases."""
        with FaultCollector("refused") as collector, posting(collector, None, "metrics") as posted:
            with metering(AggregationTemporality.CUMULATIVE, 3) as (reader, counters):
                for counter in counters:
                    counter.add(1)
                posted.put(collection(reader))
                posted.send()
            with metering(AggregationTemporality.CUMULATIVE, 1) as (reader, counters):
                counters[0].add(1)
                posted.put(collection(reader))
            account = posted.account

            assert (account.queued, account.dropped, account.created) == (1, {"superseded": 2}, 3)

    def test_on_disk_every_collection_stays(self, tmp_path: Path) -> None:
        """What is kept on disk is history, and arrives in order."""
        with (
            FaultCollector("refused") as collector,
            posting(collector, tmp_path / "spool", "metrics") as posted,
            metering(AggregationTemporality.CUMULATIVE, 1) as (reader, counters),
        ):
            for number in range(1, 6):
                counters[0].add(1)
                posted.put(collection(reader))
                assert not posted.send()
                assert (posted.account.spooled, posted.account.created) == (number, number)
            collector.mode = "healthy"
            while posted.account.spooled:
                assert posted.send()

            assert totals(collector) == [1, 2, 3, 4, 5]
            assert posted.account == Account(delivered=5)

    @pytest.mark.parametrize("scopes", [MAX_DELTAS, MAX_DELTAS + 1, 40])
    def test_metrics_of_many_scopes_arrive(self, scopes: int, spool: Path | None) -> None:
        """A program with a meter for each of its libraries: a collector that answers gets every one of them."""
        with (
            FaultCollector() as collector,
            posting(collector, spool, "metrics") as posted,
            metering(AggregationTemporality.CUMULATIVE, scopes) as (reader, counters),
        ):
            for counter in counters:
                counter.add(1)
            posted.put(collection(reader))
            while posted.send():
                pass

            assert len(totals(collector)) == scopes
            assert posted.account == Account(delivered=scopes)


class TestDeltaMetrics:
    @pytest.mark.parametrize("scopes", [1, 3])
    def test_all_are_kept_up_to_sixteen(self, scopes: int, spool: Path | None) -> None:
        """Sixteen collections of an outage arrive, in order, whatever number of scopes each has."""
        with (
            FaultCollector("refused") as collector,
            posting(collector, spool, "metrics") as posted,
            metering(AggregationTemporality.DELTA, scopes) as (reader, counters),
        ):
            for number in range(MAX_DELTAS):
                for counter in counters:
                    counter.add(number + 1)
                posted.put(collection(reader))
                assert not posted.send()
            account = posted.account
            assert (account.created, account.dropped) == (MAX_DELTAS * scopes, {})
            collector.mode = "healthy"
            while posted.send():
                pass

            assert sorted(totals(collector)) == sorted([*range(1, MAX_DELTAS + 1)] * scopes)
            assert posted.account == Account(delivered=MAX_DELTAS * scopes)

    def test_in_memory_the_oldest_beyond_sixteen_are_dropped_and_counted(self) -> None:
        """Sixteen intervals are kept, and the newest of them."""
        with (
            FaultCollector("refused") as collector,
            posting(collector, None, "metrics") as posted,
            metering(AggregationTemporality.DELTA, 1) as (reader, counters),
        ):
            for number in range(MAX_DELTAS + 4):
                counters[0].add(number + 1)
                posted.put(collection(reader))
            account = posted.account
            assert (account.created, account.dropped) == (MAX_DELTAS + 4, {"queue_full": 4})
            collector.mode = "healthy"
            while posted.send():
                pass

            assert totals(collector) == [*range(5, MAX_DELTAS + 5)]

    def test_what_is_on_its_way_is_bounded_as_well(self) -> None:
        """A request that fails again and again, and collections that wait behind it: sixteen altogether."""
        with (
            FaultCollector("refused") as collector,
            posting(collector, None, "metrics") as posted,
            metering(AggregationTemporality.DELTA, 1) as (reader, counters),
        ):
            for number in range(3 * MAX_DELTAS):
                counters[0].add(number + 1)
                posted.put(collection(reader))
                assert not posted.send()
            account = posted.account
            assert account.created == 3 * MAX_DELTAS
            assert account.queued <= MAX_DELTAS + 1


class TestHalves:
    @pytest.mark.parametrize("batch", [make_spans(7), make_spans(2)])
    def test_nothing_is_lost_or_moved(self, batch: Sequence[object]) -> None:
        """The halves of a request hold its records, in order, under their headers, with their counts."""
        part = OTLP("http://127.0.0.1:1").build(RESOURCE).metrics
        assert isinstance(part, Packs)
        parcels = part.pack(make_metrics()).parcels
        records = sum(len(parcel.records) for parcel in parcels)
        first, second = halves(parcels, records)

        def flat(one: Sequence[object]) -> list[tuple[bytes, bytes, int]]:
            return [
                (parcel.header, record, count)  # type: ignore[attr-defined]  # parcels
                for parcel in one
                for record, count in zip(parcel.records, parcel.counts, strict=True)  # type: ignore[attr-defined]  # likewise
            ]

        assert flat(first) + flat(second) == flat(parcels)
        assert abs(len(flat(first)) - len(flat(second))) <= 1

    def test_points_are_what_is_counted(self) -> None:
        """A metric stands for its points: six in the collection that these tests use."""
        part = OTLP("http://127.0.0.1:1").build(RESOURCE).metrics
        assert isinstance(part, Packs)

        assert sum(parcel.count for parcel in part.pack(make_metrics()).parcels) == points(make_metrics()) == 6


class TestPauses:
    def test_a_server_that_asks_for_patience_gets_it(self, spool: Path | None) -> None:
        """`Retry-After` is kept to, and the batch is sent then."""
        with FaultCollector(429, retry_after="0.4", times=1) as collector, posting(collector, spool) as posted:
            posted.add(make_spans(3))
            assert not posted.send()
            began = monotonic()
            assert not posted.outbox.pauses.ready(force=False)
            while not posted.outbox.pauses.ready(force=False):
                assert monotonic() < began + SECONDS
                sleep(0.01)
            assert monotonic() - began >= 0.3
            account = posted.send_all()

            assert account.delivered == 3
