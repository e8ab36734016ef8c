"""Places that cannot be used: one clear message, the program goes on, and what is lost is in `health()`."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import otel_ml
from tests.faults.running import Ended, run

pytestmark = pytest.mark.faults


def misplace(env: dict[str, str], **settings: object) -> tuple[Ended, list[str]]:
    """Run the program, check that it went on, and return what it said and what we logged."""
    ended = run("misplaced", env, **({"store": None, "endpoint": None, "file_size": None} | settings))
    assert ended.code == 0, ended.err
    assert ended.said["answers"] == sum(range(10)) * 200
    assert "Traceback" not in ended.err
    return ended, [line for line in ended.err.splitlines() if ":otel_ml:" in line]


def _text_file(path: Path) -> None:
    path.write_text("notes of mine\n" * 100)


def _other_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE customers (name TEXT)")
        database.execute("INSERT INTO customers VALUES ('somebody')")
    database.close()


def _folder(path: Path) -> None:
    path.mkdir()


def _newer(path: Path) -> None:
    telemetry = otel_ml.configure(exporters=[otel_ml.exporters.Local(path)])
    with otel_ml.predict("churn"):
        pass
    telemetry.shutdown()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


class TestStores:
    @pytest.mark.parametrize("make", [_text_file, _other_database, _folder, _newer])
    def test_what_is_no_store_of_ours_is_left_alone(
        self, make: Callable[[Path], None], tmp_path: Path, bare_environment: dict[str, str]
    ) -> None:
        """A foreign file in place of the store keeps its content; one line tells, and every record is counted."""
        path = tmp_path / "store.db"
        make(path)
        before = path.read_bytes() if path.is_file() else None

        ended, lines = misplace(bare_environment, store=str(path))

        assert (path.read_bytes() if path.is_file() else None) == before
        assert ended.said["dropped"]
        about = [line for line in lines if "store.db" in line]
        assert len(about) == 1, lines
        assert len(lines) <= 4

    def test_a_store_that_cannot_be_written(self, tmp_path: Path, bare_environment: dict[str, str]) -> None:
        """A path below a file, which no rights make writable."""
        (tmp_path / "file").write_text("")

        ended, lines = misplace(bare_environment, store=str(tmp_path / "file" / "store.db"))

        assert ended.said["dropped"]
        assert len([line for line in lines if "store.db" in line]) == 1, lines

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_rights(self, tmp_path: Path, bare_environment: dict[str, str]) -> None:
        """A folder of somebody else."""
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)

        ended, lines = misplace(bare_environment, store=str(folder / "store.db"))

        assert ended.said["dropped"]
        assert len([line for line in lines if "store.db" in line]) == 1, lines

    @pytest.mark.parametrize("size", [0, 4_096, 100_000, 400_000])
    def test_a_full_disk(self, size: int, tmp_path: Path, bare_environment: dict[str, str]) -> None:
        """Where no more can be written, the store stays readable, and what did not fit is counted."""
        pytest.importorskip("resource")
        path = tmp_path / "store.db"

        ended, lines = misplace(bare_environment, store=str(path), file_size=size)

        created, dropped = ended.said["created"], ended.said["dropped"]
        assert created == 2_000
        assert dropped
        assert len(lines) <= 4, lines
        if path.exists() and path.stat().st_size:
            with sqlite3.connect(path) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            database.close()


class TestEndpoints:
    @pytest.mark.parametrize(
        "endpoint", ["localhost:4318", "localhost", "", "://x", "ftp://x", "http://", "http://x:port"]
    )
    def test_an_address_that_is_none_is_told_at_once(self, endpoint: str) -> None:
        """An endpoint without scheme, and others that cannot be used: two sentences, the second says what to type."""
        with pytest.raises(otel_ml.ConfigurationError) as caught:
            otel_ml.configure(exporters=[otel_ml.exporters.OTLP(endpoint)])

        assert "Write exporters.OTLP(" in str(caught.value)

    def test_a_variable_without_scheme_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same for OpenTelemetry's own variable, which is named."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")

        with pytest.raises(otel_ml.ConfigurationError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
            otel_ml.configure(exporters=[otel_ml.exporters.OTLP()])

    def test_an_address_that_leads_nowhere_is_told_once(self, bare_environment: dict[str, str]) -> None:
        """A host name that does not exist: the program goes on, and the loss is counted."""
        ended, lines = misplace(bare_environment, endpoint="http://nowhere.invalid:4318")

        assert ended.said["created"] == 2_000
        assert len(lines) <= 4, lines
