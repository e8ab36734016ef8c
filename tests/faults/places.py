"""Make the exporters of these tests in one place: what they have in common is said here, once."""

import otel_ml


def otlp(endpoint: str, **options: object) -> otel_ml.exporters.OTLP:
    """Return an exporter to a collector."""
    return otel_ml.exporters.OTLP(endpoint, **options)  # type: ignore[arg-type]  # options of each test
