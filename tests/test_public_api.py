"""The public face: a few names, in order, each with a docstring and a place in the docs."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import otel_ml
from otel_ml import errors, exporters, testing

ROOT = Path(__file__).parents[1]
PROSE = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")])

# What users do; what else is public is what they meet by doing it.
VERBS = {"configure", "current", "feedback", "flush", "health", "predict", "shutdown", "train"}


def public(module: ModuleType) -> list[tuple[str, object]]:
    """Return a module's public names with what they stand for; `__version__` and its like aside."""
    return [(name, getattr(module, name)) for name in module.__all__ if not name.startswith("_")]


NAMES = [name for name, _ in public(otel_ml)]


def members() -> Iterator[tuple[str, object]]:
    """Return the public methods and properties of every public class, by their full names."""
    for name, value in [*public(otel_ml), *public(exporters), *public(testing)]:
        if inspect.isclass(value) and not issubclass(value, Exception):
            for member, what in vars(value).items():
                if not member.startswith("_") and (callable(what) or isinstance(what, property | classmethod)):
                    yield f"{name}.{member}", what


@pytest.mark.parametrize("module", [otel_ml, exporters, errors, testing], ids=lambda module: module.__name__)
def test_names_are_there(module: ModuleType) -> None:
    """Every name in `__all__` exists, and is there once."""
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_names_are_sorted() -> None:
    """`__all__` is in alphabetical order, capitals first."""
    assert sorted(otel_ml.__all__) == otel_ml.__all__


def test_the_words_a_newcomer_learns() -> None:
    """The verbs are there, and what else is public is a type, an error or a module."""
    assert set(otel_ml.__all__) >= VERBS
    others = {name: value for name, value in public(otel_ml) if name not in VERBS}
    assert all(inspect.isclass(value) or inspect.ismodule(value) for value in others.values()), others


def test_nothing_else_is_public() -> None:
    """`dir(otel_ml)` shows the public names alone, so that completion in an editor does."""
    assert [name for name in dir(otel_ml) if not name.startswith("_")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_docstring(name: str) -> None:
    """`help()` on a public name says something about it."""
    assert (inspect.getdoc(getattr(otel_ml, name)) or "").strip()


def test_every_public_method_has_a_docstring() -> None:
    """So does `help()` on each method and property of the public classes."""
    found = dict(members())

    assert found
    assert [name for name, member in found.items() if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_in_the_docs(name: str) -> None:
    """README or a page of docs/ mentions each public name, as one would type it."""
    assert any(text in PROSE for text in (f"otel_ml.{name}", f"import {name}", f"`{name}`"))


@pytest.mark.parametrize("name", exporters.__all__)
def test_every_exporter_is_in_the_docs(name: str) -> None:
    """docs/exporters.md mentions each exporter."""
    assert f"exporters.{name}(" in (ROOT / "docs" / "exporters.md").read_text(encoding="utf-8")


def test_arguments_of_configure_are_keyword_only() -> None:
    """Every argument of `configure` is optional and given by name."""
    parameters = inspect.signature(otel_ml.configure).parameters.values()

    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_booleans_are_given_by_name(verb: str) -> None:
    """No verb takes a boolean by position: at the call nobody could read what it means."""
    parameters = inspect.signature(getattr(otel_ml, verb)).parameters.values()

    assert [one for one in parameters if isinstance(one.default, bool) and one.kind is not one.KEYWORD_ONLY] == []


@pytest.mark.parametrize(
    "parameter", [*inspect.signature(otel_ml.configure).parameters], ids=lambda parameter: str(parameter)
)
def test_arguments_of_configure_are_in_the_docs(parameter: str) -> None:
    """docs/configure.md says what each argument is for."""
    assert f"`{parameter}" in (ROOT / "docs" / "configure.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", errors.__all__)
def test_errors_are_our_own(error: str) -> None:
    """Everything raised on purpose can be caught as `OtelMLError`."""
    assert issubclass(getattr(errors, error), errors.OtelMLError)
