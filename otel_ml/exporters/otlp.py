"""OTLP: to an OpenTelemetry collector or any back end that speaks its protocol, over HTTP or gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from otel_ml._spool import Spool
from otel_ml.errors import ConfigurationError
from otel_ml.exporters._endpoint import read_endpoint, read_headers, shown, signal_in
from otel_ml.exporters._otlp_settings import (
    COMPRESSIONS,
    DEFAULT_DELAY,
    DEFAULT_INTERVAL,
    PROTOCOLS,
    SIGNALS,
    milliseconds,
    shown_target,
    target_of,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_ml._delivery import Parts


@dataclass(frozen=True, repr=False)
class OTLP:
    """Send spans, metrics and events to an OpenTelemetry collector.

    `endpoint` is the collector's address, to which `/v1/traces`, `/v1/metrics` and `/v1/logs` are added
    (`http://localhost:4318` by default, `http://localhost:4317` with `protocol="grpc"`). `timeout` is in seconds, for
    one whole exchange, however slowly the collector answers (10 by default). `certificate` is the PEM file of the
    authority to trust instead of the system's, `client_certificate` and `client_key` are those to show; a server's
    certificate is always verified. What is not given is read from OpenTelemetry's `OTEL_EXPORTER_OTLP_*` variables, the
    one for a signal before the general one.

    Headers that look like credentials go unencrypted to this machine only, unless `insecure=True`. Redirects are not
    followed, and neither `~/.netrc` nor proxy variables are used. Header values are in no repr, log or message.

    What the collector does not take at once is kept in the `spool`, on disk, and sent in order when it answers again, by
    this process or by a later one with the same endpoint and headers; None: in memory only.

    Raises `ConfigurationError` for an argument that cannot be used, `MissingExtraError` if gRPC is not installed.

    >>> OTLP("http://localhost:4318", headers={"api-key": "secret"})
    OTLP('http://localhost:4318', headers={'api-key': ...})
    """

    endpoint: str | None = None
    _: KW_ONLY
    protocol: Literal["http/protobuf", "grpc"] | None = None
    headers: Mapping[str, str] | None = field(default=None, hash=False)
    compression: Literal["gzip", "none"] | None = None
    timeout: float | None = None
    certificate: str | Path | None = None
    client_key: str | Path | None = None
    client_certificate: str | Path | None = None
    insecure: bool = False
    spool: Spool | None = Spool()  # noqa: RUF009  # a frozen value

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint)
        _check_choice("protocol", self.protocol, PROTOCOLS)
        _check_choice("compression", self.compression, COMPRESSIONS)
        _check_timeout(self.timeout)
        if self.headers is not None:
            if not isinstance(self.headers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without types
                raise ConfigurationError("headers is not a mapping. Write headers={'name': 'value'}.")
            # A copy: what the caller changes later is not what was checked.
            object.__setattr__(self, "headers", dict(read_headers(self.headers.items(), "headers")))
        if self.spool is not None and not isinstance(self.spool, Spool):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without types
            raise ConfigurationError(
                'spool is no Spool. Write spool=exporters.Spool("/var/spool/churn"), or spool=None.'
            )
        if type(self.insecure) is not bool:
            raise ConfigurationError(
                f"insecure must be True or False, not {type(self.insecure).__name__}. Write insecure=True."
            )
        for name in _FILES:
            _check_path(name, getattr(self, name))
        if self.client_key is not None and self.client_certificate is None:
            raise ConfigurationError("client_key is given without client_certificate. Give both PEM files.")

    def build(self, resource: Resource) -> Parts:  # records bring their resource along
        """Make the three exporters; nothing is connected before the first batch."""
        from otel_ml._delivery import Parts
        from otel_ml.exporters._otlp_line import Line
        from otel_ml.exporters._otlp_parts import OTLPEvents, OTLPMetrics, OTLPSpans

        for name in _FILES:
            _check_file(name, getattr(self, name))
        traces, metrics, logs = (Line(target_of(self, signal)) for signal in SIGNALS)
        return Parts(
            spans=OTLPSpans(traces),
            metrics=OTLPMetrics(metrics),
            events=OTLPEvents(logs),
            interval=milliseconds("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_INTERVAL),
            delay=milliseconds("OTEL_BSP_SCHEDULE_DELAY", DEFAULT_DELAY),
            spool=self.spool,
        )

    def describe(self) -> str:
        """Return where telemetry goes, without credentials: `OTLP http://localhost:4318 (http/protobuf)`."""
        places = dict.fromkeys(shown_target(self, signal) for signal in SIGNALS)
        return "OTLP " + ", ".join(f"{where} ({protocol})" for where, protocol in places)

    def __repr__(self) -> str:
        given = [] if self.endpoint is None else [repr(shown(self.endpoint))]
        if self.headers is not None:
            given.append(f"headers={{{', '.join(f'{name!r}: ...' for name in self.headers)}}}")
        for name in ("protocol", "compression", "timeout", "certificate", "client_key", "client_certificate"):
            value = getattr(self, name)
            if value is not None:
                given.append(f"{name}={value!r}")
        if self.insecure:
            given.append("insecure=True")
        if self.spool != Spool():
            given.append(f"spool={self.spool!r}")
        return f"OTLP({', '.join(given)})"


_FILES = ("certificate", "client_certificate", "client_key")


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    if not isinstance(endpoint, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without types
        raise ConfigurationError('endpoint is not text. Write exporters.OTLP("http://localhost:4318").')
    read = read_endpoint(endpoint, "The endpoint", 'exporters.OTLP("{}")')
    signal = signal_in(read)
    if signal is not None:
        raise ConfigurationError(
            f"The endpoint ends in /v1/{signal}, which is added for each signal. "
            f'Write exporters.OTLP("{shown(endpoint)}"), or set OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT.'
        )


def _check_choice(name: str, value: str | None, choices: Mapping[str, object]) -> None:
    if value is not None and value not in choices:
        usable = " or ".join(f'{name}="{choice}"' for choice in choices)
        raise ConfigurationError(f"{name}={value!r:.60} is not one that OTLP can use. Write {usable}.")


def _check_path(name: str, path: object) -> None:
    if path is not None and not isinstance(path, str | Path):
        raise ConfigurationError(f'{name} is no path but {type(path).__name__}. Write {name}="/etc/ssl/{name}.pem".')


def _check_file(name: str, path: str | Path | None) -> None:
    """Refuse a file that is missing, also where none is needed: nobody who names one means to go without."""
    if path is not None and not isfile(path):  # noqa: PTH113  # `is_file` raises where a folder may not be looked into
        raise ConfigurationError(f"The PEM file {str(path)!r} of {name}= is not there. Check path and permissions.")


def _check_timeout(timeout: float | None) -> None:
    if timeout is None:
        return
    if type(timeout) not in (int, float) or not 0 < timeout < float("inf"):
        raise ConfigurationError("timeout is not a positive number of seconds. Write timeout=10.0.")
