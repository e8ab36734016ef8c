"""Does an exporter answer? Each of ours is really asked; what is somebody else's is left alone."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from otel_ml._health_writer import health_folder
from otel_ml._members import is_exporter, sort
from otel_ml._places import Only
from otel_ml._store import Store
from otel_ml._store_schema import VARIABLE, VERSION, is_busy
from otel_ml.errors import OtelMLError
from otel_ml.exporters.console import Console
from otel_ml.exporters.local import Local

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_ml._delivery import Delivery, Parts

# The longest to wait for a store that another process is writing to.
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question to an exporter came to; `ok` is None where none was asked. `advice` says what to type."""

    about: str
    ok: bool | None
    said: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Probed:
    """An exporter, its answers, and the folder where programs write what became of telemetry meant for it."""

    where: str
    answers: tuple[Answer, ...]
    health: Path | None = None

    @property
    def ok(self) -> bool | None:
        """False if one answer is bad, None if nothing was asked."""
        asked = [answer.ok for answer in self.answers if answer.ok is not None]
        return all(asked) if asked else None


def probe(exporters: Sequence[object], resource: Resource, timeout: float) -> list[Probed]:
    """Ask every exporter whether it would take telemetry now, all at once; return within `timeout` seconds."""
    with ThreadPoolExecutor(max_workers=max(1, len(exporters)), thread_name_prefix="otel_ml.doctor") as pool:
        return list(pool.map(partial(_probe, resource=resource, timeout=timeout), exporters))


def _probe(given: object, resource: Resource, timeout: float) -> Probed:
    try:
        made = given() if callable(given) and not is_exporter(given) else given
        found = sort((made,), None, resource).parts
    except OtelMLError as error:
        return Probed(_name(given), (Answer("setup", False, *_sentences(str(error))),))
    except Exception as error:
        # A function of the user's, whose exception may hold what must not be shown.
        return Probed(_name(given), (Answer("setup", False, f"{_name(given)} raised {type(error).__name__}"),))
    place = made.place if isinstance(made, Only) else made
    folder = health_folder([parts for _, _, parts, _ in found])
    if isinstance(place, Local):
        return Probed(place.describe(), (_store(place, min(timeout, PATIENCE)),), folder)
    if isinstance(place, Console):
        return Probed(place.describe(), (Answer("stream", True, "is there"),))
    for _, where, parts, _ in found:
        asked = _signals(parts)
        if asked:
            return Probed(where, _ask_all(asked, timeout), folder)
    return Probed(_name(made), (Answer("export", None, "not probed: it is not one of otel_ml's own"),))


# ------------------------------------------------------------------------------------------------ collectors
@runtime_checkable
class _Answers(Protocol):
    """A part that can be asked without any telemetry being sent."""

    def probe(self, deadline: float) -> Delivery: ...

    def shutdown(self) -> None: ...


def _signals(parts: Parts) -> dict[str, _Answers]:
    named: tuple[tuple[str, object], ...] = (
        ("traces", parts.spans),
        ("metrics", parts.metrics),
        ("logs", parts.events),
    )
    return {signal: part for signal, part in named if isinstance(part, _Answers)}


def _ask_all(asked: dict[str, _Answers], timeout: float) -> tuple[Answer, ...]:
    with ThreadPoolExecutor(max_workers=len(asked), thread_name_prefix="otel_ml.doctor") as pool:
        return tuple(pool.map(partial(_ask, timeout=timeout), asked, asked.values()))


def _ask(signal: str, part: _Answers, timeout: float) -> Answer:
    began = perf_counter()
    try:
        delivery = part.probe(monotonic() + timeout)
    finally:
        part.shutdown()
    took = f"{(perf_counter() - began) * 1e3:,.0f} ms"
    if not delivery.reason:
        return Answer(signal, True, f"accepted an empty request in {took}")
    said, advice = _explained(delivery.reason)
    return Answer(signal, False, f"{said} ({delivery.reason}, {took})", advice)


def _explained(reason: str) -> tuple[str, str]:
    """Return what a failed exchange means, and what to do about it."""
    if reason in _REASONS:
        return _REASONS[reason]
    if reason.startswith("http_5"):
        return "the collector fails", "Look at its log."
    return "the collector refuses the request", "Check that the endpoint is an OTLP receiver, and look at its log."


_HEADERS = ("it wants other credentials", "Check headers=, or OTEL_EXPORTER_OTLP_HEADERS.")
_ABSENT = (
    "there is no OTLP receiver for this signal",
    "Check the endpoint's path, and that the collector has a pipeline for it.",
)
_BUSY = ("it takes no more at the moment", "Try again later, or give the collector more room.")
_SILENT = ("it does not answer in time", "Check endpoint and firewall, or wait longer: otel-ml doctor --timeout 30")
_REASONS = {
    "refused": ("nobody listens there", "Start a collector there, or change the endpoint: OTEL_EXPORTER_OTLP_ENDPOINT, or the argument of OTLP."),
    "unknown_host": ("there is no such host", "Check the host's name in the endpoint."),
    "timeout": _SILENT,
    "grpc_DEADLINE_EXCEEDED": _SILENT,
    "untrusted": (
        "its certificate is not trusted",
        "Name the authority's PEM file: OTEL_EXPORTER_OTLP_CERTIFICATE=ca.pem",
    ),
    "not_http": (
        "it does not speak HTTP",
        "If that is its gRPC port, type: OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
    ),
    "reset": (
        "it closes the connection",
        "If it expects TLS, write https://; if that is its gRPC port, OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
    ),
    "grpc_UNAVAILABLE": (
        "nobody answers gRPC there",
        "Start a collector there; if that is its HTTP port, type: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    ),
    "forbidden_address": ("no telemetry is sent to this address", "Name a collector of yours as the endpoint."),
    "http_401": _HEADERS,
    "http_403": _HEADERS,
    "grpc_UNAUTHENTICATED": _HEADERS,
    "grpc_PERMISSION_DENIED": _HEADERS,
    "http_404": _ABSENT,
    "http_405": _ABSENT,
    "grpc_UNIMPLEMENTED": _ABSENT,
    "http_429": _BUSY,
    "http_503": _BUSY,
    "grpc_RESOURCE_EXHAUSTED": _BUSY,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------ the local store
def _store(place: Local, patience: float) -> Answer:
    path = place._file()
    elsewhere = f"Give it another place: {VARIABLE}=/path/store.db"
    try:
        if not path.exists():
            _try_folder(path)
            return Answer("store", True, "is not there yet; the first record makes it")
        # With the bounds it is given by its program: what is too old for others may be wanted there.
        store = Store(path, max_bytes=place.max_bytes, max_age=place.max_age)
        store.write_spans([], patience=patience)
        store.close()
        return Answer("store", True, f"can be written; schema {VERSION}, {_megabytes(path)}")
    except OtelMLError as error:
        return Answer("store", False, *_sentences(str(error)))
    except sqlite3.Error as error:
        if is_busy(error):
            return _LOCKED
        return Answer("store", False, f"cannot be written ({error})", f"Make room on its disk. {elsewhere}")
    except BlockingIOError:
        return _LOCKED
    except OSError as error:
        return Answer("store", False, f"cannot be written ({error.strerror})", elsewhere)


_LOCKED = Answer("store", False, "another program keeps it locked", "Close what has it open for writing.")


def _try_folder(path: Path) -> None:
    """Raise OSError unless a file can be made in the folder, or where the folder would be made."""
    folder = next(one for one in path.absolute().parents if one.exists())
    # Really made, and gone at once: permission bits do not tell of file systems that are read-only.
    with tempfile.TemporaryFile(dir=folder):
        pass


def _megabytes(path: Path) -> str:
    files = (path, Path(f"{path}-wal"))
    return f"{sum(one.stat().st_size for one in files if one.exists()) / 1e6:,.1f} MB"


# ------------------------------------------------------------------------------------------------ names
def _name(given: object) -> str:
    """Return what an exporter, or a function that makes one, may be called; never its repr, which may hold secrets."""
    return str(getattr(given, "__qualname__", None) or type(given).__qualname__)


def _sentences(message: str) -> tuple[str, str]:
    """Part one of our messages into what is wrong and what to type."""
    said, _, advice = message.partition(". ")
    return said, advice
