"""What checks say: one sentence worth reading, the numbers behind it, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Severity = Literal["info", "warning", "critical"]
Evidence = Mapping[str, str | bool | int | float]


@dataclass(frozen=True)
class Finding:
    """One sentence worth reading about a model or a training run, told once when it begins to hold and once when it ends.

    `rule` is what was looked for, `subject` what it was found in (a feature, a class, a group, a layer; None: the whole
    model), `evidence` the numbers, sample sizes and windows behind it. `open` is False in the finding that says that it
    is over. `at` is the time of what was looked at, in seconds since 1970.

    >>> Finding("drift", "warning", "age has drifted: PSI 0.31 over 500 rows.", subject="age").open
    True
    """

    rule: str
    severity: Severity
    message: str
    advice: str = ""
    subject: str | None = None
    evidence: Evidence = field(default_factory=lambda: MappingProxyType({}))
    open: bool = True
    model: str = ""
    version: str | None = None
    run: str | None = None
    at: float | None = None
