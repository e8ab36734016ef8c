"""A program that has OpenTelemetry already keeps its providers: `predict` joins them, without `configure()`."""

import json

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import otel_ml

# What the program has: providers, processors and exporters of its own.
tracer_provider = TracerProvider()
tracer_provider.add_span_processor(
    SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"span    {span.name}, {dict(span.attributes)}\n"))
)
trace.set_tracer_provider(tracer_provider)


def names(data) -> str:
    found = json.loads(data.to_json())["resource_metrics"][0]["scope_metrics"]
    return "".join(f"metric  {one['name']} [{one['unit']}]\n" for scope in found for one in scope["metrics"])


meter_provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter(formatter=names))])
metrics.set_meter_provider(meter_provider)


@otel_ml.predict(model="churn", version="3.2")
def score(customers: list[dict[str, float]]) -> list[float]:
    return [1 / (1 + customer["visits"]) for customer in customers]


with trace.get_tracer("shop").start_as_current_span("GET /churn", attributes={"http.route": "/churn"}):
    score([{"visits": 3.0}, {"visits": 0.0}])

meter_provider.shutdown()
