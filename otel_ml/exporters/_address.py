"""Where a host name leads: looked up within a deadline, and never to the addresses that hand out a machine's secrets."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import monotonic

Address = IPv4Address | IPv6Address

# Link-local addresses, at which clouds serve credentials to whoever asks from inside the machine.
_FORBIDDEN = (ip_network("169.254.0.0/16"), ip_network("fd00:ec2::254/128"))


class ForbiddenAddressError(OSError):
    """The host leads to an address that serves a machine's credentials."""


class Lookup:
    """Looks host names up in a thread of its own, because `getaddrinfo` cannot be given a time limit.

    A look-up that outlives its caller is waited for by the next one, so that a dead resolver holds one thread at most.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._found: list[list[Address] | OSError] = []

    def addresses(self, host: str, limit: float) -> list[Address]:
        """Return the host's addresses; raise `TimeoutError` at `limit`, `OSError` if there are none to be used."""
        known = numeric(host)
        found = [known] if known is not None else self._look_up(host, limit)
        allowed = [address for address in found if not forbidden(address)]
        if not allowed:
            raise ForbiddenAddressError
        return allowed

    def _look_up(self, host: str, limit: float) -> list[Address]:
        if self._thread is None:
            self._found = []
            thread = threading.Thread(target=_resolve, args=(host, self._found), name="otel_ml-dns", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # an interpreter that is shutting down starts no threads
                _resolve(host, self._found)
            else:
                self._thread = thread
        if self._thread is not None:
            self._thread.join(max(0.0, limit - monotonic()))
            if self._thread.is_alive():
                raise TimeoutError
            self._thread = None
        found = self._found[0]
        if isinstance(found, OSError):
            raise found
        return found


def numeric(host: str) -> Address | None:
    """Return the address that `host` spells in any notation the system reads (`127.1`, `2852039166`), or None."""
    try:
        return _address(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0])
    except (OSError, UnicodeError, ValueError):
        return None


def forbidden(address: Address) -> bool:
    """Say whether no telemetry may be sent to this address."""
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((inner or address) in network for network in _FORBIDDEN)


def is_loopback(host: str) -> bool:
    """Say whether what is sent to `host` stays on this machine."""
    address = numeric(host)
    if address is not None:
        inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (inner or address).is_loopback
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def _resolve(host: str, found: list[list[Address] | OSError]) -> None:
    try:
        addresses = dict.fromkeys(_address(info) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        found.append(list(addresses))
    except OSError as error:
        found.append(error)
    except (UnicodeError, ValueError):
        found.append(socket.gaierror(socket.EAI_NONAME, "not a host name"))


def _address(info: tuple[object, object, object, object, tuple[object, ...]]) -> Address:
    return ip_address(str(info[4][0]))
