"""What a segment file gives back: whole, damaged, torn, or made to do harm."""

import struct
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_ml._delivery import Parcel
from otel_ml._segment import MAX_FRAME, count, key_of, read, write

MAGIC = b"\xf5oml"
# Above what may be held at once: a list of offsets, a frame's own head, the interpreter's.
SLACK = 64 * 1024

Pair = tuple[bytes, bytes]


def pairs(parcels: Sequence[Parcel]) -> list[Pair]:
    """Return every record with the header it is sent under."""
    return [(parcel.header, record) for parcel in parcels for record in parcel.records]


def found(data: bytes, key: int = 0) -> list[Pair]:
    """Return every record that can be read, with its header."""
    return pairs([parcel for parcel, _ in read(data, key)])


def lost(before: Sequence[Pair], after: Sequence[Pair]) -> list[Pair]:
    """Return what is missing; what is there has to be in order, and nothing that was never written."""
    left = iter(after)
    missing: list[Pair] = []
    wanted = next(left, None)
    for pair in before:
        if pair == wanted:
            wanted = next(left, None)
        else:
            missing.append(pair)
    assert wanted is None, f"{wanted} is out of order, or was never written"
    return missing


def ends(parcels: Sequence[Parcel]) -> Iterator[int]:
    """Yield where each record's frame ends in the segment of these parcels."""
    start = 0
    for parcel in parcels:
        header = len(write(Parcel(parcel.header, ()))) // 2
        for number in range(1, len(parcel.records) + 1):
            yield start + len(write(Parcel(parcel.header, parcel.records[:number]))) - header
        start += len(write(parcel))


def several(records: int = 6, size: int = 40) -> list[Parcel]:
    """Return parcels with headers, records and counts of different kinds; records differ from one another."""
    made = iter(range(10_000))

    def record(length: int) -> bytes:
        number = next(made)
        return f"record {number} ".encode().ljust(length, bytes((number % 251,)))

    return [
        Parcel(b"the first header", [record(size + 7 * one) for one in range(records)]),
        Parcel(b"", [record(20)]),
        Parcel(b"metrics", [record(size), record(30), record(25)], [3, 1, 70_000]),
        Parcel(b"header of a long resource " * 8, [record(15 + one) for one in range(records)]),
        Parcel(b"the last header", [record(size), record(12)]),
    ]


def fake(kind: int, payload: bytes = b"", length: int | None = None, key: int = 0) -> bytes:
    """Return a frame as the format has it; with a `length` of its own choice the rest is right nevertheless."""
    head = struct.pack("<4sBIII", MAGIC, kind, 7, 1, len(payload) if length is None else length)
    return head + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head, key))) + payload


SEVERAL = several()
SEGMENT = b"".join(map(write, SEVERAL))

payloads = st.binary(max_size=60) | st.builds(
    lambda before, inside, after: before + inside + after,
    st.binary(max_size=6),
    st.sampled_from(
        [MAGIC, MAGIC[:2], MAGIC * 3, write(Parcel(b"inside", (b"one", b"two"))), fake(1), fake(3), fake(2)]
    ),
    st.binary(max_size=6),
)
parcels = st.builds(
    lambda header, held: Parcel(header, tuple(record for record, _ in held), tuple(points for _, points in held)),
    payloads,
    st.lists(st.tuples(payloads, st.integers(0, 2**32 - 1)), min_size=1, max_size=5),
)


class TestWhole:
    @given(st.lists(parcels, max_size=5))
    @settings(deadline=None)
    def test_what_is_written_is_read(self, written: list[Parcel]) -> None:
        """Headers, records, counts and their order are as they were, whatever bytes they hold; frames, too."""
        data = b"".join(map(write, written))

        assert [(one.header, tuple(one.records), one.count) for one, _ in read(data)] == [
            (one.header, tuple(one.records), one.count) for one in written
        ]
        assert count(data) == sum(one.count for one in written)

    @given(st.lists(parcels, min_size=1, max_size=5), st.data())
    @settings(deadline=None)
    def test_reading_goes_on_where_a_parcel_ends(self, written: list[Parcel], data: st.DataObject) -> None:
        """From where a parcel ends one reads what follows it, and nothing else: that is how far acknowledgements go."""
        segment = b"".join(map(write, written))
        at = data.draw(st.integers(0, len(written) - 1))
        _, end = list(read(segment))[at]

        assert found(segment[end:]) == pairs(written[at + 1 :])

    def test_a_parcel_whose_records_stand_for_one_each_says_so(self) -> None:
        """Counts of one are not kept apart from none."""
        ((parcel, _),) = read(write(Parcel(b"h", (b"a", b"b"), (1, 1))))

        assert (parcel.count, parcel.counts) == (2, ())

    def test_nothing_is_nothing(self) -> None:
        """An empty file holds nothing, and nothing is damaged in it."""
        assert found(b"") == []
        assert count(b"") == 0


class TestFlippedBytes:
    @pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
    def test_one_costs_one_record_at_most(self, mask: int) -> None:
        """At every offset of a segment with several parcels: the others are read, in order, under their headers."""
        before = pairs(SEVERAL)
        for at in range(len(SEGMENT)):
            damaged = bytearray(SEGMENT)
            damaged[at] ^= mask
            assert len(lost(before, found(bytes(damaged)))) <= 1, f"byte {at}"

    @pytest.mark.slow
    def test_one_costs_one_record_at_most_in_64_kb(self) -> None:
        """The same at every offset of a segment of 64 KB, with another mask at each."""
        written = [one for turn in range(30) for one in several(records=10, size=60 + turn)]
        segment, before = b"".join(map(write, written)), pairs(written)
        assert len(segment) >= 64 * 1024
        for at in range(64 * 1024):
            damaged = bytearray(segment)
            damaged[at] ^= at % 255 + 1
            assert len(lost(before, found(bytes(damaged)))) <= 1, f"byte {at}"

    def test_reading_goes_on_behind_one(self) -> None:
        """Wherever the byte is, acknowledging what was read and reading on from there gives every record once."""
        for at in range(0, len(SEGMENT), 3):
            damaged = bytearray(SEGMENT)
            damaged[at] ^= 0xFF
            segment = bytes(damaged)
            for number, (_, end) in enumerate(whole := list(read(segment))):
                assert found(segment[end:]) == pairs([one for one, _ in whole[number + 1 :]]), f"byte {at}"

    def test_what_it_costs_is_counted(self) -> None:
        """The count is never less than what can be read, and a record that cannot is counted for one."""
        plain = [Parcel(one.header, one.records) for one in SEVERAL]
        segment, before = b"".join(map(write, plain)), pairs(plain)
        for at in range(len(segment)):
            damaged = bytearray(segment)
            damaged[at] ^= 0xFF
            read_back = len(found(bytes(damaged)))
            assert len(before) <= count(bytes(damaged)) <= read_back + 1, f"byte {at}"

    def test_a_record_is_never_read_under_another_header(self) -> None:
        """A damaged place that covers where one parcel ends and the next begins costs records; none changes its owner."""
        for at in range(len(SEGMENT) - 30):
            lost(pairs(SEVERAL), found(SEGMENT[:at] + bytes(30) + SEGMENT[at + 30 :]))

    def test_frames_inside_a_record_are_no_records(self) -> None:
        """A record may hold a whole segment; one byte that is flipped costs that record, and lets nothing out of it."""
        # As it lies in another file: each file's frames bear its key.
        inner = write(Parcel(b"another's header", (b"never recorded",)), key_of("00000000000000000001.seg"))
        written = [Parcel(b"header", (b"one", b"<" + inner + inner[:20] + b">", b"two")), Parcel(b"next", (b"three",))]
        key = key_of("00000000000000000002.seg")
        segment, before = b"".join(write(one, key) for one in written), pairs(written)
        assert found(segment, key) == before
        for at in range(len(segment)):
            damaged = bytearray(segment)
            damaged[at] ^= 0xFF
            assert len(lost(before, found(bytes(damaged), key))) <= 1, f"byte {at}"

    def test_a_file_under_another_name_is_none_of_ours(self) -> None:
        """What was written with one key cannot be read with another, and counts as damage."""
        assert found(SEGMENT, key_of("other.seg")) == []
        assert count(SEGMENT, key_of("other.seg")) == 1


class TestTornEnds:
    def test_what_was_written_before_the_cut_is_read(self) -> None:
        """At every offset: each record whose frame is whole is read, under its header."""
        before, whole = pairs(SEVERAL), list(ends(SEVERAL))
        assert len(before) == len(whole)
        for at in range(len(SEGMENT)):
            assert found(SEGMENT[:at]) == before[: sum(end <= at for end in whole)], f"cut at {at}"

    @pytest.mark.parametrize("zeros", [1, 3, 17, 4_096, 1 << 20])
    def test_zeros_behind_the_end_are_nothing(self, zeros: int) -> None:
        """A file that the system had made longer than what came to be written."""
        assert found(SEGMENT + bytes(zeros)) == pairs(SEVERAL)

    def test_zeros_in_place_of_the_end_cost_what_they_stand_for(self) -> None:
        """At every offset, up to the length the file had."""
        before, whole = pairs(SEVERAL), list(ends(SEVERAL))
        for at in range(0, len(SEGMENT), 2):
            zeroed = SEGMENT[:at] + bytes(len(SEGMENT) - at)
            # A frame's last bytes may have been zeros anyhow.
            assert found(zeroed)[: len(before)] == before[: max(sum(end <= at for end in whole), len(found(zeroed)))]
            assert len(found(zeroed)) >= sum(end <= at for end in whole), f"zeros from {at} on"

    def test_what_is_appended_behind_a_torn_end_is_read(self) -> None:
        """A process that was killed in the middle of a frame costs that frame; whatever follows it is read."""
        after = Parcel(b"after", (b"four", b"five"))
        whole = list(ends(SEVERAL))
        for at in range(len(SEGMENT)):
            torn = [*pairs(SEVERAL)[: sum(end <= at for end in whole)], *pairs([after])]
            assert found(SEGMENT[:at] + write(after)) == torn, f"cut at {at}"


class TestGarbage:
    @given(st.data(), st.binary(min_size=1, max_size=50) | st.sampled_from([MAGIC, MAGIC[:3], fake(2, length=10)]))
    @example(None, MAGIC[:3])
    @settings(deadline=None)
    def test_between_two_parcels_it_costs_nothing(self, data: st.DataObject | None, garbage: bytes) -> None:
        """Whatever it is, also the beginning of a frame."""
        at = data.draw(st.integers(0, len(SEVERAL))) if data is not None else 2
        segment = b"".join([*map(write, SEVERAL[:at]), garbage, *map(write, SEVERAL[at:])])

        assert found(segment) == pairs(SEVERAL)

    @given(st.binary(max_size=2_000))
    @settings(deadline=None)
    def test_alone_it_is_nothing(self, garbage: bytes) -> None:
        """Bytes that hold no frame give no record, and count as one damaged place at most."""
        assert found(garbage) == []
        assert count(garbage) <= 1

    def test_a_frame_of_a_kind_that_does_not_exist_is_passed_over(self) -> None:
        """A kind that a later version may have written costs nothing of what is around it."""
        segment = write(SEVERAL[0]) + fake(9, b"of a later version") + write(SEVERAL[1])

        assert found(segment) == pairs(SEVERAL[:2])


class TestAbsurdLengths:
    @pytest.mark.parametrize("length", [MAX_FRAME - 1, MAX_FRAME, MAX_FRAME + 1, 2**31 - 1, 2**31, 2**32 - 1])
    def test_a_length_field_makes_nobody_allocate(self, length: int) -> None:
        """In every frame of a segment in turn: what is not in the file is not asked for."""
        at = -1
        while (at := SEGMENT.find(MAGIC, at + 1)) >= 0:
            damaged = bytearray(SEGMENT)
            damaged[at + 13 : at + 17] = struct.pack("<I", length)
            segment = bytes(damaged)
            peak, read_back = measured(segment)
            assert len(lost(pairs(SEVERAL), read_back)) <= 1
            assert peak < SLACK

    def test_no_more_than_16_mb_are_allocated(self) -> None:
        """In a large file whose heads all promise frames as long as a frame may be."""
        segment = fake(2, length=MAX_FRAME) * 4 + bytes(2 * MAX_FRAME) + write(SEVERAL[0])
        peak, read_back = measured(segment)

        assert read_back == pairs(SEVERAL[:1])
        assert peak <= MAX_FRAME + SLACK


def measured(segment: bytes) -> tuple[int, list[Pair]]:
    """Read a segment; return the most bytes that were held at once, and what was read."""
    tracemalloc.start()
    try:
        read_back = found(segment)
        return tracemalloc.get_traced_memory()[1], read_back
    finally:
        tracemalloc.stop()
