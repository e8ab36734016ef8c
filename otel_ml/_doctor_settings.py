"""Which exporters a program would use, and who says so: found out without starting anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from logging import LogRecord
from typing import TYPE_CHECKING, cast

from otel_ml import _catalog as names
from otel_ml import _configure
from otel_ml._assemble import make_resource
from otel_ml._current import CURRENT
from otel_ml._hosts import global_providers
from otel_ml._places import places
from otel_ml._refused import check_settings
from otel_ml._settings import disabled, exporter_names, from_pyproject, otel_exporter_names
from otel_ml._shield import logger
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource


@dataclass(frozen=True, slots=True)
class Configured:
    """What `configure()` would do here.

    `silent` says that nobody asked for what little there is, `off` that `OTEL_SDK_DISABLED` switches everything off.
    """

    source: str
    resource: Resource
    exporters: tuple[object, ...]
    silent: bool
    notes: tuple[str, ...]
    off: bool = False

    @property
    def service(self) -> str:
        """The name of the service."""
        return str(self.resource.attributes.get(names.SERVICE_NAME, ""))


def configured(app: str | None) -> Configured:
    """Find out what `configure(**settings)` would use, `settings` being what `app` (`package.module:name`) names.

    Raises `ConfigurationError` for settings that cannot be used.
    """
    table = from_pyproject()
    app = app if app is not None else cast("str | None", table.get("app"))
    settings: Mapping[str, object] = {} if app is None else _settings(app)
    given = cast("Sequence[object] | None", settings.get("exporters"))
    check_settings(*map(settings.get, ("sampling", "keep_slower_than", "interval", "resource", "service")))
    with hearing():
        # What it would tell its user about a default, the doctor says in its own words.
        found = places(given, table, host=any(map(settings.get, _PROVIDERS)) or any(global_providers()))
    resource = _configure.resource_facts(
        cast("str | None", settings.get("service")),
        cast("Mapping[str, _configure.Attribute] | None", settings.get("resource")),
        table,
    )
    source = str(app) if given is not None else _source(table)
    notes = tuple(_notes(app, found))
    return Configured(source, make_resource(resource), found or (), source == DEFAULT, notes, disabled())


_PROVIDERS = ("tracer_provider", "meter_provider", "logger_provider")
DEFAULT = "the default, since nothing names any"


@contextmanager
def hearing() -> Generator[list[str]]:
    """Collect what `otel_ml` would log in the block, instead of having it logged."""
    heard: list[str] = []

    def hear(record: LogRecord) -> bool:
        heard.append(record.getMessage())
        return False

    logger.addFilter(hear)
    try:
        yield heard
    finally:
        logger.removeFilter(hear)


def _source(table: Mapping[str, object]) -> str:
    """Return what names the exporters, in the order in which `configure()` looks."""
    if exporter_names() is not None:
        return "OTEL_ML_EXPORTERS"
    if otel_exporter_names() is not None:
        asking = [name for name in sorted(os.environ) if name in _ASKING or _is_endpoint(name)]
        return ", ".join(asking)
    return "[tool.otel_ml] in pyproject.toml" if table.get("exporters") is not None else DEFAULT


_ASKING = frozenset(f"OTEL_{signal}_EXPORTER" for signal in ("TRACES", "METRICS", "LOGS"))


def _is_endpoint(name: str) -> bool:
    return name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT")


def _notes(app: str | None, found: tuple[object, ...] | None) -> list[str]:
    notes: list[str] = []
    if disabled():
        notes.append(
            "OTEL_SDK_DISABLED=true switches everything off: nothing is recorded. Type: unset OTEL_SDK_DISABLED"
        )
    if app is not None and CURRENT.state is not None:
        notes.append(
            f"Importing {app} has called otel_ml.configure(). Keep the settings in a module that starts nothing."
        )
    if found is None:
        notes.append(
            "This program has OpenTelemetry providers of its own, which are joined; their exporters are not ours."
        )
    return notes


def _settings(app: str) -> Mapping[str, object]:
    module, _, name = app.partition(":")
    if not module or not name:
        raise ConfigurationError(
            f"{app!r} does not name settings. Write it as MODULE:NAME: otel-ml doctor --app my_package.telemetry:settings"
        )
    found = getattr(_imported(module), name, None)
    if not isinstance(found, Mapping):
        what = "has no such name" if found is None else f"has a {type(found).__name__} there"
        raise ConfigurationError(
            f"{app!r} does not name settings: {module} {what}. "
            f'Write {name} = {{"service": "churn-api", "exporters": [...]}} there, and configure(**{name}).'
        )
    settings = cast("Mapping[str, object]", found)
    known = signature(_configure.configure).parameters
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ConfigurationError(
            f"{app!r} has {unknown[0]!r}, which configure() does not take. Use some of {', '.join(known)}."
        )
    return settings


def _imported(module: str) -> object:
    # A command finds modules beside itself; `python -m` finds those of the current folder, where the program is.
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109  # sys.path holds text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109  # likewise
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        here = error.name is not None and (module == error.name or module.startswith(f"{error.name}."))
        why = f"There is no module {error.name!r}" if here else f"{module} needs {error.name!r}, which is not installed"
        advice = "Type the command in your project's folder." if here else "Install it, and ask again."
        raise ConfigurationError(f"{why}. {advice}") from error
    except (Exception, SystemExit) as error:
        # Its text may hold what must not be shown.
        raise ConfigurationError(
            f"{module} cannot be imported ({type(error).__name__}). To see why, type: python -c 'import {module}'"
        ) from error
