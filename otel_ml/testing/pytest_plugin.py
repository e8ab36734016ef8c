"""A pytest fixture for users: `pytest_plugins = ["otel_ml.testing.pytest_plugin"]` in a conftest.py."""

from collections.abc import Iterator

import pytest

from otel_ml.testing._recorder import Recorder, record


@pytest.fixture
def recorded_telemetry() -> Iterator[Recorder]:
    """What the test's code would export, as lists: `.spans`, `.events`, `.metrics`."""
    with record() as recorder:
        yield recorder
