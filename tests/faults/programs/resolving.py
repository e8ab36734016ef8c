"""Send to a name that is not found, or not for a long time, and go on."""

import json
import socket
import sys
import threading
import time

asked = json.loads(sys.argv[1])
_looked_up: list[str] = []
_find = socket.getaddrinfo


def find(host: str, port: object, *args: int, **options: int) -> object:
    """Do as a resolver does that nobody answers; addresses need none."""
    if options.get("flags", 0) & socket.AI_NUMERICHOST or host == "127.0.0.1":
        return _find(host, port, *args, **options)  # type: ignore[arg-type]  # as it was called
    _looked_up.append(host)
    if asked["seconds"] is not None:
        time.sleep(asked["seconds"])
        host = asked["leads_to"]
    return _find(host, port, *args, **options)  # type: ignore[arg-type]  # likewise


socket.getaddrinfo = find  # type: ignore[assignment]  # in place of what everybody calls

import otel_ml  # noqa: E402  # the resolver comes first
from tests.faults.places import otlp  # noqa: E402  # likewise
from tests.stopwatch import stopwatch  # noqa: E402  # likewise

telemetry = otel_ml.configure(service="resolving", exporters=[otlp(asked["endpoint"], timeout=asked["timeout"])])


@otel_ml.predict
def score(value: int) -> int:
    """Return what it was given."""
    return value


waits, flushed, threads, answers = [], [], [], 0
for _ in range(4):
    answers += sum(score(number) for number in range(100))
    with stopwatch() as took:
        flushed.append(telemetry.flush(asked["flush"]))
    waits.append(took.seconds)
    threads.append(threading.active_count())
account = telemetry.health().exporters[0].signals["spans"]
print(
    json.dumps(
        {
            "answers": answers,
            "waits": waits,
            "flushed": flushed,
            "threads": max(threads),
            "looked_up": len(_looked_up),
            "spans": [account.created, account.delivered, account.queued + account.spooled],
        }
    )
)
print(time.monotonic(), flush=True)
