"""Bring together what `exporters.OTLP` was given and what OpenTelemetry's environment variables say, for each signal."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING, TypeVar

from otel_ml._shield import tell
from otel_ml.errors import ConfigurationError
from otel_ml.exporters._address import is_loopback
from otel_ml.exporters._endpoint import PATHS, Headers, credentials, read_endpoint, read_headers, shown, split_headers
from otel_ml.exporters._wire import Endpoint, Signal, Speaks, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_ml.exporters.otlp import OTLP

PROTOCOLS: dict[str, Speaks] = {"http/protobuf": "http/protobuf", "grpc": "grpc"}
COMPRESSIONS = {"none": False, "gzip": True}
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
DEFAULT_TIMEOUT, DEFAULT_INTERVAL, DEFAULT_DELAY = 10.0, 60.0, 1.0
_DEFAULT_ENDPOINTS = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}

T = TypeVar("T")


def target_of(given: OTLP, signal: Signal) -> Target:
    """Return where one signal goes: argument, else the signal's own variable, else the general one, else the default."""
    protocol = _protocol(given, signal)
    endpoint = _endpoint(given, signal, protocol)
    return Target(
        signal=signal,
        protocol=protocol,
        endpoint=endpoint,
        headers=_headers(given, signal, endpoint),
        timeout=given.timeout or _read(signal, "TIMEOUT", positive, "a number of seconds") or DEFAULT_TIMEOUT,
        gzip=_gzip(given, signal),
        certificate=_file(given.certificate, signal, "CERTIFICATE"),
        client_key=_file(given.client_key, signal, "CLIENT_KEY"),
        client_certificate=_file(given.client_certificate, signal, "CLIENT_CERTIFICATE"),
    )


def shown_target(given: OTLP, signal: Signal) -> tuple[str, str]:
    """Return a signal's address and protocol as they may be shown; never raises."""
    try:
        protocol = _protocol(given, signal)
        return _endpoint(given, signal, protocol).shown, protocol
    except ConfigurationError:
        return shown(given.endpoint or "an endpoint that cannot be used"), given.protocol or "http/protobuf"


def milliseconds(name: str, default: float) -> float:
    """Return a duration of OpenTelemetry's, which are in milliseconds, in seconds."""
    text = os.environ.get(name, "").strip()
    value = understood(name, text, positive, "a number of milliseconds") if text else None
    return default if value is None else value / 1e3


def understood(name: str, text: str, read: Callable[[str], T], form: str) -> T | None:
    """Read a variable's value; one that cannot be understood is warned of and ignored, as the specification has it."""
    try:
        return read(text)
    except (KeyError, ValueError):
        tell(f"otlp:{name}", f"otel_ml does not understand {name} and leaves it out. Write {name} as {form}.")
        return None


def positive(text: str) -> float:
    """Read a positive, finite number; raise `ValueError` for anything else."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _protocol(given: OTLP, signal: Signal) -> Speaks:
    if given.protocol is not None:
        return PROTOCOLS[given.protocol]
    name, text = _variable(signal, "PROTOCOL")
    if text is None:
        return "http/protobuf"
    if text.lower() not in PROTOCOLS:
        raise ConfigurationError(
            f"{name}={text[:40]!r} is not a protocol that OTLP can use here. Write {name}=http/protobuf or {name}=grpc."
        )
    return PROTOCOLS[text.lower()]


def _endpoint(given: OTLP, signal: Signal, protocol: Speaks) -> Endpoint:
    if given.endpoint is not None:
        return _with_path(read_endpoint(given.endpoint, "The endpoint", 'exporters.OTLP("{}")'), signal)
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    name, text = _variable(signal, "ENDPOINT")
    if text is None:
        return _with_path(read_endpoint(_DEFAULT_ENDPOINTS[protocol], "", ""), signal)
    if protocol == "grpc" and "://" not in text:
        # The specification allows it for grpc alone, and has OTEL_EXPORTER_OTLP_INSECURE choose the scheme.
        text = f"{'http' if _insecure(given, signal) else 'https'}://{text}"
    endpoint = read_endpoint(text, name, f"{name}={{}}")
    return endpoint if name == own else _with_path(endpoint, signal)


def _with_path(endpoint: Endpoint, signal: Signal) -> Endpoint:
    path, mark, query = endpoint.path.partition("?")
    return Endpoint(
        endpoint.scheme,
        endpoint.host,
        endpoint.port,
        f"{path.rstrip('/')}{PATHS[signal]}{mark}{query}",
        endpoint.userinfo,
    )


def _headers(given: OTLP, signal: Signal, endpoint: Endpoint) -> Headers:
    if given.headers is not None:
        headers = dict(read_headers(given.headers.items(), "headers"))
    else:
        name, text = _variable(signal, "HEADERS")
        headers = dict(split_headers(text, name)) if text else {}
    if endpoint.userinfo:
        headers.setdefault("authorization", f"Basic {b64encode(endpoint.userinfo.encode()).decode()}")
    if endpoint.scheme == "http" and not _insecure(given, signal) and not is_loopback(endpoint.host):
        for name in credentials(headers):
            del headers[name]
            tell(
                f"otlp:plain:{name}",
                f"otel_ml does not send the header {name!r} unencrypted to {endpoint.shown}. "
                "Use https, or write exporters.OTLP(..., insecure=True).",
            )
    return tuple(headers.items())


def _insecure(given: OTLP, signal: Signal) -> bool:
    return given.insecure or (_variable(signal, "INSECURE")[1] or "").lower() == "true"


def _gzip(given: OTLP, signal: Signal) -> bool:
    if given.compression is not None:
        return COMPRESSIONS[given.compression]
    return _read(signal, "COMPRESSION", lambda text: COMPRESSIONS[text.lower()], "gzip or none") or False


def _file(path: str | Path | None, signal: Signal, setting: str) -> str | None:
    return _variable(signal, setting)[1] if path is None else str(path)


def _read(signal: Signal, setting: str, read: Callable[[str], T], form: str) -> T | None:
    name, text = _variable(signal, setting)
    return None if text is None else understood(name, text, read, form)


def _variable(signal: Signal, setting: str) -> tuple[str, str | None]:
    """Return the name and value of the variable that applies; an empty one counts as not set."""
    general = f"OTEL_EXPORTER_OTLP_{setting}"
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}", general):
        if text := os.environ.get(name, "").strip():
            return name, text
    return general, None
