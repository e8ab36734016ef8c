"""`Merging`: wraps the metric exporter of an application that has OpenTelemetry already, and keeps the fast path."""

from __future__ import annotations

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from otel_ml._current import CURRENT
from otel_ml._metrics import MERGING, merged
from otel_ml._otel_private import preferred_aggregation, preferred_temporality
from otel_ml._shield import failed
from otel_ml.errors import ConfigurationError


class Merging(MetricExporter):
    """Adds our points to what a host's own reader exports, so that nothing has to be replayed into its instruments.

    Joined to a host, `otel_ml` normally records each value once more through the host's instruments, at about 5 us a
    value. Where every push exporter of the host's meter provider is wrapped, values are folded instead. Temporality and
    aggregation are those of the wrapped exporter; it works when the host has no instrument of its own, too.

    Wrap before the first decorated call; the readers of one provider all, or none.

    >>> from opentelemetry.sdk.metrics import MeterProvider
    >>> from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
    >>> reader = PeriodicExportingMetricReader(Merging(ConsoleMetricExporter()), export_interval_millis=60_000)
    >>> MeterProvider([reader]).shutdown()
    """

    def __init__(self, inner: MetricExporter) -> None:
        if not isinstance(inner, MetricExporter):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may pass anything
            raise ConfigurationError(
                f"Merging wraps a metric exporter, not {type(inner).__name__}. "
                "Write exporters.Merging(OTLPMetricExporter())."
            )
        super().__init__(preferred_temporality(inner) or None, preferred_aggregation(inner) or None)
        self._inner = inner
        MERGING.add(self)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        """Export the host's metrics together with ours."""
        data: MetricsData | None = metrics_data
        try:
            state = CURRENT.live()
            reader = state.merging.get(self) if state is not None else None
            if state is not None and reader is not None:
                ours = state.ledger.collect(reader)
                data = merged(metrics_data, ours, state.resource, state.instrumentation_scope)
        except Exception:
            failed("add points to a host's export")
        if data is None:
            return MetricExportResult.SUCCESS
        return self._inner.export(data, timeout_millis=timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]  # the SDK's `**kwargs` have no type

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Flush the wrapped exporter."""
        return self._inner.force_flush(timeout_millis=timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Shut the wrapped exporter down."""
        self._inner.shutdown(timeout_millis=timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]  # likewise
