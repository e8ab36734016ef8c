"""Send telemetry to a place that cannot be used, and go on."""

import json
import logging
import sys
import time

import otel_ml

asked = json.loads(sys.argv[1])
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")
if asked["file_size"] is not None:
    import resource

    # No file may grow beyond this: what a full disk looks like to those who write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_size"], asked["file_size"]))

place = otel_ml.exporters.Local(asked["store"]) if asked["store"] else otel_ml.exporters.OTLP(asked["endpoint"])
telemetry = otel_ml.configure(service="misplaced", exporters=[place])


@otel_ml.predict
def score(value: int) -> int:
    """Return what it was given."""
    otel_ml.current().set(text="x" * 1_000)  # type: ignore[union-attr]  # inside a call
    return value


answers = []
for number in range(10):
    answers += [score(number) for _ in range(200)]
    telemetry.flush(0.5)
signals = [one for exporter in telemetry.health().exporters for one in exporter.signals.values()]
telemetry.shutdown(1.0)
print(
    json.dumps(
        {
            "answers": sum(answers),
            "dropped": sum(sum(one.dropped.values()) for one in signals),
            "created": signals[0].created,
            "reasons": sorted({reason for one in signals for reason in one.dropped}),
        }
    )
)
print(time.monotonic(), flush=True)
