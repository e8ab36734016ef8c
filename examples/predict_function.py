"""Watch a function that predicts: every call becomes a span and a line, and counts in the metrics."""

import sys

import otel_ml
from otel_ml import exporters

otel_ml.configure(service="spam-api", exporters=[exporters.Console(sys.stdout)])

SUSPICIOUS = {"win", "prize", "free", "urgent"}


@otel_ml.predict(model="spam", version="1.2", id="message_id", output=str, labels={"variant": "words"})
def classify(message_id: str, text: str) -> str:
    if not text:
        raise ValueError(f"{message_id} is empty")
    with otel_ml.current().stage("split"):
        words = set(text.lower().split())
    return "spam" if len(words & SUSPICIOUS) >= 2 else "ham"


classify("m-1", "Lunch at noon?")
classify("m-2", "URGENT win a free prize")
try:
    classify("m-3", "")
except ValueError:
    pass  # an exception passes through as it is; its type is recorded, its text is not

# The same without a decorator, for code in the middle of something else.
with otel_ml.predict("spam", version="1.2") as call:
    batch = ["see you tomorrow", "free prize"]
    call.inputs(batch)
    call.outputs(["ham", "spam"])

otel_ml.flush()
for exporter in otel_ml.health().exporters:
    print({signal: account.delivered for signal, account in exporter.signals.items()}, "written by", exporter.where)
