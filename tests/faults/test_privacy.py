"""Promise 11: data stays the user's: fifty secrets in every place a program has some, and none of them gets out."""

import base64
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_ml
from otel_ml.testing import FaultCollector
from tests.faults.running import run

pytestmark = pytest.mark.faults

# The first are data; the others are in the environment, in headers and in addresses.
SECRETS = [f"c4nary{number:03}s3cret" for number in range(75)]
DATA = 60
PUBLIC = "sh0wn"
HEADER, TOKEN, USER, PASSWORD, ENVIRONMENT, NETRC_USER, NETRC_PASSWORD, QUERY = SECRETS[DATA : DATA + 8]


def found_in(content: bytes, secrets: list[str]) -> list[str]:
    """Return the secrets that are in some bytes, plain or in base64."""
    shapes = {one: {one.encode(), base64.b64encode(one.encode()).rstrip(b"=")[:-1]} for one in secrets}
    return [one for one, forms in shapes.items() if any(form in content for form in forms)]


@pytest.fixture(params=["healthy", 500, 401, "redirect", "reset", "silent"])
def collector(request: pytest.FixtureRequest) -> Iterator[FaultCollector]:
    """A collector that takes what it is sent, or one that fails, about which there is something to log."""
    with FaultCollector(request.param) as made:
        yield made


def test_no_secret_leaves_the_program(
    collector: FaultCollector, bare_environment: dict[str, str], tmp_path: Path
) -> None:
    """Neither in OTLP, in the store, on the console, in logs at DEBUG nor in anything of ours that is printed."""
    home, store, log = Path(bare_environment["HOME"]), tmp_path / "private" / "store.db", tmp_path / "debug.log"
    (home / ".netrc").write_text(f"machine 127.0.0.1 login {NETRC_USER} password {NETRC_PASSWORD}\n")
    (home / ".netrc").chmod(0o600)
    host = collector.endpoint.removeprefix("http://")
    ended = run(
        "secretive", bare_environment | {"MY_PASSWORD": ENVIRONMENT, "http_proxy": f"http://{USER}:{PASSWORD}@127.0.0.1:1"},
        secrets=SECRETS, data=DATA, header=HEADER, token=TOKEN, store=str(store), log=str(log),
        public=PUBLIC, endpoints=[collector.endpoint, f"http://{USER}:{PASSWORD}@{host}/?key={QUERY}"],
    )  # fmt: skip

    assert ended.code == 0, ended.err
    assert found_in((ended.out + ended.err).encode(), SECRETS) == []
    assert found_in(log.read_bytes(), SECRETS) == []
    stored = b"".join(file.read_bytes() for file in store.parent.rglob("*") if file.is_file())
    assert found_in(stored, SECRETS) == []
    # The spool and what is in it: names of folders and files, too.
    home = [*(Path(bare_environment["HOME"]) / ".local").rglob("*")]
    assert home
    assert found_in(b"".join(file.read_bytes() for file in home if file.is_file()), SECRETS) == []
    assert found_in("".join(map(str, home)).encode(), SECRETS) == []
    assert found_in(stored, [PUBLIC])
    assert found_in(b"".join(request.body for request in collector.requests), SECRETS) == []
    # Headers are what they were given for; but nothing else is in them.
    heads = b"".join(request.head for request in collector.requests)
    assert set(found_in(heads, SECRETS)) <= {HEADER, TOKEN, USER, PASSWORD, QUERY}
    if collector.mode == "healthy":
        assert found_in(collector.raw, [PUBLIC])
        assert found_in(heads, SECRETS)
    assert ended.said["unused"] <= DATA - 50  # type: ignore[operator]  # a number


def test_the_store_is_for_its_owner_alone(workdir: Path) -> None:
    """The file has mode 0600, and so have those beside it; the folder that is made for it has 0700."""
    before = os.umask(0)
    try:
        otel_ml.configure(exporters=[otel_ml.exporters.Local("made/for/store.db")])
        with otel_ml.predict("churn"):
            pass
        assert otel_ml.flush()
        made = [*(workdir / "made" / "for").rglob("*")]
    finally:
        os.umask(before)

    assert made
    assert {stat.S_IMODE(one.stat().st_mode) for one in made if one.is_file()} == {0o600}
    assert {stat.S_IMODE(one.stat().st_mode) for one in made if one.is_dir()} <= {0o700}
    assert stat.S_IMODE((workdir / "made" / "for").stat().st_mode) == 0o700


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}\n", f"{TOKEN}\r\nHost: elsewhere", f"{TOKEN}\0", f"{TOKEN}é"])
def test_a_header_that_cannot_be_sent_is_not_shown(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """A secret file that ends in a newline is a mistake often made: the value is sent clean, or not shown."""
    caplog.set_level("DEBUG")
    try:
        place = otel_ml.exporters.OTLP("http://127.0.0.1:1", headers={"authorization": value})
        assert TOKEN not in repr(place)
    except otel_ml.ConfigurationError as error:
        assert TOKEN not in str(error)  # noqa: PT017  # not raising is right too
    assert TOKEN not in caplog.text


def test_malformed_header_variables_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's own variable for headers may hold anything."""
    caplog.set_level("DEBUG")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"{TOKEN}")

    with pytest.raises(otel_ml.ConfigurationError) as caught:
        otel_ml.configure(exporters=[otel_ml.exporters.OTLP("http://127.0.0.1:1")])

    assert TOKEN not in str(caught.value)
    assert TOKEN not in caplog.text
