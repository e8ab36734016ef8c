"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import otel_ml

MODULES = sorted(module.name for module in pkgutil.walk_packages(otel_ml.__path__, "otel_ml."))


@pytest.mark.parametrize("name", ["otel_ml", *MODULES])
def test_docstring_examples(name: str, workdir: Path) -> None:
    """Every `>>>` line of a module gives the line below it."""
    module = importlib.import_module(name)

    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
