"""Rules that every file of this repository keeps; CONTRIBUTING.md gives the reasons."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "otel_ml").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

pytestmark = pytest.mark.checkout


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def where(path: Path, node: ast.AST) -> str:
    """Return a place that an editor can open."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def docstrings(module: ast.Module) -> set[int]:
    """Return the identities of the string nodes that are docstrings, or stand alone like one."""
    return {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}


def defined(module: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the classes and functions of a module, nested ones too."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


class TestNames:
    # As they stand in a CamelCase class name or between underscores.
    FORBIDDEN = re.compile(r"(?:^|_|(?<=[A-Za-z]))(Client|Session|Manager|Handler|Factory|Helper|Utils?)(?=$|_|[A-Z])")

    def test_words_that_say_nothing_are_not_used(self) -> None:
        """No class, function or module is named after a mechanism."""
        found = [
            f"{where(path, node)} {node.name}"
            for path in PACKAGE
            for node in defined(tree(path))
            if self.FORBIDDEN.search(node.name if isinstance(node, ast.ClassDef) else node.name.title())
        ]
        found += [str(path) for path in PACKAGE if self.FORBIDDEN.search(path.stem.title())]

        assert found == []

    @pytest.mark.parametrize("name", ["HTTPClient", "SessionStore", "Make_Factory", "Helper", "SpanManager"])
    def test_such_words_are_seen(self, name: str) -> None:
        """The pattern above finds them."""
        assert self.FORBIDDEN.search(name)

    # In a literal that begins so; `otel_ml.<module>` may be spelled anywhere.
    TELEMETRY = re.compile(r"ml\.[a-z]|otel_ml\.(exporter|drop|internal)\.")

    def test_telemetry_names_come_from_the_catalogue(self) -> None:
        """No other file of the package spells the name of a metric, span attribute or event."""
        found = [
            f"{where(path, node)} {node.value}"
            for path in PACKAGE
            if path.name != "_catalog.py"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and self.TELEMETRY.match(node.value)
            if id(node) not in docstrings(tree(path))
        ]

        assert found == []

    def test_telemetry_names_are_well_formed(self) -> None:
        """Names follow OpenTelemetry's rules: lower case, dots, no unit and no `total`; no two metrics share one."""
        from otel_ml import _catalog

        metrics = [metric.name for metric in _catalog.METRICS]
        names = [*metrics, *(event.name for event in _catalog.EVENTS), *(one.name for one in _catalog.ATTRIBUTES)]

        assert len(metrics) == len(set(metrics))
        assert [
            name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.<key>)?", name)
        ] == []
        assert [name for name in metrics if re.search(r"total|seconds|bytes", name)] == []


class TestShape:
    @pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
    def test_a_file_is_a_short_story(self, path: Path) -> None:
        """A file opens with a docstring and has at most 300 lines; the catalogue is a list, and as long as it is."""
        assert path.name == "_catalog.py" or len(path.read_text(encoding="utf-8").splitlines()) <= 300
        assert ast.get_docstring(tree(path))

    def test_every_test_says_what_it_shows(self) -> None:
        """Every test has a docstring."""
        found = [
            where(path, node)
            for path in TESTS
            for node in defined(tree(path))
            if node.name.startswith("test_") and not ast.get_docstring(node)
        ]

        assert found == []

    # A code, and after it why.
    EXCUSE = re.compile(
        r"#\s*(?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignore\[[\w, -]+\]|pyright: ignore\[\w+(?:, ?\w+)*\])\s+\W*\w.{3,}"
    )

    @pytest.mark.parametrize("folder", ["otel_ml", "tests", "docs", "benchmarks", "examples"])
    def test_every_exception_to_a_rule_gives_its_reason(self, folder: str) -> None:
        """A comment that silences a tool names the rule and the reason."""
        silencer = re.compile(r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore)\b.*")
        found = [
            f"{path.relative_to(ROOT)}:{number} {comment[0]}"
            for path in sorted((ROOT / folder).rglob("*.py"))
            if path != Path(__file__)
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if (comment := silencer.search(line)) and not self.EXCUSE.match(comment[0])
        ]

        assert found == []


class TestSafety:
    UNSAFE = frozenset(
        {"exec", "eval", "compile", "pickle.load", "pickle.loads", "marshal.loads", "yaml.load", "os.system"}
    )

    def test_no_code_is_made_from_text(self) -> None:
        """The package calls neither `exec` nor `eval`, and unpickles nothing."""
        found = [
            f"{where(path, node)} {ast.unparse(node.func)}"
            for path in PACKAGE
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in self.UNSAFE
        ]

        assert found == []

    def test_the_private_parts_of_opentelemetry_stay_in_one_file(self) -> None:
        """Only `_otel_private.py` imports what OpenTelemetry marks as private; its logs API counts as public."""
        found = [
            f"{where(path, node)} {name}"
            for path in PACKAGE
            if path.name != "_otel_private.py"
            for node, name in imports(path, types_too=True)
            if name.startswith("opentelemetry.")
            if any(part.startswith("_") for part in re.sub(r"\b(_logs|_log_encoder)\b", "logs", name).split("."))
        ]

        assert found == []


class TestLayers:
    # The ground of the picture in docs/architecture.md; `make lint` checks the floors above it.
    BOTTOM = tuple(
        name.removeprefix("otel_ml.")
        for contract in SETTINGS["tool"]["importlinter"]["contracts"]
        if contract["name"] == "The bottom layer knows no OpenTelemetry"
        for name in contract["source_modules"]
    )
    LIGHT = ("_calls", "_feedback", "_runs", "_train")

    @pytest.mark.parametrize("name", BOTTOM)
    def test_the_bottom_layer_needs_the_standard_library_alone(self, name: str) -> None:
        """A module at the bottom imports the standard library and its neighbours."""
        path = ROOT / "otel_ml" / f"{name}.py"
        floor = {f"otel_ml.{neighbour}" for neighbour in self.BOTTOM}
        found = [imported for _, imported in imports(path)]

        assert [one for one in found if not any(one == x or one.startswith(f"{x}.") for x in (*floor, *STDLIB))] == []

    @pytest.mark.parametrize("name", LIGHT)
    def test_calls_runs_and_feedback_never_reach_the_sdk(self, name: str) -> None:
        """They reach what is below them through the current state: no import of theirs leads to the SDK."""
        reached, waiting = set[str](), [f"otel_ml.{name}"]
        while waiting:
            module = waiting.pop()
            reached.add(module)
            path = file_of(module)
            assert path or not module.startswith("otel_ml"), module
            if path:
                waiting += [imported for _, imported in imports(path) if imported not in reached]

        assert [
            module for module in reached if module.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
        ] == []

    def test_a_forbidden_import_is_seen(self, tmp_path: Path) -> None:
        """Imports inside functions count, those for types alone do not."""
        path = tmp_path / "module.py"
        path.write_text(
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n"
            "def f():\n    from opentelemetry.sdk import trace\n"
        )

        assert [name for _, name in imports(path)] == ["typing.TYPE_CHECKING", "opentelemetry.sdk.trace"]

    # Which file a library that is not OpenTelemetry's may be imported in.
    HOMES: ClassVar = {
        "google": "exporters/_grpc.py",
        "grpc": "exporters/_grpc.py",
        "pytest": "testing/pytest_plugin.py",
        "sklearn": "_demo.py",
        "vega_datasets": "_demo.py",
    }

    def test_a_library_is_imported_in_its_own_file(self) -> None:
        """No other file imports a framework or the library of a back end, be it by name."""
        found = [
            f"{where(path, node)} {name}"
            for path in PACKAGE
            for node, name in [*imports(path), *imports_by_name(path)]
            if (package := name.partition(".")[0]) not in {*STDLIB, "opentelemetry", "otel_ml"}
            if path != ROOT / "otel_ml" / self.HOMES.get(package, "")
            # Checks count with numpy, all of them.
            if not (package == "numpy" and ROOT / "otel_ml" / "checks" in path.parents)
        ]

        assert found == []

    def test_a_version_is_pinned_to_each_lower_bound(self) -> None:
        """The oldest versions that are tested are the oldest that the package admits."""
        bounds = [*SETTINGS["project"]["dependencies"], *SETTINGS["project"]["optional-dependencies"]["demo"]]

        assert SETTINGS["dependency-groups"]["lowest"] == [bound.replace(">=", "==") for bound in bounds]


class TestPrivacy:
    # Somebody's home folder, or the address of one package index.
    PERSONAL = re.compile(r"(?<![\w.])/(?:home|Users)/[a-z]|(?<![\w.])/root\b|https?://\S+/simple\b|file://\S+\.whl")

    def test_files_name_no_machine(self) -> None:
        """No file holds a path of somebody's machine or the address of a package index."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        assert "pyproject.toml" in listed

        found = [
            f"{name}:{number}"
            for name in listed
            if (ROOT / name).is_file() and ROOT / name != Path(__file__)
            for number, line in enumerate((ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1)
            if self.PERSONAL.search(line)
        ]
        assert found == []


STDLIB = set(sys.stdlib_module_names)


def imports(path: Path, *, types_too: bool = False) -> list[tuple[ast.AST, str]]:
    """Return what a file imports, in full names; without what `if TYPE_CHECKING` guards unless asked."""
    guarded = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree(path)):
        if id(node) in guarded and not types_too:
            continue
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def imports_by_name(path: Path) -> list[tuple[ast.AST, str]]:
    """Return what a file gives to `import_module`."""
    return [
        (node, node.args[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]


def file_of(module: str) -> Path | None:
    """Return the file of a module of ours; for a name in a module, that module's."""
    while module.startswith("otel_ml."):
        path = ROOT / module.replace(".", "/")
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
        module = module.rpartition(".")[0]
    return None
