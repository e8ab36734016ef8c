"""The rows that compare one path of otel_ml with its own baseline; `python paths.py NAME CALLS ROUNDS` measures one."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from byhand import QUEUE, ByHand, LogsByHand, NullEvents, NullMetrics, NullSpans, ascore, drain, score, tokens
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from rounds import LossError, Run, Side, compare, looped

import otel_ml
from otel_ml import _catalog as names

DURATION = names.PREDICTION_DURATION.name
Watched = Callable[[int], int]
Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Row:
    """One line of the table; `must` and `aim` are ratios of CPU, None where nothing is asked."""

    title: str
    make: Callable[[], Sides]
    must: float | None = None
    aim: float | None = None


def main(name: str, calls: int, rounds: int) -> None:
    """Measure one row, and print it as JSON."""
    by_hand, ours = ROWS[name].make()
    print(json.dumps(asdict(compare(by_hand, ours, calls, rounds))))


# ------------------------------------------------------------------------------------------------ the rows
def sampled() -> Sides:
    return hand(), ours(looped(decorated()))


def official_processor() -> Sides:
    spans, metrics = NullSpans(), NullMetrics()
    telemetry = otel_ml.configure(exporters=[BatchSpanProcessor(spans, max_queue_size=QUEUE), metrics])
    return hand(), side(looped(decorated()), telemetry, spans, metrics)


def unsampled() -> Sides:
    baseline = ByHand(ParentBased(TraceIdRatioBased(0.0)))
    return hand(baseline, spans=False), ours(looped(decorated()), sampling=0.0, spans=False)


def metrics_only() -> Sides:
    baseline = ByHand()
    counted = otel_ml.predict(model="churn", version="3.2", spans=False)(score)
    return hand(baseline, looped(baseline.count()), spans=False), ours(looped(counted), spans=False)


def with_block() -> Sides:
    def call(x: int) -> int:
        with otel_ml.predict("churn", version="3.2"):
            return score(x)

    return hand(), ours(looped(call))


def joined() -> Sides:
    host = ByHand()
    telemetry = otel_ml.configure(tracer_provider=host.tracer_provider, meter_provider=host.meter_provider)
    return hand(), side(looped(decorated()), telemetry, host.spans, host.metrics, also=host.flush)


def foreign_reader() -> Sides:
    spans, metrics = NullSpans(), NullMetrics()
    telemetry = otel_ml.configure(exporters=[spans, PeriodicExportingMetricReader(metrics)])
    return hand(), side(looped(decorated()), telemetry, spans, metrics)


def coroutine() -> Sides:
    baseline = ByHand()
    watched = otel_ml.predict(model="churn", version="3.2")(ascore)
    return hand(baseline, awaited(baseline.coroutine())), ours(awaited(watched))


def generator() -> Sides:
    baseline = ByHand()
    theirs, watched = baseline.generator(), otel_ml.predict(model="churn", version="3.2")(tokens)
    return hand(baseline, looped(lambda x: drain(theirs(x)))), ours(looped(lambda x: drain(watched(x))))


def two_more_attributes() -> Sides:
    baseline = ByHand()

    def call(x: int) -> int:
        otel_ml.current().set(tier="gold", customer=x)
        return score(x)

    watched = otel_ml.predict(model="churn", version="3.2")(call)
    return hand(baseline, looped(baseline.call_with_two_more())), ours(looped(watched))


def local_store() -> Sides:
    from otel_ml.exporters import Local

    folder = tempfile.TemporaryDirectory(prefix="otel_ml-bench-")
    KEPT.append(folder)
    telemetry = otel_ml.configure(exporters=[Local(Path(folder.name) / "telemetry.db")])

    def stored() -> Mapping[str, int]:
        signals = telemetry.health().exporters[0].signals
        return {"spans": signals["spans"].delivered}

    return hand(), Side(looped(decorated()), lambda: sent(telemetry), stored)


def training_step() -> Sides:
    baseline, events = LogsByHand(), NullEvents()
    telemetry = otel_ml.configure(exporters=[NullMetrics(), events])
    block = otel_ml.train("churn", version="3.2")
    KEPT.append(block)
    run = block.__enter__()
    # The event that says that training has begun came first.
    mine = Side(
        looped(lambda _x: run.log(loss=0.25, accuracy=0.9, lr=0.001)),
        lambda: sent(telemetry),
        lambda: {"events": events.seen - 1},
    )
    return Side(looped(baseline.step()), baseline.flush, lambda: {"events": baseline.events.seen}), mine


ROWS = {
    "sampled": Row("sampled call", sampled, 0.12, 0.08),
    "official": Row("sampled, official BatchSpanProcessor", official_processor, 0.15),
    "unsampled": Row("unsampled root call", unsampled, 0.10, 0.06),
    "metrics": Row("metrics only, spans=False", metrics_only, 0.08, 0.05),
    "block": Row("with block, sampled", with_block, 0.16, 0.12),
    "joined": Row("joined to a host's providers", joined, 0.50, 0.40),
    "reader": Row("foreign MetricReader", foreign_reader, 0.50, 0.40),
    "async": Row("coroutine", coroutine),
    "generator": Row("generator of 10 items", generator),
    "dynamic": Row("two more attributes by call.set", two_more_attributes),
    "local": Row("into the local store", local_store),
    "log": Row("run.log, against one log record", training_step),
}
# What has to live as long as the process measures.
KEPT: list[object] = []


# ------------------------------------------------------------------------------------------------ both sides
def decorated() -> Watched:
    """Return the model, watched with every default on."""
    return otel_ml.predict(model="churn", version="3.2")(score)


def hand(baseline: ByHand | None = None, run: Run | None = None, *, spans: bool = True) -> Side:
    """Return the side written by hand."""
    one = baseline or ByHand()
    return Side(
        run or looped(one.call()), one.flush, arrivals(one.spans if spans else None, one.metrics, "byhand.duration")
    )


def ours(run: Run, *, sampling: float | None = None, spans: bool = True) -> Side:
    """Return our side with exporters that go nowhere, so that our own queues and threads do the work."""
    null, metrics = NullSpans(), NullMetrics()
    telemetry = otel_ml.configure(exporters=[null, metrics, NullEvents()], sampling=sampling)
    return side(run, telemetry, null if spans else None, metrics)


def side(
    run: Run,
    telemetry: otel_ml.Telemetry,
    spans: NullSpans | None,
    metrics: NullMetrics,
    also: Callable[[], None] = lambda: None,
) -> Side:
    """Return our side, of which spans and metrics come out where they are told to."""

    def flush() -> None:
        sent(telemetry)
        also()

    return Side(run, flush, arrivals(spans, metrics, DURATION))


def arrivals(spans: NullSpans | None, metrics: NullMetrics, histogram: str) -> Callable[[], Mapping[str, int]]:
    """Return what tells how much has arrived: the spans, and the values counted by a histogram."""

    def arrived() -> Mapping[str, int]:
        counted = {"measurements": metrics.counted(histogram)}
        return counted if spans is None else {"spans": spans.seen, **counted}

    return arrived


def sent(telemetry: otel_ml.Telemetry) -> None:
    """Send everything; raise if anything was lost."""
    if not telemetry.flush(timeout=60.0):
        raise LossError(f"flush said False: {telemetry.health()}")
    if not telemetry.health().ok:
        raise LossError(f"something was lost: {telemetry.health()}")


def awaited(function: Callable[[int], Awaitable[int]]) -> Run:
    """Return what awaits `function` so many times in one event loop."""

    async def many(calls: int) -> None:
        for x in range(calls):
            await function(x)

    return lambda calls: asyncio.run(many(calls))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
