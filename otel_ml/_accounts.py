"""What the sinks of one state say became of telemetry: as `health()`, and as metrics that go to every exporter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from otel_ml import _catalog as names
from otel_ml import _shield
from otel_ml._catalog import Instrument
from otel_ml._health import Account, ExporterHealth, Health
from otel_ml._ledger import Ledger, Series
from otel_ml._shield import shielded

if TYPE_CHECKING:
    from otel_ml._buckets import Attributes
    from otel_ml._deferred import Deferrals
    from otel_ml._metrics import Replay
    from otel_ml._sink import Sink

# Exporter, signal, metric, and for what was dropped the reason.
Key = tuple[str, str, str, str]


class Accounts:
    """The accounts of a state's sinks, and of what never came so far."""

    def __init__(self, ledger: Ledger, sinks: Sequence[Sink], replay: Replay | None, deferrals: Deferrals) -> None:
        self._ledger, self._sinks, self._replay, self._deferrals = ledger, sinks, replay, deferrals
        self._said: dict[Key, tuple[Series, int]] = {}
        # With the ledger's lock held, so that each difference is appended once, whoever collects at the same moment.
        ledger.before_fold(self._bring_in)

    def health(self) -> Health:
        """Return what became of everything recorded so far."""
        exporters = tuple(ExporterHealth(sink.name, sink.where, sink.account()) for sink in self._sinks)
        refused = self._replay.refused if self._replay is not None else 0
        return Health(exporters, refused, self._deferrals.unread, _shield.failures())

    def await_labels(self, waiting: Counter[tuple[str | None, str | None]]) -> None:
        """Say from now on how many predictions wait for their labels, by model and version."""
        said: dict[tuple[str | None, str | None], tuple[Series, int]] = {}

        def bring_in() -> None:
            for key, count in list(waiting.items()):
                series, before = said.get(key) or (None, 0)
                if series is None:
                    about = {names.MODEL: key[0], names.VERSION: key[1]}
                    series = self._ledger.series(
                        names.GROUND_TRUTH_PENDING, {k: v for k, v in about.items() if v is not None}
                    )
                if count != before:
                    series.append(count - before)
                said[key] = series, count

        self._ledger.before_fold(bring_in)

    def _bring_in(self) -> None:
        """Append what has changed since the last collection: differences suit every temporality, and a host's replay."""
        with shielded("measure exporters"):
            for sink in self._sinks:
                for signal, account in sink.account().items():
                    for instrument, reason, value in _values(account):
                        self._bring(instrument, (sink.name, signal, instrument.name, reason), value)

    def _bring(self, instrument: Instrument, key: Key, value: int) -> None:
        known = self._said.get(key)
        if known is None:
            if instrument is names.EXPORTER_SPOOLED and not value:
                # Many programs never have any: no series for them.
                return
            attributes: Attributes = {names.EXPORTER: key[0], names.SIGNAL: key[1]}
            if key[3]:
                attributes = {**attributes, names.DROP_REASON: key[3]}
            known = self._ledger.series(instrument, attributes), 0
        series, said = known
        if value < said and instrument.kind == "counter":
            # Read while somebody who moves records was interrupted: what has been said once is not taken back.
            value = said
        if value != said:
            series.append(value - said)
        self._said[key] = series, value


def _values(account: Account) -> Iterator[tuple[Instrument, str, int]]:
    """Give what there is to say of an account; nothing of a signal that has had no record."""
    if not account.created:
        return
    yield names.EXPORTER_CREATED, "", account.created
    yield names.EXPORTER_DELIVERED, "", account.delivered
    yield names.EXPORTER_QUEUED, "", account.queued
    yield names.EXPORTER_SPOOLED, "", account.spooled
    for reason, count in account.dropped.items():
        yield names.EXPORTER_DROPPED, reason, count
