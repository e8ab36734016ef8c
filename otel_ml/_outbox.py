"""The records of one signal on their way to an exporter that takes objects: tried, delivered or counted as dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData

from otel_ml._delivery import DELIVERED, Delivers, Delivery
from otel_ml._pauses import Pauses
from otel_ml._tally import Tally

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

T = TypeVar("T")

# Delta points that could not be sent are kept for as many intervals; cumulative ones are in the next export anyway.
MAX_DELTAS = 16


class Way(Protocol):
    """One signal's way out of a sink. Only the sender calls `send`; anyone may read the tally."""

    @property
    def tally(self) -> Tally: ...

    @property
    def pauses(self) -> Pauses: ...

    @property
    def keeps(self) -> bool:
        """Whether what is taken outlives the process."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether something has been taken and not been settled."""
        ...

    def take(self, queue: deque[object | None]) -> bool:
        """Take a batch from a queue; False if there is none, or no room for one."""
        ...

    def put_metrics(self, collected: MetricsData) -> None:
        """Take a collection of metrics."""
        ...

    def send(self, deadline: float) -> bool:
        """Try the oldest batch once; True when it is settled, for better or worse."""
        ...

    def abandon(self, until: float) -> None:
        """Nothing is sent any more: keep what can be kept until then, and count the rest as dropped."""
        ...


class Outbox:
    """One batch at a time, in order."""

    keeps = False

    def __init__(
        self,
        part: SpanExporter | MetricExporter | LogRecordExporter,
        tally: Tally,
        convert: Callable[..., object] | None,
    ) -> None:
        self._part, self._convert = part, convert
        self._batches: deque[tuple[object, int]] = deque()
        self.tally, self.pauses = tally, Pauses()

    @property
    def waiting(self) -> bool:
        return bool(self._batches)

    def take(self, queue: deque[object | None]) -> bool:
        if self._batches:
            return False
        records = self.tally.take(queue)
        batch = list(records) if self._convert is None else converted(records, self._convert, self.tally)
        if batch:
            self._batches.append((batch, len(batch)))
        return bool(records)

    def put_metrics(self, collected: MetricsData) -> None:
        size = points(collected)
        self.tally.add(held=size - (0 if has_deltas(collected) else superseded(self.tally, self._batches, size)))
        self._batches.append((collected, size))
        while len(self._batches) > MAX_DELTAS:
            lost = self._batches.popleft()[1]
            self.tally.drop("queue_full", lost, held=lost)

    def send(self, deadline: float) -> bool:
        batch, size = self._batches[0]
        delivery = self._deliver(batch, size, deadline)
        if delivery.retry_after is not None:
            self.pauses.failed(delivery.retry_after)
            return False
        self.pauses.succeeded()
        if self._batches and self._batches[0][0] is batch:
            self._batches.popleft()
            self.tally.settle(size, {delivery.reason or "rejected": delivery.rejected})
        return True

    def abandon(self, until: float) -> None:
        while self._batches:
            lost = self._batches.popleft()[1]
            self.tally.drop("shutdown", lost, held=lost)

    def _deliver(self, batch: object, size: int, deadline: float) -> Delivery:
        part = self._part
        try:
            if isinstance(part, Delivers):
                return part.deliver(batch, deadline)  # type: ignore[arg-type]  # put in by signal, so it fits the part
            answer: object = part.export(batch)  # type: ignore[arg-type]  # likewise
        except BaseException as error:  # also SystemExit, which would end the sender for ever
            return Delivery(size, f"exporter_raised_{type(error).__name__}")
        # SpanExportResult, MetricExportResult and LogRecordExportResult all have SUCCESS = 0.
        return DELIVERED if getattr(answer, "value", 0) == 0 else Delivery(size, "exporter_failed")


def converted(records: Sequence[object], convert: Callable[..., object], tally: Tally) -> list[object]:
    """Return what exporters take; a record that cannot be made into it costs itself alone."""
    batch: list[object] = []
    for one in records:
        try:
            batch.append(convert(one))
        except Exception:  # whatever somebody else's record holds
            tally.drop("encoding", 1, held=1)
    return batch


def superseded(tally: Tally, held: deque[tuple[T, int]], size: int) -> int:
    """Let go of a collection that the next one says again: cumulative points hold everything so far.

    Returns how many of its points the next one, of `size` points, stands for; what is beyond those is dropped.
    """
    former = sum(held.popleft()[1] for _ in range(len(held)))
    tally.drop("superseded", former - size, held=max(0, former - size))
    return min(former, size)


def points(collected: MetricsData) -> int:
    """Return how many data points a collection has."""
    return sum(
        len(metric.data.data_points)
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def has_deltas(collected: MetricsData) -> bool:
    """Say whether some points of a collection cover the time since the last one only."""
    return any(
        getattr(metric.data, "aggregation_temporality", None) is AggregationTemporality.DELTA
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
