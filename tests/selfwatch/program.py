"""One observed call in a program that watches everything: HTTP clients, gRPC, SQLite, threads, and its own log."""

import json
import logging
import sys
import time
import warnings

from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk._logs import LoggingHandler

import otel_ml
from otel_ml import exporters

asked = json.loads(sys.argv[1])
lines = 0


class Counting(logging.Handler):
    """Counts what is written to the program's log, by whomever."""

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line."""
        global lines
        lines += 1


telemetry = otel_ml.configure(
    service="watched",
    exporters=[exporters.OTLP(asked["endpoint"], protocol=asked["protocol"]), exporters.Local("watched.db")],
    interval=0.5,
)
for instrumentor in (
    GrpcInstrumentorClient(),
    LoggingInstrumentor(),
    RequestsInstrumentor(),
    SQLite3Instrumentor(),
    SystemMetricsInstrumentor(),
    ThreadingInstrumentor(),
    URLLibInstrumentor(),
    URLLib3Instrumentor(),
):
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
    )
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    bridge = LoggingHandler(level=logging.DEBUG, logger_provider=telemetry.logger_provider)
logging.basicConfig(level=logging.DEBUG, handlers=[Counting(), bridge], force=True)


@otel_ml.predict(model="watched")
def score(rows: list[list[float]]) -> int:
    """Predict."""
    return len(rows)


score([[1.0]])
ends = time.monotonic() + asked["seconds"]
while time.monotonic() < ends:
    telemetry.flush(1.0)
    time.sleep(0.2)
spans = {exporter.name: exporter.signals["spans"].created for exporter in telemetry.health().exporters}
telemetry.shutdown(2.0)
print(json.dumps({"lines": lines, "created": spans}))
