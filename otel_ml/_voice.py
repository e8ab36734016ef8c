"""How what checks say becomes telemetry: findings and results as events, numbers as metrics, one line for a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from time import time_ns
from typing import TYPE_CHECKING

from otel_ml import _catalog as names
from otel_ml._catalog import Instrument
from otel_ml._shield import failed
from otel_ml._values import clean

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otel_ml._finding import Finding
    from otel_ml._state import State

# Gauges whose setters are kept.
_MOST = 4_000
_LEVELS = {"info": "info", "warning": "warning", "critical": "error"}


class Voice:
    """Speaks for the checks of one state; only their worker uses it."""

    def __init__(self, on_finding: Callable[[Finding], object] | None) -> None:
        self._on_finding = on_finding
        self._state: State | None = None
        self._setters: dict[tuple[object, ...], Callable[[float], None]] = {}

    def speak_for(self, state: State) -> None:
        """Say everything under this state from now on."""
        self._state = state

    def read(
        self, instrument: Instrument, value: float, model: str, version: str | None, more: Mapping[str, str]
    ) -> None:
        """Add to a counter, or set a gauge."""
        state = self._state
        if state is None:
            return
        if instrument.kind != "gauge":
            state.count(instrument, model, version, dict(more), value)
            return
        key = (instrument.name, model, version, *sorted(more.items()))
        setter = self._setters.get(key)
        if setter is None:
            setter = state.gauge_setter(instrument, model, version, dict(more))
            if len(self._setters) < _MOST:
                self._setters[key] = setter
        setter(value)

    def happened(
        self, name: str, attributes: Mapping[str, object], model: str, version: str | None, at: float | None = None,
        context: SpanContext | None = None,
    ) -> None:  # fmt: skip
        """Emit an event."""
        if self._state is None:
            return
        facts = {names.MODEL: model, names.VERSION: version, **{k: clean(v, 1024) for k, v in attributes.items()}}
        time = time_ns() if at is None else int(at * 1e9)
        self._state.log(name, time, {k: v for k, v in facts.items() if v is not None}, context)

    def find(
        self, finding: Finding, model: str, version: str | None, at: float | None, run: str | None,
        context: SpanContext | None,
    ) -> None:  # fmt: skip
        """Tell of a finding: an event, a count, the user's function, and one line."""
        told = replace(
            finding,
            model=finding.model or model,
            version=finding.version if finding.version is not None else version,
            at=finding.at if finding.at is not None else at,
            run=finding.run if finding.run is not None else run,
        )
        facts: dict[str, object] = {
            names.RULE: told.rule,
            names.SEVERITY: told.severity,
            names.FINDING_STATE: names.OPENED if told.open else names.CLEARED,
            names.FINDING_SUBJECT: told.subject,
            names.FINDING_MESSAGE: told.message,
            names.FINDING_ADVICE: told.advice or None,
            names.RUN_ID: told.run,
            **{names.EVIDENCE + key: value for key, value in told.evidence.items()},
        }
        self.happened(names.FINDING, facts, told.model, told.version, told.at, context)
        if told.open:
            more = {names.RULE: told.rule, names.SEVERITY: told.severity}
            self.read(names.DIAGNOSTIC_FINDINGS, 1, told.model, told.version, more)
        self._line(told)
        if self._on_finding is not None:
            try:
                self._on_finding(told)
            except Exception:
                failed("call on_finding")

    def _line(self, told: Finding) -> None:
        from logging import getLogger

        what = f"{told.model}: {told.message}" if told.open else f"{told.model}: over: {told.message}"
        level = _LEVELS[told.severity] if told.open else "info"
        try:
            getattr(getLogger("otel_ml"), level)("%s", what)
        except Exception:
            failed("log a finding")
