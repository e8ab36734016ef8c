"""Which exporters `configure()` uses, when it was told and when it was not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from otel_ml._members import check_member
from otel_ml._settings import SIGNALS, exporter_names, otel_exporter_names
from otel_ml._shield import logger
from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_ml._delivery import Exporter, Parts


def places(given: Sequence[object] | None, settings: Mapping[str, object], *, host: bool) -> tuple[object, ...] | None:
    """Return the exporters to use, or None where the providers of a `host` are to be joined instead.

    In this order: those given, `OTEL_ML_EXPORTERS`, the host, OpenTelemetry's own variables, `[tool.otel_ml]`, and the
    local store where there is a person to look at it.
    """
    if given is not None:
        if isinstance(given, str) or not isinstance(given, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # users may pass anything
            raise ConfigurationError(
                f"exporters must be a list, not {type(given).__name__}. Write exporters=[otel_ml.exporters.Local()]."
            )
        for one in given:
            check_member(one)
        return tuple(given)
    named = exporter_names()
    if named is None and host:
        return None
    by_signal = otel_exporter_names() if named is None else None
    if by_signal is not None:
        return tuple(
            Only(cast("Exporter", named_place(name, _variable(signals))), signals)
            for name, signals in by_signal.items()
        )
    source = "OTEL_ML_EXPORTERS"
    if named is None and settings.get("exporters") is not None:
        listed = settings["exporters"]
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in cast("list[object]", listed)):
            raise ConfigurationError(
                'exporters in pyproject.toml must be a list of names. Write exporters = ["local", "otlp"].'
            )
        named, source = [name.lower() for name in cast("list[str]", listed)], "exporters in pyproject.toml"
    if named is not None:
        return tuple(named_place(name, source) for name in named if name != "none")
    from otel_ml.exporters.local import Local, serves_a_person

    if serves_a_person():
        place = Local()
        logger.warning("otel_ml writes to the %s. Pass exporters=[...] to send telemetry elsewhere.", place.describe())
        return (place,)
    logger.warning("otel_ml exports nothing here. Write otel_ml.configure(exporters=[otel_ml.exporters.OTLP()]).")
    return ()


def _variable(signals: frozenset[str]) -> str:
    return next(variable for signal, variable in SIGNALS.items() if signal in signals)


@dataclass(frozen=True)
class Only:
    """An exporter of ours for some of the signals, as OpenTelemetry's variables choose them."""

    place: Exporter
    signals: frozenset[str]

    def build(self, resource: Resource) -> Parts:
        """Build the exporter without the signals that were not asked for."""
        built = self.place.build(resource)
        return replace(
            built,
            spans=built.spans if "spans" in self.signals else None,
            metrics=built.metrics if "metrics" in self.signals else None,
            events=built.events if "events" in self.signals else None,
        )

    def describe(self) -> str:
        """Return where telemetry goes."""
        return self.place.describe()


def named_place(name: str, source: str) -> object:
    """Make the exporter of a name; `source` is the variable or setting that holds the name."""
    from otel_ml import exporters

    known = {one.lower(): one for one in exporters.__all__ if one in {"OTLP", "Console", "Local"}}
    if name not in known:
        raise ConfigurationError(
            f"{source} names {name!r}, which is no exporter of otel_ml. Set it to {', '.join(sorted(known))} or none, or "
            "pass the exporter or reader itself to otel_ml.configure(exporters=[...])."
        )
    make: Callable[[], object] = getattr(exporters, known[name])
    return make()
