"""`otel-ml doctor`: where telemetry goes, whether it is answered there, what became of it, what to type otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from otel_ml._doctor_health import as_lines, as_programs
from otel_ml._doctor_probe import Probed, probe
from otel_ml._doctor_settings import Configured, configured, hearing
from otel_ml._doctor_versions import Installed, install, installed
from otel_ml._health_file import Report, read
from otel_ml._terminal import encodable


def doctor(app: str | None = None, timeout: float = 5.0, *, as_json: bool = False) -> int:
    """Print what was found; return 0 if every exporter answers within `timeout` seconds, else 1.

    Raises `ConfigurationError` for settings that cannot be used.
    """
    found = configured(app)
    with hearing() as heard:
        probed = probe(found.exporters, found.resource, timeout)
    folders = dict.fromkeys(one.health for one in probed if one.health is not None)
    reports = [report for folder in folders for report in read(folder)]
    findings = Findings(found, probed, installed(), [*found.notes, *dict.fromkeys(heard)], reports)
    print(as_data(findings) if as_json else as_text(findings))
    return 0 if findings.ok else 1


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the doctor has to say."""

    configured: Configured
    probed: Sequence[Probed]
    installed: Sequence[Installed]
    notes: Sequence[str]
    reports: Sequence[Report] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing that was asked failed, and something was asked or nothing was wanted."""
        if not self.probed:
            return not self.configured.silent
        return all(one.ok is not False for one in self.probed)


def as_data(findings: Findings) -> str:
    """Return the findings as a JSON object."""
    data = {
        "ok": findings.ok,
        "named_by": findings.configured.source,
        "service": findings.configured.service,
        "exporters": [
            {"where": one.where, "ok": one.ok, "answers": [asdict(answer) for answer in one.answers]}
            for one in findings.probed
        ],
        "programs": as_programs(findings.reports),
        "notes": list(findings.notes),
        "installed": {one.name: one.version for one in findings.installed},
        "to_install": {one.name: _command(one) for one in findings.installed if one.version is None},
    }
    return json.dumps(data, indent=2)


def as_text(findings: Findings) -> str:
    """Return the findings for a person to read."""
    lines = [
        f"service    {findings.configured.service}",
        f"exporters  from {findings.configured.source}",
        "",
        *(line for one in findings.probed for line in _exporter(one)),
    ]
    if not findings.probed:
        lines += [
            f"{_mark(findings.ok)}  no exporter",
            "           Nothing leaves this program. Write otel_ml.configure(exporters=[otel_ml.exporters.OTLP()]).",
        ]
    lines += as_lines(findings.reports, " " * MARGIN)
    lines += [f"\nNote: {note}" for note in findings.notes]
    return "\n".join([*lines, "", *_versions(findings.installed), "", _summary(findings)])


def _exporter(one: Probed) -> list[str]:
    width = max(len(answer.about) for answer in one.answers)
    lines = [f"{_mark(one.ok)}  {one.where}"]
    for answer, following in zip(one.answers, [*one.answers[1:], None], strict=True):
        lines.append(f"{' ' * MARGIN}{answer.about.ljust(width)}  {answer.said}")
        # What is to be done about several signals is said once.
        if answer.advice and (following is None or following.advice != answer.advice):
            lines.append(f"{' ' * MARGIN}{answer.advice}")
    return lines


_WORDS = {True: ("✓", "+", "ok"), False: ("✗", "x", "fails"), None: ("·", "-", "skipped")}
MARGIN = 11


def _mark(ok: bool | None) -> str:
    symbol, plain, word = _WORDS[ok]
    return f"{symbol if encodable(symbol, sys.stdout) else plain} {word}".ljust(MARGIN - 2)


def _versions(found: Sequence[Installed]) -> list[str]:
    width = max(len(one.name) for one in found)
    lines = [f"{one.name.ljust(width)}  {one.version or _missing(one)}" for one in found]
    # One command may bring several.
    return [*lines, *dict.fromkeys(f"Type: {_command(one)}" for one in found if one.version is None)]


def _missing(one: Installed) -> str:
    return f"not installed, needed by otel-ml {one.extra} alone" if one.extra else "not installed"


def _command(one: Installed) -> str:
    return install(one.extra) if one.extra else f"pip install {one.name}"


def _summary(findings: Findings) -> str:
    bad = [one.where for one in findings.probed if one.ok is False]
    if bad:
        return f"No good answer from: {', '.join(bad)}"
    if findings.configured.off:
        return "Nothing is recorded: OTEL_SDK_DISABLED=true switches telemetry off."
    return "Everything answers." if any(one.ok for one in findings.probed) else "There was nothing to ask."
