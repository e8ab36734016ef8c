"""How encoded records lie in a file of the spool: frames that are found again behind damage.

A parcel is written as its header, its records, and its header once more. A torn end or a flipped byte costs the one frame
it hits; if that is a header, the other copy stands in.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from zlib import crc32

from otel_ml._delivery import Parcel

# No frame is larger, whatever its length field says: damage must not make anybody allocate a gigabyte.
MAX_FRAME = 16 * 1024 * 1024

_MAGIC = b"\xf5oml"
# Magic, kind, records of the account, bytes of the payload; then the checksum of all of it but the magic.
_HEAD = Struct("<4sBII")
_CHECK = Struct("<I")
_START = _HEAD.size + _CHECK.size
_DAMAGE, _BEGIN, _RECORD, _END = range(4)


def write(parcel: Parcel) -> bytes:
    """Return the frames of a parcel.

    >>> from otel_ml._delivery import Parcel
    >>> [(parcel.header, parcel.records) for parcel, _ in read(write(Parcel(b"header", (b"one", b"two"))))]
    [(b'header', (b'one', b'two'))]
    """
    parts = [*_frame(_BEGIN, 0, parcel.header)]
    for record, count in zip(parcel.records, parcel.counts or (1,) * len(parcel.records), strict=True):
        parts += _frame(_RECORD, count, record)
    parts += _frame(_END, 0, parcel.header)
    return b"".join(parts)


def read(data: bytes) -> Iterator[tuple[Parcel, int]]:
    """Yield every parcel of which something can be read, and where in `data` it ends."""
    header: bytes | None = None
    records: list[bytes] = []
    counts: list[int] = []
    end = 0

    def parcel() -> Parcel:
        return Parcel(header or b"", tuple(records), () if set(counts) <= {1} else tuple(counts))

    for kind, count, payload, frame_end in _frames(data):
        if kind == _DAMAGE:
            continue
        if kind == _RECORD:
            records.append(payload)
            counts.append(count)
        elif kind == _END:
            header = payload if header is None else header
            if records:
                yield parcel(), frame_end
            header, records, counts = None, [], []
        else:
            if records and header is not None:
                # The end of the parcel before is damaged.
                yield parcel(), end
            header, records, counts = payload, [], []
        end = frame_end
    if records and header is not None:
        yield parcel(), end


def count(data: bytes) -> int:
    """Return how many records of the account lie in `data`; each damaged place counts as one."""
    return sum(records for _, records, _, _ in _frames(data))


def _frame(kind: int, count: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    head = _HEAD.pack(_MAGIC, kind, count, len(payload))
    return head, _CHECK.pack(crc32(payload, crc32(head))), payload


def _frames(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    position = good = 0
    while True:
        at = data.find(_MAGIC, position)
        if at < 0 or at + _START > len(data):
            break
        _, kind, count, length = _HEAD.unpack_from(data, at)
        end = at + _START + length
        if length <= MAX_FRAME and end <= len(data):
            payload = data[at + _START : end]
            if _CHECK.unpack_from(data, at + _HEAD.size)[0] == crc32(payload, crc32(data[at : at + _HEAD.size])):
                if at > good:
                    yield _DAMAGE, 1, b"", at
                yield kind, count, payload, end
                position = good = end
                continue
        # Torn, or damaged: look for the next frame from the next byte on.
        position = at + 1
    if good < len(data):
        yield _DAMAGE, 1, b"", len(data)
