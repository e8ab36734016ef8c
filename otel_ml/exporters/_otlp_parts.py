"""The three standard OpenTelemetry exporters behind `exporters.OTLP`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_ml.exporters._otlp_settings import understood

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_ml._delivery import Delivery, Packed, Parcel
    from otel_ml.exporters._otlp_line import Line


class OTLPSpans(SpanExporter):
    """A standard `SpanExporter` whose `deliver` also says what became of a batch."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def destination(self) -> str:
        """A file name for what waits for this collector."""
        return self._line.destination

    def pack(self, batch: Sequence[ReadableSpan]) -> Packed:
        """Encode a batch, to be sent later; never raises."""
        return self._line.pack(batch)

    def send(self, parcels: Sequence[Parcel], deadline: float) -> Delivery:
        """Try once to send what is encoded; return by `deadline` (on `time.monotonic()`)."""
        return self._line.send(parcels, deadline)

    def deliver(self, batch: Sequence[ReadableSpan], deadline: float) -> Delivery:
        """Try once to send a batch; return by `deadline` (on `time.monotonic()`)."""
        return self._line.deliver(batch, deadline)

    def probe(self, deadline: float) -> Delivery:
        """Say, without sending any telemetry, what would become of a batch now."""
        return self._line.probe(deadline)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, trying again for as long as the time-out allows."""
        return SpanExportResult.SUCCESS if self._line.export(spans) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self) -> None:
        """Close the connection; nothing is sent after this."""
        self._line.shutdown()


class OTLPMetrics(MetricExporter):
    """A standard `MetricExporter` whose `deliver` also says what became of a collection; its records are data points."""

    def __init__(self, line: Line) -> None:
        super().__init__(preferred_temporality=_temporality(), preferred_aggregation=_aggregation())
        self._line = line

    @property
    def destination(self) -> str:
        """A file name for what waits for this collector."""
        return self._line.destination

    def pack(self, batch: MetricsData) -> Packed:
        """Encode a batch, to be sent later; never raises."""
        return self._line.pack(batch)

    def send(self, parcels: Sequence[Parcel], deadline: float) -> Delivery:
        """Try once to send what is encoded; return by `deadline` (on `time.monotonic()`)."""
        return self._line.send(parcels, deadline)

    def deliver(self, batch: MetricsData, deadline: float) -> Delivery:
        """Try once to send a collection; return by `deadline` (on `time.monotonic()`)."""
        return self._line.deliver(batch, deadline)

    def probe(self, deadline: float) -> Delivery:
        """Say, without sending any telemetry, what would become of a batch now."""
        return self._line.probe(deadline)

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float | None = 10_000,
        **kwargs: object,  # as the interface has it
    ) -> MetricExportResult:
        """Send a collection, trying again for as long as the time-outs allow."""
        seconds = None if timeout_millis is None else timeout_millis / 1e3
        return MetricExportResult.SUCCESS if self._line.export(metrics_data, seconds) else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:  # as the interface has it
        """Close the connection; nothing is sent after this."""
        self._line.shutdown()


class OTLPEvents(LogRecordExporter):
    """A standard `LogRecordExporter` whose `deliver` also says what became of a batch."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def destination(self) -> str:
        """A file name for what waits for this collector."""
        return self._line.destination

    def pack(self, batch: Sequence[ReadableLogRecord]) -> Packed:
        """Encode a batch, to be sent later; never raises."""
        return self._line.pack(batch)

    def send(self, parcels: Sequence[Parcel], deadline: float) -> Delivery:
        """Try once to send what is encoded; return by `deadline` (on `time.monotonic()`)."""
        return self._line.send(parcels, deadline)

    def deliver(self, batch: Sequence[ReadableLogRecord], deadline: float) -> Delivery:
        """Try once to send a batch; return by `deadline` (on `time.monotonic()`)."""
        return self._line.deliver(batch, deadline)

    def probe(self, deadline: float) -> Delivery:
        """Say, without sending any telemetry, what would become of a batch now."""
        return self._line.probe(deadline)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send a batch, trying again for as long as the time-out allows."""
        return LogRecordExportResult.SUCCESS if self._line.export(batch) else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # as the interface has it
        """Return True: nothing is held here."""
        return True

    def shutdown(self) -> None:
        """Close the connection; nothing is sent after this."""
        self._line.shutdown()


_EVERY: tuple[type, ...] = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)
# The instruments whose points cover the time since the last export; those of the others cover all time.
_DELTA: dict[str, frozenset[type]] = {
    "cumulative": frozenset(),
    "delta": frozenset({Counter, Histogram, ObservableCounter}),
    "lowmemory": frozenset({Counter, Histogram}),
}
_HISTOGRAMS: dict[str, type[ExplicitBucketHistogramAggregation | ExponentialBucketHistogramAggregation]] = {
    "explicit_bucket_histogram": ExplicitBucketHistogramAggregation,
    "base2_exponential_bucket_histogram": ExponentialBucketHistogramAggregation,
}


def _temporality() -> dict[type, AggregationTemporality]:
    name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    text = os.environ.get(name, "").strip().lower() or "cumulative"
    delta = understood(name, text, _DELTA.__getitem__, " or ".join(_DELTA)) or frozenset()
    return {
        kind: AggregationTemporality.DELTA if kind in delta else AggregationTemporality.CUMULATIVE for kind in _EVERY
    }


def _aggregation() -> dict[type, Aggregation]:
    name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    text = os.environ.get(name, "").strip().lower() or "explicit_bucket_histogram"
    kind = understood(name, text, _HISTOGRAMS.__getitem__, " or ".join(_HISTOGRAMS))
    return {Histogram: (kind or ExplicitBucketHistogramAggregation)()}
