"""Make garbage whose finalizers call a watched function, while watched functions are called."""

import contextvars
import gc
import json
import sys
import time

import otel_ml

asked = json.loads(sys.argv[1])
for index in range(asked["variables"]):
    contextvars.ContextVar(str(index)).set(index)
otel_ml.configure(exporters=[], sampling=asked["sampling"])


@otel_ml.predict(model="churn", spans=asked["spans"])
def score(rows: list[object]) -> list[object]:
    return [rows]


@otel_ml.predict(model="finalizer", spans=asked["spans"])
def finalize(row: object) -> object:
    return row


class Garbage:
    """In a cycle with itself, so that the collector is the one that frees it, in the middle of anything."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        finalize(1)


held = []
for number in range(asked["calls"]):
    if number % asked["every"] == 0:
        Garbage()
    # What is kept makes the collector run.
    held.append(score([{}]))
    if len(held) > 1_000:
        held.clear()
gc.collect()
print(json.dumps({"current": repr(otel_ml.current())}))
print(time.monotonic(), flush=True)
