"""Checks: what to look for in calls, labels and training runs; they need numpy (`pip install 'otel-ml[quality]'`)."""

from importlib.util import find_spec

from otel_ml.errors import MissingExtraError

if find_spec("numpy") is None:
    raise MissingExtraError("Checks need numpy, which is not installed. Type: pip install 'otel-ml[quality]'")

from otel_ml.checks import training  # numpy has to be there
from otel_ml.checks._driver import Check  # likewise
from otel_ml.checks._watch import EpochEnd, Labels, Rows, Step, TrainingWatch, Watch  # likewise

__all__ = [
    "Check",
    "EpochEnd",
    "Labels",
    "Rows",
    "Step",
    "TrainingWatch",
    "Watch",
    "training",
]
