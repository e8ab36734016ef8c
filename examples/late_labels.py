"""What really happened is told later, and joined to what was predicted: counts that add up over any stretch of time."""

from datetime import date
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_ml

metrics = InMemoryMetricReader()  # any exporter would do; this one can be looked at from here
otel_ml.configure(service="returns", exporters=[metrics])


class Order(NamedTuple):
    number: str
    day: date
    price: float


@otel_ml.predict(model="returns", version="5", id=lambda order: order.number, at=lambda order: order.day, output=str)
def fate(order: Order) -> str:
    return "returned" if order.price > 100 else "kept"


for number, price in enumerate([20.0, 250.0, 80.0, 130.0, 99.0, 310.0]):
    fate(Order(f"order-{number}", date(2026, 3, 1 + number), price))

# Two weeks later: by id, one at a time or many at once.
otel_ml.feedback("order-0", actual="kept", at=date(2026, 3, 15))
ids = [f"order-{number}" for number in range(1, 6)]
otel_ml.feedback(ids, actual=["returned", "returned", "kept", "kept", "returned"], at=date(2026, 3, 20))
# From another program, which does not remember the prediction:
otel_ml.feedback("order-77", actual="returned", predicted="kept", model="returns", version="5")

for resource in metrics.get_metrics_data().resource_metrics:
    for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
        for point in metric.data.data_points if metric.name == "ml.evaluation.confusions" else ():
            said, was = (point.attributes[f"ml.class.{side}"] for side in ("predicted", "actual"))
            print(f"{point.value} times predicted {said}, was {was}")
