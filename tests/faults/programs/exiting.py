"""Record some of everything, then end in the way that is asked for."""

import json
import os
import signal
import sys
import time

import otel_ml
from tests.faults.foreign import HangingEvents, HangingMetrics, HangingSpans

asked = json.loads(sys.argv[1])

places: list[object] = [otel_ml.exporters.OTLP(endpoint, timeout=asked["timeout"]) for endpoint in asked["http"]]
places += [otel_ml.exporters.OTLP(endpoint, protocol="grpc", timeout=asked["timeout"]) for endpoint in asked["grpc"]]
if asked["hanging"]:
    places += [HangingSpans(), HangingMetrics(), HangingEvents()]
if asked["official"]:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    places += [BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")) for endpoint in asked["official"]]
    places += [
        PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics")) for endpoint in asked["official"]
    ]

telemetry = otel_ml.configure(service="exiting", exporters=places)  # type: ignore[arg-type]  # exporters of all kinds


@otel_ml.predict
def score(rows: list[float]) -> float:
    """Return a number."""
    return sum(rows)


for _ in range(200):
    score([1.0, 2.0])
with otel_ml.train("churn") as run:
    for step in range(50):
        run.log(loss=1 / (step + 1))
with telemetry.tracer_provider.get_tracer("own").start_as_current_span("own"):
    telemetry.meter_provider.get_meter("own").create_counter("own").add(1)

print(json.dumps({"pid": os.getpid()}))
print(time.monotonic(), flush=True)
if asked["how"] == "raise":
    raise ValueError("the program's own error")
if asked["how"] == "exit":
    sys.exit(3)
if asked["how"] == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
