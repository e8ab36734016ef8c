"""Record calls at a pace, say which, and end in the way that is asked for: what arrives later was in the spool."""

import json
import multiprocessing
import os
import sys
import time

import otel_ml
from otel_ml import exporters

asked = {
    "spool": None, "headers": [{}], "who": "call", "count": 100, "rate": 1_000.0, "how": "return", "children": 0, "own": True,
} | json.loads(sys.argv[1])  # fmt: skip


@otel_ml.predict(id="name")
def score(name: str) -> str:
    """Return what it was given."""
    return name


def configure() -> otel_ml.Telemetry:
    """Send to the collector, as each tenant does."""
    more = {"spool": exporters.Spool(asked["spool"])} if asked["spool"] else {}
    return otel_ml.configure(
        service="spooling",
        exporters=[exporters.OTLP(asked["endpoint"], headers=headers, **more) for headers in asked["headers"]],
    )


def record(who: str, count: int) -> None:
    """Record calls, and say when each of them was over."""
    began = time.monotonic()
    for number in range(count):
        score(f"{who}-{number:05}")
        if asked["own"]:
            print(f"{number} {time.monotonic()}", flush=True)
        time.sleep(max(0.0, began + (number + 1) / asked["rate"] - time.monotonic()))


def leave(how: str) -> None:
    """End, or wait for the end."""
    if how == "_exit":
        # Half a second is what a record needs at most to be safe.
        time.sleep(0.6)
        os._exit(0)
    if how == "wait":
        while True:
            time.sleep(60.0)


def in_child(who: str) -> str:
    """Record in a child that has the parent's settings, or makes its own."""
    if multiprocessing.get_start_method() != "fork":
        configure()
    record(who, asked["count"])
    return who


def fork(number: int) -> int:
    """Start a worker as a server's master does: it records, and is gone without a word."""
    pid = os.fork()
    if pid == 0:
        record(f"{asked['who']}.{number}", asked["count"])
        leave("_exit")
    return pid


def main() -> None:
    """Do what is asked for."""
    asked["own"] = not asked["children"]
    telemetry = configure()
    names = [f"{asked['who']}.{number}" for number in range(asked["children"])]
    if asked["how"] in ("fork", "spawn"):
        multiprocessing.set_start_method(asked["how"])
        children = [multiprocessing.Process(target=in_child, args=(name,)) for name in names]
        for child in children:
            child.start()
        record(asked["who"], asked["count"])
        for child in children:
            child.join()
    elif asked["how"] == "pool":
        multiprocessing.set_start_method("fork")
        record(asked["who"], asked["count"])
        pool = multiprocessing.Pool(2)
        pool.map(in_child, names, chunksize=1)
        pool.close()
        pool.join()
    elif asked["how"] == "workers":
        # The master records nothing.
        for pid in [fork(number) for number in range(asked["children"])]:
            os.waitpid(pid, 0)
    else:
        record(asked["who"], asked["count"])
    if asked["how"] == "shutdown":
        telemetry.shutdown()
    account = {
        exporter.name: {signal: [one.created, one.delivered, one.queued, one.spooled, one.dropped] for signal, one in exporter.signals.items()}
        for exporter in telemetry.health().exporters
    }  # fmt: skip
    print(json.dumps({"account": account, "pid": os.getpid()}))
    print(time.monotonic(), flush=True)
    leave(asked["how"])


if __name__ == "__main__":
    main()
