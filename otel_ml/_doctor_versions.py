"""What is installed, and what to type for what is not."""

from __future__ import annotations

import json
import platform
import shlex
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import cast
from urllib.parse import unquote, urlsplit

from otel_ml._version import VERSION

DISTRIBUTION = "otel-ml"
REQUIRED = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-exporter-otlp-proto-grpc",
    "protobuf",
    "grpcio",
)
# An extra, and what it brings along.
EXTRAS = {"demo": ("numpy", "pandas", "scikit-learn", "vega_datasets")}


@dataclass(frozen=True, slots=True)
class Installed:
    """One package and its version, None if it is missing; `extra` is the extra that brings it, None if all need it."""

    name: str
    version: str | None
    extra: str | None = None


def installed() -> list[Installed]:
    """Return this package, Python, and everything used by it."""
    return [
        Installed("otel_ml", VERSION),
        Installed("python", platform.python_version()),
        *(Installed(name, _version(name)) for name in REQUIRED),
        *(Installed(name, _version(name), extra) for extra, brings in EXTRAS.items() for name in brings),
    ]


def install(extra: str | None = None) -> str:
    """Return what to type to install this package, with an extra, from where it was installed from.

    >>> install("demo").startswith("pip install ")
    True
    """
    source = _source() or DISTRIBUTION
    return f"pip install {shlex.quote(f'{source}[{extra}]' if extra else source)}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _source() -> str | None:
    """Return the checkout that this package was installed from, or None."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
        url = urlsplit(str(cast("dict[str, object]", json.loads(text or "{}")).get("url", "")))
    except (PackageNotFoundError, ValueError, AttributeError):
        return None
    return unquote(url.path) if url.scheme == "file" else None
