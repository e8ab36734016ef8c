"""Standard exporters of other people's making, which hang, raise or count."""

import threading
from collections.abc import Sequence

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

# Set to let go of every exporter that hangs, so that a test leaves no busy thread behind.
LET_GO = threading.Event()


def _hang(*_: object, **__: object) -> bool:
    LET_GO.wait(60.0)
    return False


class HangingSpans(SpanExporter):
    """Hangs in everything it is asked for."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        _hang()
        return SpanExportResult.FAILURE

    shutdown = _hang  # type: ignore[assignment]  # whatever it is given, it hangs
    force_flush = _hang  # type: ignore[assignment]  # likewise


class HangingMetrics(MetricExporter):
    """Hangs in everything it is asked for."""

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        _hang()
        return MetricExportResult.FAILURE

    shutdown = _hang  # type: ignore[assignment]  # whatever it is given, it hangs
    force_flush = _hang  # type: ignore[assignment]  # likewise


class HangingEvents(LogRecordExporter):
    """Hangs in everything it is asked for."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        _hang()
        return LogRecordExportResult.FAILURE

    shutdown = _hang  # type: ignore[assignment]  # whatever it is given, it hangs
    force_flush = _hang  # type: ignore[assignment]  # likewise
