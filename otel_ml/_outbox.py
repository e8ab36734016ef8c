"""The records of one signal on their way to one exporter: tried, tried again, delivered or counted as dropped."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData

from otel_ml._delivery import DELIVERED, Delivers, Delivery
from otel_ml._shield import tell

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
# Delta points that could not be sent are kept for as many intervals; cumulative ones are in the next export anyway.
MAX_DELTAS = 16


class Outbox:
    """One batch at a time, in order. Only the sender calls what sends; anyone may read the account."""

    def __init__(
        self,
        part: SpanExporter | MetricExporter | LogRecordExporter,
        signal: str,
        convert: Callable[..., object] | None,
    ) -> None:
        self._part, self._signal, self._convert = part, signal, convert
        self._batches: deque[tuple[object, int]] = deque()
        self._not_before = 0.0
        self._failures = 0
        self.delivered = 0
        self.dropped: Counter[str] = Counter()
        self._told: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Records taken from the queue and neither delivered nor dropped."""
        return sum(size for _, size in list(self._batches))

    def ready(self, force: bool) -> bool:
        """Say whether it is time to try; `force` tries at once, unless the server asked for a pause."""
        return (force and self._failures < 2) or monotonic() >= self._not_before

    def put(self, records: Sequence[object]) -> bool:
        """Take a batch; False for an empty one."""
        if not records:
            return False
        batch = list(records) if self._convert is None else self._converted(records)
        if batch:
            self._batches.append((batch, len(batch)))
        return bool(batch)

    def put_metrics(self, collected: MetricsData) -> None:
        """Take a collection of metrics."""
        if not _has_deltas(collected):
            # What could not be sent is superseded, not lost: cumulative points hold everything so far.
            self._batches.clear()
        self._batches.append((collected, _points(collected)))
        while len(self._batches) > MAX_DELTAS:
            self.drop("queue_full", self._batches.popleft()[1])

    def send(self, deadline: float) -> bool:
        """Try the oldest batch once; True when it is settled, for better or worse."""
        batch, size = self._batches[0]
        delivery = self._deliver(batch, size, deadline)
        if delivery.retry_after is not None:
            self._failures += 1
            pause = min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
            self._not_before = monotonic() + max(pause, delivery.retry_after)
            return False
        self._failures, self._not_before = 0, 0.0
        if self._batches and self._batches[0][0] is batch:
            self._batches.popleft()
            self.delivered += size - delivery.rejected
            self.drop(delivery.reason or "rejected", delivery.rejected)
        return True

    def drop(self, reason: str, count: int) -> None:
        """Count records that will not be delivered. Writes nothing: what counts here may be a caller."""
        if count:
            self.dropped[reason] += count

    def tell_losses(self) -> None:
        """Say what was dropped since the last time, once a minute for each reason."""
        for reason, count in dict(self.dropped).items():
            if count != self._told.get(reason):
                self._told[reason] = count
                tell(
                    f"dropped:{self._signal}:{reason}",
                    f"otel_ml dropped {self._signal} ({reason}; {count} so far). "
                    "otel_ml.health() counts them and `otel-ml doctor` says what to do.",
                )

    def abandon(self) -> None:
        """Count everything held as dropped at shutdown."""
        held = self.held
        self._batches.clear()
        self.drop("shutdown", held)

    def _converted(self, records: Sequence[object]) -> list[object]:
        assert self._convert is not None  # noqa: S101  # only called where it is set
        batch: list[object] = []
        for one in records:
            try:
                batch.append(self._convert(one))
            except Exception:  # one bad record costs one record
                self.drop("encoding", 1)
        return batch

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


def _points(collected: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def _has_deltas(collected: MetricsData) -> bool:
    return any(
        getattr(metric.data, "aggregation_temporality", None) is AggregationTemporality.DELTA
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
