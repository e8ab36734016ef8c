"""Put records into a spool's folder, or take from it what others left, and say what there was."""

import json
import logging
import os
import sys
import time

from otel_ml._backlog import Backlog
from otel_ml._delivery import Parcel
from otel_ml._spool import Spool
from otel_ml._tally import Tally

asked = json.loads(sys.argv[1])
if asked["user"] is not None:
    os.setgroups([])
    os.setgid(asked["user"])
    os.setuid(asked["user"])
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")


def backlog() -> tuple[Backlog, Tally]:
    """Return what keeps records in the folder."""
    tally = Tally("spans")
    return Backlog(Spool(asked["folder"], max_bytes=asked["max_bytes"]), asked["destination"], tally), tally


def put(into: Backlog, tally: Tally, names: list[str]) -> bool:
    """Put a parcel."""
    tally.add(held=len(names))
    return into.put(Parcel(b"header", tuple(name.encode() for name in names)))


def take(of: Backlog) -> list[str]:
    """Take all there is."""
    of.look()
    names: list[str] = []
    while (load := of.load()) is not None:
        names += [record.decode() for parcel in load.parcels for record in parcel.records]
        of.settle(load, {})
    return names


def write() -> None:
    """Put records, say so, and wait to be told how to go on; forked children only wait."""
    into, tally = backlog()
    kept = [put(into, tally, names) for names in asked["parcels"]]
    children = [os.fork() or wait() for _ in range(asked["children"])]
    print(json.dumps({"kept": kept, "children": children}), flush=True)
    if sys.stdin.readline().strip() == "close":
        into.close(time.monotonic() + 5.0)


def wait() -> int:
    """Be a child that lives until it is killed."""
    while True:
        time.sleep(60.0)


def claim() -> None:
    """Have several processes take what there is, all at the same moment; say what each of them got."""
    ready, start = os.pipe(), os.pipe()
    answers = os.pipe()
    for _ in range(asked["children"]):
        if os.fork() == 0:
            one, _ = backlog()
            os.close(start[1])
            os.write(ready[1], b".")
            os.read(start[0], 1)
            os.write(answers[1], (json.dumps(take(one)) + "\n").encode())
            one.close(time.monotonic() + 5.0)
            os._exit(0)
    for _ in range(asked["children"]):
        os.read(ready[0], 1)
    # The end of the pipe is what all of them wait for.
    os.close(start[1])
    for _ in range(asked["children"]):
        os.wait()
    os.close(answers[1])
    with os.fdopen(answers[0]) as lines:
        print(json.dumps([json.loads(line) for line in lines]), flush=True)


def adopt() -> None:
    """Take what there is, put something of our own, and take that as well."""
    one, tally = backlog()
    found = take(one)
    kept = put(one, tally, ["own"])
    found += take(one)
    account = tally.account(None)
    one.close(time.monotonic() + 5.0)
    print(
        json.dumps({"found": found, "kept": kept, "spooled": account.spooled, "dropped": account.dropped}), flush=True
    )


def fill() -> None:
    """Put records until there have been enough; say how much lay in the folder at most, and what became of them."""
    one, tally = backlog()
    print("ready", flush=True)
    sys.stdin.readline()
    kept = sum(put(one, tally, [f"{asked['name']}-{number}".ljust(1_000)]) for number in range(asked["count"]))
    account = tally.account(None)
    print(json.dumps({"kept": kept, "spooled": account.spooled, "dropped": account.dropped}), flush=True)
    sys.stdin.readline()
    names = [name.strip() for name in take(one)]
    account = tally.account(None)
    one.close(time.monotonic() + 5.0)
    said = {"names": names, "delivered": account.delivered, "spooled": account.spooled, "dropped": account.dropped}
    print(json.dumps(said), flush=True)


{"write": write, "claim": claim, "adopt": adopt, "fill": fill}[asked["what"]]()
