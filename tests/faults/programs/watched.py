"""Record with a black hole behind, while every audit event and every call of a C function in this thread is noted."""

import json
import sys
import threading
import time

import otel_ml

asked = json.loads(sys.argv[1])
telemetry = otel_ml.configure(service="watched", exporters=[otel_ml.exporters.OTLP(asked["endpoint"])])


@otel_ml.predict(labels={"variant": "a"})
def score(rows: object) -> object:
    """Return what it was given."""
    return rows


@otel_ml.predict(id="order", output=lambda found: found)
def identified(order: str, rows: object) -> float:
    """Return a number to remember."""
    return 0.5


def failing() -> None:
    """Raise from a watched call."""
    with otel_ml.predict("failing"):
        raise ValueError


def everything(number: int) -> None:
    """Do what a user's thread does with us."""
    score([1.0, 2.0])
    identified(f"order-{number}", [[1.0], [2.0]])
    with otel_ml.predict("block") as call:
        call.inputs([[1.0]])
        call.set(user=number, text="some text")
        call.label(variant=f"v{number % 5}")
        with call.stage("inference"):
            pass
        call.outputs([0.5])
    try:
        failing()
    except ValueError:
        pass
    run.log(loss=0.5, note="text")
    otel_ml.feedback(f"order-{number}", actual=1, predicted=0)


noted: set[str] = set()
watching = False
here = threading.get_ident()


def audit(event: str, args: tuple[object, ...]) -> None:
    """Note what Python itself reports: files, sockets, processes, imports."""
    if watching and threading.get_ident() == here:
        noted.add(f"audit {event}")


def profile(frame: object, event: str, function: object) -> None:
    """Note C functions by name."""
    if event == "c_call":
        noted.add(f"call {getattr(function, '__qualname__', function)}")


with otel_ml.train("run") as run:
    everything(0)
    # Nothing arrives from now on: the sender hangs in its first request.
    while not telemetry.health().exporters[0].signals["spans"].queued:
        time.sleep(0.01)
    sys.addaudithook(audit)
    watching = True
    sys.setprofile(profile)
    for number in range(asked["calls"]):
        everything(number)
    sys.setprofile(None)
    watching = False

health = telemetry.health().exporters[0].signals
telemetry.shutdown(0.1)
print(json.dumps({"noted": sorted(noted), "dropped": health["spans"].dropped}))
print(time.monotonic(), flush=True)
