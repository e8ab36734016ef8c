"""What an exporter is made of, and what became of a batch: the seam between the pipeline and every exporter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one batch.

    `retry_after` is None when the batch is settled; otherwise the batch should be tried again after that many seconds
    (at least; the sender adds its own back-off). `rejected` records of a settled batch were refused for `reason`; the
    others were accepted.
    """

    rejected: int = 0
    reason: str = ""
    retry_after: float | None = None


DELIVERED = Delivery()


@runtime_checkable
class Delivers(Protocol):
    """A part that says more than success or failure. `deadline` is on `time.monotonic()`; it must be kept."""

    def deliver(
        self, batch: Sequence[ReadableSpan] | Sequence[ReadableLogRecord] | MetricsData, deadline: float
    ) -> Delivery: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The standard OpenTelemetry exporters behind one of ours, and how it likes to be fed.

    `interval` is the seconds between metric exports, `delay` the longest that spans and events wait for a batch.
    Each part's `shutdown()` frees files and sockets; it is called once, from the sender's thread.
    """

    spans: SpanExporter | None = None
    metrics: MetricExporter | None = None
    events: LogRecordExporter | None = None
    interval: float = 60.0
    delay: float = 1.0


class Exporter(Protocol):
    """A place telemetry goes: a frozen value with one verb. Its library is imported inside `build`."""

    def build(self, resource: Resource) -> Parts:
        """Make the exporters, without connecting; raise `ConfigurationError` or `MissingExtraError` if that fails."""
        ...

    def describe(self) -> str:
        """Return where telemetry goes, in a few words, without credentials."""
        ...
