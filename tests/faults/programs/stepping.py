"""Record and flush while the wall clock jumps by an hour, back and forth, whenever somebody sets a time-out or reads."""

import itertools
import json
import socket
import sys
import time

# Before anything of ours is imported: everybody sees the same clock.
true_time, true_time_ns = time.time, time.time_ns
HOUR = 3_600
_hours = itertools.cycle((1, 0, -1, 0))
_offset = [0]
_steps = [0]
_timeouts: list[float] = []


def step(hours: int | None = None) -> None:
    """Let the wall clock jump."""
    _offset[0] = next(_hours) if hours is None else hours
    _steps[0] += 1


time.time = lambda: true_time() + _offset[0] * HOUR
time.time_ns = lambda: true_time_ns() + _offset[0] * HOUR * 1_000_000_000


class Noting(socket.socket):
    """A socket that notes the time-outs it is given."""

    def settimeout(self, value: float | None) -> None:
        _timeouts.append(float("inf") if value is None else value)
        if asked["during"] == "exchanges":
            step()
        super().settimeout(value)


asked = json.loads(sys.argv[1])
socket.socket = Noting  # type: ignore[misc]  # in place of what everybody imports

import otel_ml  # noqa: E402  # the clock comes first
from tests.faults.places import otlp  # noqa: E402  # likewise

telemetry = otel_ml.configure(service="stepping", exporters=[otlp(asked["endpoint"])])


@otel_ml.predict(model="quick")
def quick(value: int) -> int:
    """Return what it was given."""
    return value


longest, flushed = 0.0, []
for _ in range(4):
    for value in range(20):
        quick(value)
    began = time.monotonic()
    if asked["during"] == "calls":
        with otel_ml.predict("long"), otel_ml.train("long"):
            step(asked["hours"])
            # A series that begins at this time of the clock.
            otel_ml.feedback("id", actual="a", predicted="a", model="late")
            flushed.append(telemetry.flush(5.0))
        step(0)
    else:
        flushed.append(telemetry.flush(5.0))
    longest = max(longest, time.monotonic() - began)
(exporter,) = telemetry.health().exporters
dropped = sum(sum(one.dropped.values()) for one in exporter.signals.values())
telemetry.shutdown()
print(
    json.dumps(
        {"timeouts": [min(_timeouts), max(_timeouts)], "longest": longest, "flushed": flushed, "dropped": dropped,
         "steps": _steps[0]}
    )
)  # fmt: skip
print(time.monotonic(), flush=True)
