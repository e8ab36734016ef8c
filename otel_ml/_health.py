"""The account of telemetry itself: nothing is lost without being counted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """One signal at one exporter, in records (spans, events) or points (metrics).

    `created == delivered + sum(dropped.values()) + queued + spooled`, at any moment. `queued` is in memory, `spooled` on
    disk: it is sent when the exporter's place answers again, by this process or by a later one.
    """

    delivered: int = 0
    queued: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    spooled: int = 0

    @property
    def created(self) -> int:
        """Everything that was ever meant for this exporter, what an earlier process left for it included."""
        return self.delivered + self.queued + self.spooled + sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class ExporterHealth:
    """One exporter: where it sends, and an account for each of its signals (`spans`, `events`, `metrics`)."""

    name: str
    where: str
    signals: dict[str, Account]


@dataclass(frozen=True, slots=True)
class Health:
    """What became of telemetry so far, as `otel_ml.health()` returns it.

    `refused` counts values a host's SDK does not take (negatives in a histogram), `unread` tensors on a device that were
    left out because 1,024 waited to be read, `failures` how often a task of ours failed without the program noticing.

    `unkept` counts, over the whole process, the failed or slow calls that sampling had left out and that got no span
    afterwards, because ten had one in that second. The metrics know them, so nothing is lost: they are no part of
    `dropped`.
    """

    exporters: tuple[ExporterHealth, ...] = ()
    refused: int = 0
    unread: int = 0
    failures: dict[str, int] = field(default_factory=dict[str, int])
    unkept: int = 0

    @property
    def dropped(self) -> int:
        """Records, points and values lost, over all exporters and signals."""
        return (
            self.refused
            + self.unread
            + sum(sum(account.dropped.values()) for exporter in self.exporters for account in exporter.signals.values())
        )

    @property
    def waiting(self) -> int:
        """Records and points that are neither delivered nor lost, over all exporters and signals: in memory and on disk."""
        accounts = [account for exporter in self.exporters for account in exporter.signals.values()]
        return sum(account.queued + account.spooled for account in accounts)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost."""
        return not self.dropped and not self.failures
