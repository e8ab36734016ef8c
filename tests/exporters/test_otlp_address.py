"""Where a host name leads: looked up within the deadline, and to no address that serves a machine's credentials."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from time import monotonic

import pytest

from otel_ml._delivery import DELIVERED, Delivers, Delivery
from otel_ml.exporters import OTLP
from otel_ml.exporters._address import Lookup, forbidden, is_loopback, numeric
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, make_spans
from tests.stopwatch import stopwatch

Resolve = Callable[..., list[tuple[object, ...]]]


def deliver(endpoint: str, seconds: float = 5.0) -> Delivery:
    """Deliver three spans."""
    part = OTLP(endpoint).build(RESOURCE).spans
    assert isinstance(part, Delivers)
    try:
        return part.deliver(make_spans(), monotonic() + seconds)
    finally:
        part.shutdown()  # type: ignore[attr-defined]  # a span exporter


def resolving(*addresses: str) -> Resolve:
    """Return a resolver to whom every name is these addresses."""
    real = socket.getaddrinfo

    def resolve(host: str, port: object, *args: int, flags: int = 0, **kwargs: int) -> list[tuple[object, ...]]:
        if flags & socket.AI_NUMERICHOST or host in addresses:
            return [*real(host, port, *args, flags=flags, **kwargs)]  # type: ignore[arg-type]  # passed on
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    return resolve


@pytest.fixture
def stuck_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that answers nobody until the test is over; the names it was asked for."""
    asked: list[str] = []
    over = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, *args: object, flags: int = 0, **kwargs: object) -> object:
        if flags & socket.AI_NUMERICHOST:
            return real(host, *args, flags=flags, **kwargs)  # type: ignore[arg-type]  # passed on
        asked.append(host)
        over.wait(10.0)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield asked
    over.set()
    for thread in threading.enumerate():
        if thread.name == "otel_ml-dns":
            thread.join(5.0)


def test_a_resolver_that_does_not_answer(stuck_resolver: list[str]) -> None:
    """A look-up takes no longer than the deadline, and one that is under way is not begun again."""
    part = OTLP("http://collector:4318").build(RESOURCE).spans
    assert isinstance(part, Delivers)
    with stopwatch() as took:
        for _ in range(3):
            assert part.deliver(make_spans(), monotonic() + 0.2) == Delivery(reason="timeout", retry_after=0.0)
    assert took.seconds < 2.0
    assert stuck_resolver == ["collector"]


def test_a_name_that_leads_to_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is refused once it turns out to lead to an address that serves a machine's credentials."""
    monkeypatch.setattr(socket, "getaddrinfo", resolving("169.254.169.254"))
    assert deliver("http://metadata.example:80") == Delivery(3, "forbidden_address")


def test_other_addresses_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several addresses the forbidden ones are left out, and those that refuse are gone past."""
    with FaultCollector() as collector:
        monkeypatch.setattr(socket, "getaddrinfo", resolving("169.254.169.254", "127.0.0.2", "127.0.0.1"))
        assert deliver(f"http://collector:{collector.port}") == DELIVERED
        assert collector.connections == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses connections")
def test_an_address_that_never_answers_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two addresses, one that drops what is sent to it takes no more than its share of the time."""
    with FaultCollector() as collector, socket.socket() as full, ExitStack() as clients:
        full.bind(("127.0.0.2", collector.port))
        full.listen(0)
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.2", collector.port))
        monkeypatch.setattr(socket, "getaddrinfo", resolving("127.0.0.2", "127.0.0.1"))
        assert deliver(f"http://collector:{collector.port}", 1.0) == DELIVERED


def test_localhost_is_found() -> None:
    """A name is looked up like any other, whichever of its addresses the collector listens on."""
    with FaultCollector() as collector:
        assert deliver(f"http://localhost:{collector.port}") == DELIVERED


def test_an_interpreter_that_starts_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit, where no thread can be started, the look-up is made in the caller's."""

    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    assert ip_address("127.0.0.1") in Lookup().addresses("localhost", monotonic() + 5)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0x7f000001", "127.0.0.1"), ("::1", "::1"),
        ("localhost", None), ("collector.example", None), ("", None), ("a" * 300, None), ("xn--\ud800", None),
    ],
)  # fmt: skip
def test_numeric(host: str, address: str | None) -> None:
    """Every spelling of an address that the system reads is seen as one; names are not looked up."""
    assert numeric(host) == (None if address is None else ip_address(address))


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("169.254.0.1", True), ("169.254.169.254", True), ("::ffff:169.254.169.254", True), ("fd00:ec2::254", True),
        ("169.253.255.255", False), ("10.0.0.1", False), ("127.0.0.1", False), ("fd00:ec2::253", False), ("::1", False),
    ],
)  # fmt: skip
def test_forbidden(address: str, refused: bool) -> None:
    """Link-local IPv4 and the one IPv6 address are forbidden, mapped ones too."""
    assert forbidden(ip_address(address)) is refused


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("a.localhost", True), ("127.0.0.1", True), ("127.255.0.9", True),
        ("::1", True), ("::ffff:127.0.0.1", True), ("localhost.example", False), ("notlocalhost", False),
        ("0.0.0.0", False), ("10.0.0.1", False), ("collector", False),
    ],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    """What stays on this machine is told from the host alone, without a look-up."""
    assert is_loopback(host) is loopback
