"""Real training runs, told epoch by epoch: two data sets, two families of models, labels that are right or partly wrong."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Literal

import numpy as np
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from otel_ml.checks import EpochEnd

Data = Literal["digits", "made"]
Family = Literal["network", "boosting"]
EPOCHS = 80


@dataclass(frozen=True)
class Run:
    """One run: its epochs, and how far the validation accuracy fell from its best to its end, in medians of 5."""

    epochs: tuple[EpochEnd, ...]
    rows: int

    @property
    def fall(self) -> float:
        """0.05: five points of a hundred."""
        values = [one.values["val_accuracy"] for one in self.epochs]
        medians = [median(values[at - 4 : at + 1]) for at in range(4, len(values))]
        return max(medians) - medians[-1]


# The share of labels that are drawn anew where they are to be wrong.
NOISE = {"network": 0.4, "boosting": 0.6}


@cache
def run(data: Data, family: Family, noise: float, seed: int) -> Run:
    """Train on labels of which a share is drawn anew; those that it is validated on are right."""
    rng = np.random.default_rng(seed)
    if data == "digits":
        x, y = load_digits(return_X_y=True)
        # Boosting finds the larger class of ten among wrong labels, and hardly ever overfits; of two it does.
        x, y = x / 16.0, y if family == "network" else (y >= 5).astype(int)
    else:
        x, y = make_classification(
            2_000, 30, n_informative=12, n_redundant=5, n_classes=4 if family == "network" else 2, class_sep=1.5,
            flip_y=0.0, random_state=seed,
        )  # fmt: skip
    order = rng.permutation(len(y))
    x, y = x[order], y[order]
    train, validation = slice(0, 1_200), slice(1_200, None)
    labels = y[train].copy()
    wrong = rng.random(len(labels)) < noise
    labels[wrong] = rng.integers(0, int(y.max()) + 1, wrong.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epochs = tuple(_train(family, x[train], labels, x[validation], y[validation], seed))
    return Run(epochs, len(y) - 1_200)


def _train(
    family: Family, x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, seed: int
) -> Iterator[EpochEnd]:
    classes = np.unique(y)
    if family == "network":
        network = MLPClassifier((100,), learning_rate_init=2e-3, batch_size=64, random_state=seed)
        for index in range(EPOCHS):
            network.partial_fit(x, y, classes=classes)
            yield _epoch(index, network, x, y, x_val, y_val)
        return
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.2, max_iter=1, max_leaf_nodes=15, min_samples_leaf=5, warm_start=True, early_stopping=False,
        random_state=seed,
    )  # fmt: skip
    for index in range(EPOCHS):
        boosting.set_params(max_iter=index + 1)
        boosting.fit(x, y)
        yield _epoch(index, boosting, x, y, x_val, y_val)


def _epoch(
    index: int,
    model: MLPClassifier | HistGradientBoostingClassifier,
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray,
    y_val: np.ndarray,
) -> EpochEnd:
    here, there = model.predict_proba(x), model.predict_proba(x_val)
    values = {
        "loss": float(log_loss(y, here, labels=model.classes_)),
        "val_loss": float(log_loss(y_val, there, labels=model.classes_)),
        "accuracy": float((model.classes_[here.argmax(axis=1)] == y).mean()),
        "val_accuracy": float((model.classes_[there.argmax(axis=1)] == y_val).mean()),
    }
    return EpochEnd(index, float(index), 1.0, values)
