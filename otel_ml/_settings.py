"""Where settings come from: arguments, then variables, then `[tool.otel_ml]` in pyproject.toml, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from otel_ml._shield import tell
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = frozenset({"app", "exporters", "interval", "keep_slower_than", "resource", "sampling", "service"})


def from_pyproject(start: Path | None = None) -> dict[str, object]:
    """Return `[tool.otel_ml]` of the nearest pyproject.toml at or above `start`; empty if there is none.

    >>> from pathlib import Path
    >>> from_pyproject(Path("/nowhere"))
    {}
    """
    from pathlib import Path

    folder = start or Path.cwd()
    for one in (folder, *folder.parents):
        file = one / "pyproject.toml"
        try:
            text = file.read_text(encoding="utf-8")
        except OSError:
            continue
        return _table(file, text)
    return {}


def _table(file: Path, text: str) -> dict[str, object]:
    import tomllib

    try:
        tool = cast("Mapping[str, object]", tomllib.loads(text)).get("tool")
    except tomllib.TOMLDecodeError:
        # Another tool's mistake; it will be told about by that tool.
        return {}
    tools = cast("Mapping[str, object]", tool) if isinstance(tool, dict) else dict[str, object]()
    table = tools.get("otel_ml", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"[tool.otel_ml] in {file} is no table. Write its keys below a line [tool.otel_ml].")
    unknown = sorted(set(cast("dict[str, object]", table)) - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"[tool.otel_ml] in {file} has an unknown key {unknown[0]!r}. Use one of {', '.join(sorted(_KEYS))}."
        )
    return cast("dict[str, object]", table)


def exporter_names() -> list[str] | None:
    """Return the exporters named by `OTEL_ML_EXPORTERS` ("otlp,console"), or None if it is not set."""
    value = os.environ.get("OTEL_ML_EXPORTERS")
    return None if value is None or not value.strip() else [name.strip().lower() for name in value.split(",")]


SIGNALS = {"spans": "OTEL_TRACES_EXPORTER", "metrics": "OTEL_METRICS_EXPORTER", "events": "OTEL_LOGS_EXPORTER"}


def otel_exporter_names() -> dict[str, frozenset[str]] | None:
    """Return what OpenTelemetry's own variables ask for: signals by exporter, or None if they ask for nothing.

    `OTEL_{TRACES,METRICS,LOGS}_EXPORTER` name `otlp`, `console` or `none`, `otlp` where they are not set; an OTLP
    endpoint alone asks for `otlp`.
    """
    given = {signal: os.environ.get(variable, "").strip().lower() for signal, variable in SIGNALS.items()}
    endpoint = any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in os.environ)
    if not endpoint and not any(given.values()):
        return None
    asked: dict[str, set[str]] = {}
    for signal, value in given.items():
        for name in (value or "otlp").split(","):
            if name.strip() and name.strip() != "none":
                asked.setdefault(name.strip(), set()).add(signal)
    return {name: frozenset(signals) for name, signals in asked.items()}


def milliseconds(variable: str) -> float | None:
    """Return a duration of OpenTelemetry's, which are in milliseconds, in seconds; None if it is not set or is none."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    with suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value / 1e3
    tell(f"otlp:{variable}", f"otel_ml does not understand {variable} and leaves it out. Write it in milliseconds.")
    return None


def disabled() -> bool:
    """Say whether `OTEL_SDK_DISABLED` switches telemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
