"""Write docs/telemetry.md from the catalogue: `python docs/generate.py`."""

from collections.abc import Iterable
from pathlib import Path

from otel_ml import _catalog as catalog

PAGE = Path(__file__).with_name("telemetry.md")


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


def render() -> str:
    """Return the page that the catalogue makes."""
    return "\n".join(
        [
            "# What `otel_ml` records",
            "",
            "<!-- Written by docs/generate.py from otel_ml/_catalog.py: change the catalogue, then type `make docs`. -->",
            "",
            f"Everything comes from one instrumentation scope, `{catalog.SCOPE}`. Names in `<angle brackets>` stand for",
            "a key of yours. What is marked *spans only* or *events only* is never put on a metric, because each new value",
            "there would be a new series.",
            "",
            "## Spans",
            "",
            *_table(("span", "what it is"), ((_code(span.name), span.meaning) for span in catalog.SPANS)),
            "",
            "## Events",
            "",
            "Events are OpenTelemetry log records that have a name.",
            "",
            *_table(("event", "what it is"), ((_code(event.name), event.meaning) for event in catalog.EVENTS)),
            "",
            "## Metrics",
            "",
            *_table(("metric", "kind", "unit", "what it is", "attributes"), map(_metric, catalog.METRICS)),
            "",
            "Histograms have these boundaries, each the upper end of a bucket:",
            "",
            *_table(("metric", "boundaries"), map(_boundaries, filter(lambda one: one.buckets, catalog.METRICS))),
            "",
            "## Attributes",
            "",
            *_table(("attribute", "what it is"), ((_code(one.name), one.meaning) for one in catalog.ATTRIBUTES)),
            "",
        ]
    )


def _metric(metric: catalog.Instrument) -> tuple[str, ...]:
    attributes = ", ".join(map(_code, metric.attributes))
    return _code(metric.name), metric.kind, _code(metric.unit), metric.meaning, attributes


def _boundaries(metric: catalog.Instrument) -> tuple[str, ...]:
    return _code(metric.name), " ".join(f"{boundary:g}" for boundary in metric.buckets)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    main()
