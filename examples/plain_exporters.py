"""Any standard OpenTelemetry exporter, processor or reader can stand in the list, beside ours."""

import sys

from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_ml
from otel_ml import exporters

kept, metrics = InMemorySpanExporter(), InMemoryMetricReader()
with otel_ml.configure(
    service="churn-api",
    exporters=[
        exporters.Local("churn.db"),
        kept,  # an exporter: gets a queue, a thread and an account, like ours
        SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"span   {span.name}\n")),
        metrics,
        lambda: ConsoleLogRecordExporter(sys.stdout, formatter=lambda event: f"event  {event.log_record.event_name}\n"),
    ],
) as telemetry:
    with otel_ml.predict("churn") as call:
        call.outputs(0.7)
    otel_ml.feedback(call.id, actual=1.0)
    with otel_ml.train("churn") as run:
        run.log(loss=0.4)

    telemetry.flush()
    print(len(kept.get_finished_spans()), "spans in memory")
    for exporter in telemetry.health().exporters:
        print(exporter.where, {signal: account.delivered for signal, account in exporter.signals.items()})
