"""A function that yields is watched from its first item to its last, or to where its consumer leaves."""

import sys
import time
from collections.abc import Iterator

import otel_ml
from otel_ml import exporters

otel_ml.configure(service="writer", exporters=[exporters.Console(sys.stdout)])


@otel_ml.predict(model="haiku", version="2")
def write(line: str) -> Iterator[str]:
    for word in line.split():
        time.sleep(0.005)  # stands in for the model
        otel_ml.current().set(last_word=word)
        yield word


print(*write("an old silent pond a frog jumps into the pond"))

# Who stops listening has not failed: the outcome of this call is `partial`.
for word in write("the light of a candle is transferred to another"):
    print(word)
    if word == "candle":
        break
