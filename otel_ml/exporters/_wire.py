"""What one signal needs to reach a collector, what comes back, and the seam between OTLP and its two transports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

Signal = Literal["traces", "metrics", "logs"]
Speaks = Literal["http/protobuf", "grpc"]

# A collector's answer is a few bytes; what is longer is not read.
MAX_ANSWER = 64 * 1024
# The longest pause that a collector may ask for.
MAX_RETRY_AFTER = 300.0
USER_AGENT = "otel_ml"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A collector's address, taken apart. Path (with query) and userinfo may hold secrets: neither is ever shown."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = field(default="/", repr=False)
    userinfo: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        """Host and port as a URL and the Host header have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The address as it may be logged."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Target:
    """Everything about one signal's way to its collector. Times are seconds; the last three are paths of PEM files."""

    signal: Signal
    protocol: Speaks
    endpoint: Endpoint
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    timeout: float
    gzip: bool
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """How an exchange ended: accepted with an answer, refused for a `reason`, or to be tried after `retry_after` s."""

    answer: bytes | None = None
    reason: str = ""
    retry_after: float | None = None


class Wire(Protocol):
    """One connection to one collector, used by one thread at a time and made at the first `send`."""

    def send(self, body: bytes, limit: float) -> Reply:
        """Send an encoded request; return by `limit` (on `time.monotonic()`) whatever the other side does."""
        ...

    def close(self) -> None:
        """Close the connection; a later `send` makes a new one."""
        ...

    def disown(self) -> None:
        """Forget a connection that belongs to the process we were forked from."""
        ...
