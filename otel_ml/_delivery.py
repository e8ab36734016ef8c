"""What an exporter is made of, and what became of a batch: the seam between the pipeline and every exporter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from otel_ml._spool import Spool


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one batch.

    `retry_after` is None when the batch is settled; otherwise the batch should be tried again after that many seconds
    (at least; the sender adds its own back-off). `rejected` records of a settled batch were refused for `reason`; the
    others were accepted. `divisible` says that the request was refused as a whole for something that may be the fault
    of a few records, or of their number: smaller requests may be accepted.
    """

    rejected: int = 0
    reason: str = ""
    retry_after: float | None = None
    divisible: bool = False


DELIVERED = Delivery()


@dataclass(frozen=True, slots=True)
class Parcel:
    """Encoded records behind what they share (for OTLP: resource and scope), to be sent, kept on disk or parted.

    `counts[i]` says for how many records of the account `records[i]` stands (a metric: its points); empty: one each.
    """

    header: bytes
    records: Sequence[bytes]
    counts: Sequence[int] = ()

    @property
    def count(self) -> int:
        """Records of the account in it."""
        return sum(self.counts) if self.counts else len(self.records)

    @property
    def size(self) -> int:
        """Bytes in it."""
        return len(self.header) + sum(map(len, self.records))


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch, encoded; `rejected` records of it could not be, and are left out."""

    parcels: Sequence[Parcel]
    rejected: int = 0


@runtime_checkable
class Delivers(Protocol):
    """A part that says more than success or failure. `deadline` is on `time.monotonic()`; it must be kept."""

    def deliver(
        self, batch: Sequence[ReadableSpan] | Sequence[ReadableLogRecord] | MetricsData, deadline: float
    ) -> Delivery: ...


@runtime_checkable
class Packs(Protocol):
    """A part whose batches can be encoded at one time, and sent at another: by a later try, or a later process."""

    @property
    def destination(self) -> str:
        """A file name that differs wherever records must not be mixed up: place, protocol and credentials."""
        ...

    def pack(self, batch: Sequence[ReadableSpan] | Sequence[ReadableLogRecord] | MetricsData) -> Packed:
        """Encode a batch. Never raises: what cannot be encoded is left out and counted."""
        ...

    def send(self, parcels: Sequence[Parcel], deadline: float) -> Delivery:
        """Try once to send them in one request; return by `deadline` (on `time.monotonic()`)."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The standard OpenTelemetry exporters behind one of ours, and how it likes to be fed.

    `interval` is the seconds between metric exports, `delay` the longest that spans and events wait for a batch.
    Parts that are `Packs` have what cannot be delivered at once kept in `spool`.
    `health` is a folder beside what an exporter writes on this machine: `otel-ml doctor` reads there what became of it.
    Each part's `shutdown()` frees files and sockets; it is called once, from the sender's thread.
    """

    spans: SpanExporter | None = None
    metrics: MetricExporter | None = None
    events: LogRecordExporter | None = None
    interval: float = 60.0
    delay: float = 1.0
    spool: Spool | None = None
    health: Path | None = None


class Exporter(Protocol):
    """A place telemetry goes: a frozen value with one verb. Its library is imported inside `build`."""

    def build(self, resource: Resource) -> Parts:
        """Make the exporters, without connecting; raise `ConfigurationError` or `MissingExtraError` if that fails."""
        ...

    def describe(self) -> str:
        """Return where telemetry goes, in a few words, without credentials."""
        ...
