"""Watch a training run: an event for every step, a span for every epoch, and how long the data was waited for."""

import sys

import numpy as np

import otel_ml
from otel_ml import exporters

otel_ml.configure(service="trainer", exporters=[exporters.Console(sys.stdout), exporters.Local("runs.db")])

random = np.random.default_rng(0)
features = random.normal(size=(1_000, 4))
labels = (features @ [2.0, -1.0, 0.5, 0.0] + random.normal(size=1_000) > 0).astype(float)
loader = [(features[start : start + 80], labels[start : start + 80]) for start in range(0, 800, 80)]
weights = np.zeros(4)


def loss_of(rows: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    guess = 1 / (1 + np.exp(-rows @ weights))
    return float(-np.mean(truth * np.log(guess) + (1 - truth) * np.log(1 - guess))), guess


with otel_ml.train("churn", version="3.3", params={"lr": 0.5, "batch": 80}) as run:
    for epoch in run.epochs(5):
        for rows, truth in epoch.batches(loader):
            loss, guess = loss_of(rows, truth)
            weights -= 0.5 * rows.T @ (guess - truth) / len(truth)
            run.log(loss=loss, lr=0.5)
        with epoch.evaluate():
            val_loss, guess = loss_of(features[800:], labels[800:])
            epoch.log(val_loss=val_loss, val_accuracy=np.mean((guess > 0.5) == labels[800:]))

otel_ml.flush()
print("kept:", {signal: account.delivered for signal, account in otel_ml.health().exporters[1].signals.items()})
