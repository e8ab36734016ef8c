"""How encoded records lie in a file of the spool: frames that are found again behind damage.

A parcel is written as its header, its records, and its header once more. A torn end or a flipped byte costs the one frame
it hits; if that is a header, the other copy stands in. Every frame bears its parcel's number, so that damage brings no record
under another's header, and a checksum that begins with the file's key, so that nothing inside a record passes for a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as counting
from struct import Struct
from zlib import crc32

from otel_ml._delivery import Parcel

# No frame is larger, whatever its length field says: damage must not make anybody allocate a gigabyte.
MAX_FRAME = 16 * 1024 * 1024

_MAGIC = b"\xf5oml"
# Magic, kind, number of the parcel, records of the account, bytes of the payload; then the checksum of all that.
_HEAD = Struct("<4sBIII")
_CHECK = Struct("<I")
_START = _HEAD.size + _CHECK.size
_DAMAGE, _BEGIN, _RECORD, _END = range(4)
_numbers = counting()

Frame = tuple[int, int, int, bytes, int]


def key_of(name: str) -> int:
    """Return the key of a file."""
    return crc32(name.encode())


def write(parcel: Parcel, key: int = 0) -> bytes:
    """Return the frames of a parcel.

    >>> from otel_ml._delivery import Parcel
    >>> [(parcel.header, parcel.records) for parcel, _ in read(write(Parcel(b"header", (b"one", b"two"))))]
    [(b'header', (b'one', b'two'))]
    """
    number = next(_numbers) & 0xFFFFFFFF
    parts = [*_frame(key, _BEGIN, number, 0, parcel.header)]
    for record, count in zip(parcel.records, parcel.counts or (1,) * len(parcel.records), strict=True):
        parts += _frame(key, _RECORD, number, count, record)
    parts += _frame(key, _END, number, 0, parcel.header)
    return b"".join(parts)


def size(parcel: Parcel) -> int:
    """Return how many bytes the frames of a parcel have."""
    return (len(parcel.records) + 2) * _START + len(parcel.header) + parcel.size


def read(data: bytes, key: int = 0) -> Iterator[tuple[Parcel, int]]:
    """Yield every parcel of which something can be read, and where in `data` it ends."""
    now: int | None = None
    header: bytes | None = None
    records: list[bytes] = []
    counts: list[int] = []
    end = 0

    def parcel() -> Parcel:
        return Parcel(header or b"", tuple(records), () if set(counts) <= {1} else tuple(counts))

    for kind, number, count, payload, frame_end in _frames(data, key):
        if kind == _DAMAGE:
            continue
        if number != now:
            if records and header is not None:
                # The end of the parcel before is damaged.
                yield parcel(), end
            now, header, records, counts = number, None, [], []
        if kind == _RECORD:
            records.append(payload)
            counts.append(count)
        else:
            header = payload
        if kind == _END:
            if records:
                yield parcel(), frame_end
            now, header, records, counts = None, None, [], []
        end = frame_end
    if records and header is not None:
        yield parcel(), end


def count(data: bytes, key: int = 0) -> int:
    """Return how many records of the account lie in `data`; each damaged place counts as one."""
    return sum(records for _, _, records, _, _ in _frames(data, key))


def _frame(key: int, kind: int, number: int, count: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    head = _HEAD.pack(_MAGIC, kind, number, count, len(payload))
    return head, _CHECK.pack(crc32(payload, crc32(head, key))), payload


def _frames(data: bytes, key: int) -> Iterator[Frame]:
    view = memoryview(data)
    position = good = 0
    # Heads that all lie about their lengths must not have the same bytes summed for ever.
    budget = 4 * len(data) + MAX_FRAME
    while budget > 0:
        at = data.find(_MAGIC, position)
        if at < 0 or at + _START > len(data):
            break
        _, kind, number, count, length = _HEAD.unpack_from(data, at)
        end = at + _START + length
        if length <= MAX_FRAME and end <= len(data) and kind in (_BEGIN, _RECORD, _END):
            budget -= length
            check = crc32(view[at + _START : end], crc32(view[at : at + _HEAD.size], key))
            if _CHECK.unpack_from(data, at + _HEAD.size)[0] == check:
                if at > good:
                    yield _DAMAGE, 0, 1, b"", at
                yield kind, number, count, data[at + _START : end], end
                position = good = end
                continue
        # Torn, or damaged: look for the next frame from the next byte on.
        position = at + 1
    if good < len(data):
        yield _DAMAGE, 0, 1, b"", len(data)
