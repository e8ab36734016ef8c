"""Read a collector's address and its headers as people write them, and say in two sentences what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from otel_ml.errors import ConfigurationError
from otel_ml.exporters._address import forbidden, numeric
from otel_ml.exporters._wire import Endpoint, Signal

Headers = tuple[tuple[str, str], ...]


def read_endpoint(text: str, source: str, advice: str) -> Endpoint:
    """Take an address apart; `source` names it in an error, `advice` shows how it is written (with `{}` for the URL)."""

    def wrong(what: str, write: str) -> ConfigurationError:
        return ConfigurationError(f"{source} {shown(text)!r} {what}. Write {advice.format(write)}.")

    if "://" not in text:
        raise wrong("has no scheme", f"http://{shown(text) or 'localhost:4318'}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise wrong("has a character that a URL cannot have", "http://localhost:4318")
    try:
        parts = urlsplit(text)
        host, port, scheme = parts.hostname or "", parts.port, parts.scheme.lower()
    except ValueError:
        raise wrong("is not a URL", "http://localhost:4318") from None
    if scheme not in ("http", "https"):
        raise wrong("is neither http nor https", "http://localhost:4318")
    if not host:
        raise wrong("names no host", f"{scheme}://localhost:4318")
    address = numeric(host)
    if address is not None and forbidden(address):
        raise wrong("is an address that serves this machine's credentials", "http://localhost:4318")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    userinfo = unquote(parts.netloc.rpartition("@")[0])
    return Endpoint("https" if scheme == "https" else "http", host, port or _PORTS[scheme], path, userinfo)


def signal_in(endpoint: Endpoint) -> Signal | None:
    """Return the signal whose path the address already ends in, as `http://localhost:4318/v1/traces` does."""
    path = endpoint.path.partition("?")[0].rstrip("/")
    return next((signal for signal, tail in PATHS.items() if path.endswith(tail)), None)


def shown(text: str) -> str:
    """Return an address as it may be logged: without userinfo, path, query, and without what is not printable."""
    scheme, there, rest = text.rpartition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return "".join(char for char in f"{scheme}{there}{host}" if char.isprintable())


def read_headers(pairs: Iterable[tuple[object, object]], source: str) -> Headers:
    """Return names in lower case and values without surrounding white space; no message ever holds a value."""
    headers: dict[str, str] = {}
    for given, content in pairs:
        if not isinstance(given, str) or not isinstance(content, str):
            raise ConfigurationError(f"{source} are not all text. Write headers={{'name': 'value'}}.")
        name, value = given.strip().lower(), content.strip()
        if not _TOKEN.fullmatch(name):
            raise ConfigurationError(
                f"{source} have a name that HTTP does not allow. Write headers={{'name': 'value'}}."
            )
        if not all(" " <= char <= "~" for char in value):
            raise ConfigurationError(
                f"The value of the header {name!r} in {source} has a line break or another character that cannot be "
                "sent. Remove it, or percent-encode it."
            )
        if name in _OURS or name.startswith("grpc-"):
            raise ConfigurationError(f"{source} set {name!r}, which OTLP sets by itself. Leave it out.")
        headers[name] = value
    return tuple(headers.items())


def split_headers(text: str, source: str) -> Headers:
    """Read headers as OpenTelemetry's environment variables have them: `name=value,name=value`, percent-encoded."""
    pairs: list[tuple[str, str]] = []
    for entry in text.split(","):
        name, equals, value = entry.partition("=")
        if not entry.strip():
            continue
        if not equals:
            raise ConfigurationError(f"{source} has an entry without '='. Write {source}=name=value,name=value.")
        pairs.append((unquote(name), unquote(value)))
    return read_headers(pairs, source)


def credentials(headers: Mapping[str, str]) -> list[str]:
    """Return the names of the headers that look like they let somebody in."""
    return [name for name, value in headers.items() if _SECRET_NAME.search(name) or _SECRET_VALUE.match(value)]


PATHS: dict[Signal, str] = {"traces": "/v1/traces", "metrics": "/v1/metrics", "logs": "/v1/logs"}
_PORTS = {"http": 80, "https": 443}
# RFC 9110: the characters of a field name.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_OURS = frozenset({
    "connection", "content-encoding", "content-length", "content-type", "expect", "host", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
_SECRET_NAME = re.compile(r"auth|key|token|secret|passw|cookie|credential|session|signature|dsn|honeycomb-team")
_SECRET_VALUE = re.compile(r"(?i)(bearer|basic|digest|apikey|token) ")
