"""Arguments of `configure()` that cannot be used are refused here, before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_ml._alarm import Alarm
from otel_ml.errors import ConfigurationError


def check_settings(
    sampling: object, keep_slower_than: object, interval: object, resource: object, service: object
) -> None:
    """Refuse values that cannot be used, whether they are arguments or settings in pyproject.toml."""
    if service is not None and (type(service) is not str or not service.strip()):
        raise ConfigurationError('service must be a name. Write configure(service="churn-api").')
    if sampling is not None and not (_is_number(sampling) and 0 <= cast("float", sampling) <= 1):
        raise ConfigurationError(f"sampling={sampling!r} is no share of calls. Write a number from 0 to 1, as 0.1.")
    for name, value in (("keep_slower_than", keep_slower_than), ("interval", interval)):
        if value is not None and not (_is_number(value) and cast("float", value) > 0):
            raise ConfigurationError(f"{name}={value!r} is no time. Write a number of seconds above 0, as {name}=5.0.")
    if resource is not None and not isinstance(resource, Mapping):
        raise ConfigurationError(
            f"resource must be a mapping, not {type(resource).__name__}. "
            'Write resource={"deployment.environment.name": "prod"}.'
        )
    for key, value in cast("Mapping[object, object]", resource or {}).items():
        if not isinstance(key, str) or not key or not _is_attribute(value):
            raise ConfigurationError(
                f"resource has an entry {key!r} of {type(value).__name__}; names are text, values text, numbers, "
                'booleans or lists of these. Write resource={"deployment.environment.name": "prod"}.'
            )


def _is_attribute(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(one, str | bool | int | float) for one in cast("Sequence[object]", value))
    return isinstance(value, str | bool | int | float)


def check_switches(join: object, set_global: object, current: object, flush_on_sigterm: object) -> None:
    """Refuse what is not True, False or, where it may be left open, None."""
    for name, value in (("join", join), ("set_global", set_global)):
        if value is not None and type(value) is not bool:
            raise ConfigurationError(
                f"{name} must be True, False or None, not {value!r}. Leave {name} out, or write True."
            )
    for name, value in (("current", current), ("flush_on_sigterm", flush_on_sigterm)):
        if type(value) is not bool:
            raise ConfigurationError(
                f"{name} must be True or False, not {value!r}. Leave {name} out, or write {name}={name != 'current'}."
            )


def check_providers(tracer_provider: object, meter_provider: object, logger_provider: object, join: object) -> None:
    """Refuse providers that are not the SDK's, and those that `join=False` says are not to be joined."""
    for name, given, kind in (
        ("tracer_provider", tracer_provider, TracerProvider),
        ("meter_provider", meter_provider, MeterProvider),
        ("logger_provider", logger_provider, LoggerProvider),
    ):
        if given is not None and not isinstance(given, kind):
            raise ConfigurationError(
                f"{name} is a {type(given).__name__}, not the OpenTelemetry SDK's {kind.__name__}. "
                f"Pass the provider that your application set up with opentelemetry.sdk."
            )
        if given is not None and join is False:
            raise ConfigurationError(
                f"{name}= was given, and join=False says that no provider is to be joined. "
                f"Leave one of the two out of otel_ml.configure()."
            )


def check_what_is_looked_for(checks: object, alarms: object, on_finding: object) -> None:
    """Refuse what is no check, no alarm, and no function."""
    for one in _members("checks", checks, "[checks.Drift(reference=...)]"):
        if isinstance(one, type) or not callable(getattr(one, "watch", None)):
            kind = one.__name__ if isinstance(one, type) else type(one).__name__
            raise ConfigurationError(
                f"checks=[...] holds {kind!r}, which is no check. "
                "Write for example otel_ml.configure(checks=[otel_ml.checks.training.Overfit()])."
            )
    alarms_ = _members(
        "alarms", alarms, '[Alarm(name="slow", metric="ml.prediction.duration", quantile=0.99, above=0.5)]'
    )
    for one in alarms_:
        if not isinstance(one, Alarm):
            raise ConfigurationError(
                f"alarms=[...] holds {type(one).__name__!r}, which is no alarm. Write otel_ml.Alarm(name=..., metric=...)."
            )
    named = [cast("Alarm", one).name for one in alarms_]
    twice = next((one for one in named if named.count(one) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"Two alarms are called {twice!r}. Give each a name of its own.")
    if on_finding is not None and not callable(on_finding):
        raise ConfigurationError(
            f"on_finding must be a function, not {type(on_finding).__name__}. Write on_finding=lambda finding: ..."
        )


def _members(name: str, given: object, example: str) -> Sequence[object]:
    if not isinstance(given, list | tuple):
        raise ConfigurationError(f"{name} must be a list, not {type(given).__name__}. Write {name}={example}.")
    return cast("Sequence[object]", given)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast("float", value))
