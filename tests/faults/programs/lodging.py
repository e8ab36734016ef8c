"""Record calls with a spool in some place, and say what became of them and how long that took."""

import json
import logging
import os
import sys
import time

import otel_ml
from otel_ml import exporters
from tests.stopwatch import stopwatch

asked = {"user": None, "file_size": None, "places": 1, "shutdown": True} | json.loads(sys.argv[1])
if asked["user"] is not None:
    # Other users may not be allowed to read this Python's library: whatever is imported later is imported now.
    with (
        otel_ml.configure(exporters=[exporters.OTLP("http://127.0.0.1:9", spool=None)], set_global=False),
        otel_ml.predict("nothing"),
    ):
        pass
    import otel_ml._backlog

    os.setgroups([])
    os.setgid(asked["user"])
    os.setuid(asked["user"])
logging.basicConfig(level=logging.WARNING, format="%(levelname)s:%(name)s:%(message)s")
if asked["file_size"] is not None:
    import resource

    # No file may grow beyond this: what a full disk looks like to those who write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_size"], asked["file_size"]))

telemetry = otel_ml.configure(
    service="lodging",
    exporters=[
        exporters.OTLP(asked["endpoint"], headers={"place": str(number)}, spool=exporters.Spool(asked["spool"]))
        for number in range(asked["places"])
    ],
)
for _ in range(asked["calls"]):
    with otel_ml.predict("churn"):
        pass
with stopwatch() as flushing:
    telemetry.flush(0.5)
with stopwatch() as looking:
    telemetry.health()
if asked["shutdown"]:
    telemetry.shutdown()
one = telemetry.health().exporters[0].signals["spans"]
spans = [one.created, one.delivered, one.queued, one.spooled, one.dropped]
print(json.dumps({"spans": spans, "flush": flushing.seconds, "health": looking.seconds}))
print(time.monotonic(), flush=True)
