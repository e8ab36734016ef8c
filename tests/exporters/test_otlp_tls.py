"""`exporters.OTLP` over TLS: certificates are verified, always, and client certificates are shown."""

import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from otel_ml._delivery import DELIVERED, Delivers, Delivery
from otel_ml.exporters import OTLP
from otel_ml.testing import FaultCollector
from tests.otlp_records import RESOURCE, make_spans
from tests.stopwatch import stopwatch


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server's and a client's certificate with their keys, and another authority."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def server(self, *, ask: bool = False) -> ssl.SSLContext:
        """Return what a collector serves with; with `ask` it wants to see a client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.host, self.host_key)
        if ask:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates made for these tests."""
    if shutil.which("openssl") is None:
        message = "openssl is not installed. Type: sudo apt-get install openssl"
        (pytest.fail if os.environ.get("OTEL_ML_REQUIRE_LIVE") == "1" else pytest.skip)(message)
    folder = tmp_path_factory.mktemp("pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "rsa:2048", "-nodes")
    for name in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            *key,
            "-keyout",
            f"{name}_key.pem",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
            "-days",
            "2",
        )
    for name in ("host", "client"):
        openssl("req", *key, "-keyout", f"{name}_key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca_key.pem", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "names",
        )  # fmt: skip
    return Certificates(folder)


def deliver(endpoint: str, seconds: float = 5.0, **settings: str) -> Delivery:
    """Deliver three spans."""
    part = OTLP(endpoint, **settings).build(RESOURCE).spans  # type: ignore[arg-type]  # paths
    assert isinstance(part, Delivers)
    try:
        return part.deliver(make_spans(), monotonic() + seconds)
    finally:
        part.shutdown()  # type: ignore[attr-defined]  # a span exporter


def test_with_the_right_authority(pem: Certificates) -> None:
    """A collector whose certificate is signed by the given authority gets the batch, and the credentials."""
    with FaultCollector(tls=pem.server()) as collector:
        endpoint = collector.endpoint.replace("//", "//bob:secret@")
        assert deliver(endpoint, certificate=pem.ca) == DELIVERED
        assert len(collector.spans) == 3
        assert "authorization" in collector.requests[0].headers


@pytest.mark.parametrize("authority", ["other", None])
def test_with_the_wrong_authority(pem: Certificates, authority: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that is not trusted gets nothing; the batch is kept, and one line says what to type."""
    with FaultCollector(tls=pem.server()) as collector:
        settings = {} if authority is None else {"certificate": getattr(pem, authority)}
        assert deliver(collector.endpoint, **settings) == Delivery(reason="untrusted", retry_after=0.0)
        assert collector.requests == []
    assert 'Write exporters.OTLP(..., certificate="ca.pem")' in caplog.text


def test_the_systems_authorities(pem: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `certificate` the system's authorities are trusted; with it, that one and no other."""
    monkeypatch.setenv("SSL_CERT_FILE", pem.ca)
    with FaultCollector(tls=pem.server()) as collector:
        assert deliver(collector.endpoint) == DELIVERED
        assert deliver(collector.endpoint, certificate=pem.other).reason == "untrusted"


def test_with_the_wrong_name(pem: Certificates) -> None:
    """A certificate for another host gets nothing, whatever `insecure` says."""
    with FaultCollector(tls=pem.server()) as collector:
        part = OTLP(f"https://localhost:{collector.port}", certificate=pem.ca, insecure=True).build(RESOURCE).spans
        assert isinstance(part, Delivers)
        assert part.deliver(make_spans(), monotonic() + 5).reason == "untrusted"
        assert collector.requests == []


def test_a_client_certificate(pem: Certificates) -> None:
    """Where the collector asks for one, it is shown; without it nothing is accepted."""
    with FaultCollector(tls=pem.server(ask=True)) as collector:
        shown = {"client_certificate": pem.client, "client_key": pem.client_key}
        assert deliver(collector.endpoint, certificate=pem.ca, **shown) == DELIVERED
        assert deliver(collector.endpoint, certificate=pem.ca).retry_after == 0.0
        assert len(collector.spans) == 3


@pytest.mark.parametrize("mode", ["silent", "drip"])
def test_the_deadline_holds(pem: Certificates, mode: str) -> None:
    """A collector that dawdles over TLS holds us no longer than one that does without."""
    with FaultCollector(mode, every=0.05, tls=pem.server()) as collector:  # type: ignore[arg-type]  # one of its modes
        with stopwatch() as took:
            assert deliver(collector.endpoint, 0.5, certificate=pem.ca) == Delivery(reason="timeout", retry_after=0.0)
        assert took.seconds < 1.5


def test_the_deadline_holds_for_the_handshake(pem: Certificates) -> None:
    """So does a port that never answers the handshake."""
    with FaultCollector("deaf") as collector:
        with stopwatch() as took:
            endpoint = f"https://127.0.0.1:{collector.port}"
            assert deliver(endpoint, 0.5, certificate=pem.ca) == Delivery(reason="timeout", retry_after=0.0)
        assert took.seconds < 1.5


def test_an_idle_connection_that_was_closed_costs_nothing(pem: Certificates) -> None:
    """A collector that restarts between two batches gets the second one at the first try."""
    with FaultCollector(tls=pem.server()) as collector:
        part = OTLP(collector.endpoint, certificate=pem.ca).build(RESOURCE).spans
        assert isinstance(part, Delivers)
        assert part.deliver(make_spans(), monotonic() + 5) == DELIVERED
        collector.mode = "refused"
        collector.mode = "healthy"
        assert part.deliver(make_spans(), monotonic() + 5) == DELIVERED
        part.shutdown()  # type: ignore[attr-defined]  # a span exporter
        assert collector.connections == 2


def test_grpc_over_tls(pem: Certificates) -> None:
    """GRPC verifies the certificate too, and shows its own."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    class Calls(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    read = {name: Path(getattr(pem, name)).read_bytes() for name in ("ca", "host", "host_key")}
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Calls()])
    credentials = grpc.ssl_server_credentials([(read["host_key"], read["host"])], read["ca"], require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        shown = {"client_certificate": pem.client, "client_key": pem.client_key, "protocol": "grpc"}
        assert deliver(f"https://127.0.0.1:{port}", certificate=pem.ca, **shown) == DELIVERED
        assert deliver(f"https://127.0.0.1:{port}", certificate=pem.other, **shown).reason == "grpc_UNAVAILABLE"
        assert deliver(f"https://127.0.0.1:{port}", certificate=pem.ca, protocol="grpc").reason == "grpc_UNAVAILABLE"
    finally:
        server.stop(None).wait(5.0)
