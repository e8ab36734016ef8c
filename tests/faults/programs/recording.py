"""Record a hundred calls, say so half a second later, and go on living."""

import sys
import time

import otel_ml
from otel_ml import exporters

otel_ml.configure(exporters=[exporters.OTLP(sys.argv[1], spool=exporters.Spool(sys.argv[2]))])
for _ in range(100):
    with otel_ml.predict("churn"):
        pass
time.sleep(0.5)
print("recorded", flush=True)
time.sleep(30)
