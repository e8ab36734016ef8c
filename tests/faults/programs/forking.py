"""Fork again and again while threads record and exporters are busy; every child records, flushes and leaves."""

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import otel_ml

asked = json.loads(sys.argv[1])
places = [otel_ml.exporters.OTLP(endpoint) for endpoint in asked["http"]]
places += [otel_ml.exporters.OTLP(endpoint, protocol="grpc") for endpoint in asked["grpc"]]
if asked["local"]:
    places.append(otel_ml.exporters.Local(asked["local"]))
# Collections come one after the other, so that a fork finds them in the middle of one.
telemetry = otel_ml.configure(service="forking", exporters=places, interval=0.01)


@otel_ml.predict(id="name")
def score(name: str, variant: int) -> int:
    """Return what it was given, under a label."""
    otel_ml.current().label(variant=variant)  # type: ignore[union-attr]  # inside a call
    return variant


ending = threading.Event()


def record(thread: int) -> None:
    """Record as fast as it goes, with new labels all the time, in a thread of the parent's."""
    with otel_ml.train(f"run-{thread}") as run:
        number = 0
        while not ending.is_set():
            number += 1
            score(f"parent-{thread}-{number}", number)
            run.log(loss=0.5)
            if number % 50 == 0:
                # The queues must not fill up: what a child adds would be dropped, too.
                time.sleep(0.01)


@contextmanager
def around(number: int) -> Iterator[None]:
    """Every third child is forked in the middle of a call."""
    if number % 3:
        yield
        return
    with otel_ml.predict("around"):
        yield


def in_child(number: int) -> None:
    """Record something of the child's own, and leave as multiprocessing does."""
    # Tells where it hangs, and ends it.
    faulthandler.dump_traceback_later(asked["hangs"], exit=True)
    try:
        score(f"child-{number}", number)
        with otel_ml.train("child") as run:
            run.log(loss=0.25)
        flushed = otel_ml.flush(asked["flush"])
        os._exit(0 if flushed or not asked["healthy"] else 3)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(4)


threads = [threading.Thread(target=record, args=(one,), daemon=True) for one in range(2)]
for one in threads:
    one.start()

codes: list[int] = []
for number in range(asked["forks"]):
    with around(number):
        pid = os.fork()
        if pid == 0:
            in_child(number)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
ending.set()
for one in threads:
    one.join(10.0)
telemetry.flush(5.0 if asked["healthy"] else 0.1)
telemetry.shutdown(1.0)
print(json.dumps({"codes": {str(code): codes.count(code) for code in set(codes)}}))
print(time.monotonic(), flush=True)
