"""Record a call, and get SIGTERM right after it; with or without a handler of the program's own, also in mid-flush."""

import json
import os
import signal
import sys
import threading
import time

import otel_ml
from otel_ml import exporters

asked = json.loads(sys.argv[1])


def own(number: int, frame: object) -> None:
    """What the program does on SIGTERM by itself."""
    print("handled", flush=True)
    print(time.monotonic(), flush=True)
    sys.exit(7)


if asked["own"]:
    signal.signal(signal.SIGTERM, own)
before = signal.getsignal(signal.SIGTERM)
telemetry = otel_ml.configure(
    service="terminated",
    exporters=[exporters.OTLP(asked["endpoint"], spool=exporters.Spool(asked["spool"]))],
    **({"flush_on_sigterm": True} if asked["asked"] else {}),
)
print(json.dumps({"touched": signal.getsignal(signal.SIGTERM) is not before}), flush=True)
with otel_ml.predict("churn"):
    pass


def terminate() -> None:
    """Say when, and send the signal."""
    print(time.monotonic(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


if asked["flushing"]:
    threading.Timer(0.3, terminate).start()
    telemetry.flush(30.0)
    time.sleep(30)
terminate()
time.sleep(30)
