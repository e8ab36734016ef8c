"""Seed every generator as training scripts do, record, and say which trace ids were drawn and what the seeds give."""

import json
import random
import sys
import time
from importlib import import_module
from importlib.util import find_spec

from opentelemetry import trace

import otel_ml

asked = json.loads(sys.argv[1])
random.seed(42)
drawn: list[float] = []
if find_spec("numpy"):
    import_module("numpy").random.seed(42)
if find_spec("torch"):
    import_module("torch").manual_seed(42)

if asked["observed"]:
    otel_ml.configure(exporters=[otel_ml.exporters.OTLP(asked["endpoint"])], sampling=asked["sampling"])


@otel_ml.predict(id="name")
def score(name: str) -> float:
    """Return a number."""
    return 0.5


traces: list[str] = []
with otel_ml.train("churn") as run:
    for number in range(100):
        with otel_ml.predict("block") as call:
            traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
            call.set(number=number)
        score(f"order-{number}")
        run.log(loss=0.5)
        otel_ml.feedback(f"order-{number}", actual=1)
with trace.get_tracer("own").start_as_current_span("own") as span:
    traces.append(f"{span.get_span_context().trace_id:032x}")
    assert call.id
otel_ml.flush(2.0)
drawn += [random.random() for _ in range(10)]
if find_spec("numpy"):
    drawn += [float(one) for one in import_module("numpy").random.random(10)]
if find_spec("torch"):
    drawn += [float(one) for one in import_module("torch").rand(10)]
print(json.dumps({"traces": traces, "drawn": drawn}))
otel_ml.shutdown(0.5)
print(time.monotonic(), flush=True)
