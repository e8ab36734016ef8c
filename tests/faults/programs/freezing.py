"""Record spans, and flush until all of them are delivered, however long this process is stopped in between."""

import json
import sys
import time

import otel_ml
from tests.faults.places import otlp

asked = json.loads(sys.argv[1])
telemetry = otel_ml.configure(service="freezing", exporters=[otlp(asked["endpoint"], timeout=asked["timeout"])])


@otel_ml.predict
def score(value: int) -> int:
    """Return what it was given."""
    return value


for number in range(asked["spans"]):
    score(number)
limit = time.monotonic() + 40.0
while not telemetry.flush(1.0) and time.monotonic() < limit:
    time.sleep(0.01)
(exporter,) = telemetry.health().exporters
print(
    json.dumps(
        {signal: [one.created, one.delivered, sum(one.dropped.values())] for signal, one in exporter.signals.items()}
    )
)
print(time.monotonic(), flush=True)
