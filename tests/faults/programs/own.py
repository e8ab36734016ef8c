"""Use nothing of ours but the providers, and leave at once."""

import atexit
import json
import sys
import time

from opentelemetry import metrics, trace

import otel_ml

asked = json.loads(sys.argv[1])
otel_ml.configure(service="own", exporters=[otel_ml.exporters.OTLP(asked["endpoint"])])


@otel_ml.predict
def score(value: float) -> float:
    """Return what it was given."""
    return value


if asked["what"] == "span":
    trace.get_tracer("own").start_span("own").end()
if asked["what"] == "instrument":
    metrics.get_meter("own").create_counter("own").add(1)
if asked["what"] == "atexit":
    # Registered after ours, so it runs before ours; no sender runs yet.
    atexit.register(score, 1.0)
print(json.dumps({}))
print(time.monotonic(), flush=True)
