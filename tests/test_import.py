"""`import otel_ml` is light: the standard library and at most the OpenTelemetry API."""

import json
import subprocess
import sys
from typing import Any

import pytest

from otel_ml.testing import FaultCollector
from otel_ml.testing._replies import Mode

REPORT = """
import json, sys, threading
print(json.dumps({
    "modules": [name for name in sys.modules if name not in before],
    "threads": threading.active_count(),
}))
"""

# What may be loaded, besides the standard library and ourselves, at the latest when a decorated function is called.
API = ("opentelemetry", "typing_extensions", "importlib_metadata", "zipp")


def loaded_by(code: str, environment: dict[str, str]) -> dict[str, Any]:
    """Run `code` in a fresh interpreter and return what it has loaded and started."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules)\n{code}\n{REPORT}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def foreign(modules: list[str]) -> set[str]:
    """Return the top-level packages that are neither the standard library's, nor ours, nor the API's."""
    packages = {name.partition(".")[0] for name in modules if not name.startswith("_")}
    return packages - set(sys.stdlib_module_names) - {"otel_ml", *API}


BEFORE_CONFIGURE = {
    "import": "import otel_ml",
    "decorator": "import otel_ml\n@otel_ml.predict\ndef score(x): return x",
    "call": "import otel_ml\n@otel_ml.predict\ndef score(x): return x\nscore(1)",
    "block": "import otel_ml\nwith otel_ml.predict('m') as call: call.outputs(1)",
    "run": "import otel_ml\nwith otel_ml.train('m') as run: run.log(loss=1.0)",
    "exporter": "from otel_ml import exporters\nexporters.OTLP('http://localhost:4318')",
}


@pytest.mark.parametrize("code", BEFORE_CONFIGURE.values(), ids=BEFORE_CONFIGURE.keys())
def test_nothing_heavy_is_loaded_before_configure(code: str, bare_environment: dict[str, str]) -> None:
    """Neither the SDK nor an exporter's library nor a framework is loaded, and no thread runs."""
    report = loaded_by(code, bare_environment)

    assert [
        name for name in report["modules"] if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
    ] == []
    assert foreign(report["modules"]) == set()
    assert report["threads"] == 1


def test_configure_loads_no_framework_and_no_back_end(bare_environment: dict[str, str]) -> None:
    """With only the local store, neither grpc nor requests nor numpy is loaded."""
    code = "import otel_ml\notel_ml.configure(exporters=[otel_ml.exporters.Local('t.db')]).shutdown()"
    report = loaded_by(f"import os, tempfile; os.chdir(tempfile.mkdtemp())\n{code}", bare_environment)

    assert foreign(report["modules"]) & {"grpc", "requests", "boto3", "numpy", "pandas", "sklearn", "torch"} == set()
    assert not [name for name in report["modules"] if name.startswith("opentelemetry.exporter")]


def test_what_is_foreign_is_seen(bare_environment: dict[str, str]) -> None:
    """The tests above would see a library that is loaded."""
    report = loaded_by("import opentelemetry.sdk.trace, requests", bare_environment)

    assert "requests" in foreign(report["modules"])
    assert "opentelemetry.sdk.trace" in report["modules"]


SENDERS_IMPORT = """
import importlib.abc, json, sys, tempfile, threading
import otel_ml

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread().name.startswith("otel_ml"):
            imported.append(name)

imported = []
endpoint, keywords = sys.argv[1], json.loads(sys.argv[2])
places = [otel_ml.exporters.OTLP(endpoint, spool=otel_ml.exporters.Spool(tempfile.mkdtemp()), **keywords)]
places += [otel_ml.exporters.Local(tempfile.mkdtemp() + "/store.db"), otel_ml.exporters.Console()]
telemetry = otel_ml.configure(service="importing", exporters=places)
sys.meta_path.insert(0, Watch())
with otel_ml.predict("one"), otel_ml.train("two") as run:
    run.log(loss=0.5)
telemetry.flush(5.0)
telemetry.shutdown(2.0)
print(json.dumps(imported))
"""


@pytest.mark.parametrize("mode", ["healthy", "refused", "reset", "partial_success"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_thread_of_ours_imports(protocol: str, mode: Mode, bare_environment: dict[str, str]) -> None:
    """What a thread is importing when the program forks, the child waits for for ever; gRPC's own keep a fork waiting."""
    with FaultCollector(mode) as collector:
        done = subprocess.run(
            [sys.executable, "-c", SENDERS_IMPORT, collector.endpoint, json.dumps({"protocol": protocol})],
            env=bare_environment,
            capture_output=True,
            text=True,
            check=True,
        )
    imported = json.loads(done.stdout.splitlines()[-1])

    assert [name for name in imported if not name.startswith("grpc.")] == []
