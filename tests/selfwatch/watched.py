"""Instrument everything there is, log at DEBUG into OpenTelemetry, make one span, and wait."""

import json
import logging
import sys
import time
from importlib.metadata import entry_points

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ml

asked = json.loads(sys.argv[1])
endpoint: str = asked["endpoint"]
spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()


class Lines(logging.Handler):
    """Counts lines by the logger they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        top = record.name.partition(".")[0]
        self.counts[top] = self.counts.get(top, 0) + 1


lines = Lines()
logging.basicConfig(level=logging.DEBUG, handlers=[lines])

places: dict[str, list[object]] = {
    "http": [otel_ml.exporters.OTLP(endpoint)],
    "grpc": [otel_ml.exporters.OTLP(endpoint, protocol="grpc")],
    "local": [otel_ml.exporters.Local(asked["store"])],
    # Of other people's making; they use `requests`, which is instrumented.
    "official": [
        OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=1),
        OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=1),
        OTLPLogExporter(f"{endpoint}/v1/logs", timeout=1),
    ],
}
if asked["host"]:
    # An app that has OpenTelemetry already, to which we add our exporters.
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(records, schedule_delay_millis=100))
    set_logger_provider(loggers)
    telemetry = otel_ml.configure(service="watched", exporters=places[asked["place"]], interval=0.2, join=True)  # type: ignore[arg-type]  # exporters of all kinds
else:
    telemetry = otel_ml.configure(
        service="watched",
        exporters=[*places[asked["place"]], spans, records],
        interval=0.2,  # type: ignore[list-item]  # exporters of all kinds
    )
instrumented = []
for point in entry_points(group="opentelemetry_instrumentor"):
    try:
        point.load()().instrument()
        instrumented.append(point.name)
    except Exception as error:
        print(f"{point.name}: {error}", file=sys.stderr)
logging.getLogger().addHandler(LoggingHandler(level=logging.DEBUG))

with otel_ml.predict("churn"):
    pass
logging.getLogger("mine").info("the user's one line")

end = time.monotonic() + asked["seconds"]
while time.monotonic() < end:
    time.sleep(0.1)
telemetry.flush(1.0)
said = {
    "instrumented": sorted(instrumented),
    "spans": [span.name for span in spans.get_finished_spans()],
    "records": len(records.get_finished_logs()),
    "lines": lines.counts,
}
telemetry.shutdown(0.5)
print(json.dumps(said))
print(time.monotonic(), flush=True)
