"""What a check gives back for what it was shown: findings, readings for instruments, and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from otel_ml._catalog import Instrument
from otel_ml._finding import Finding


@dataclass(frozen=True)
class Reading:
    """A number for an instrument of the catalogue: added to a counter, or a gauge's latest value."""

    instrument: Instrument
    value: float
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Happened:
    """An event of the catalogue, with its attributes; `at` is when, in seconds since 1970, if not now."""

    name: str
    attributes: Mapping[str, object]
    at: float | None = None


Said = Finding | Reading | Happened
