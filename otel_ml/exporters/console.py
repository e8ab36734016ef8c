"""`exporters.Console`: one readable line a call and an epoch, for whoever watches a program run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from otel_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from otel_ml._delivery import Parts


@dataclass(frozen=True, slots=True)
class Console:
    """A line for every call and every epoch on standard error, or on `stream`.

    Standard error, because a program's standard output is its own: it may be a table that goes into a pipe. The stream
    is looked up when a line is written, so that whoever replaces `sys.stderr` gets the lines. On a terminal outcomes
    have colours (not with `NO_COLOR`) and the step of a training run is shown live; elsewhere only whole lines are
    written. Names and values are shown with control characters escaped. Metrics are not shown.

    When the stream is closed or its reader is gone, lines are dropped and counted in `health()`.

    Raises `ConfigurationError` for a `stream` that cannot be written to.

    >>> Console().describe()
    'console (standard error)'
    """

    stream: TextIO | None = None

    def __post_init__(self) -> None:
        if self.stream is not None and not callable(getattr(self.stream, "write", None)):
            raise ConfigurationError("stream has no write(). Write exporters.Console(sys.stdout), or leave it out.")

    def build(self, resource: Resource) -> Parts:  # the resource is the same in every line
        """Make the exporters of spans and events; nothing is written yet."""
        from otel_ml._delivery import Parts
        from otel_ml.exporters._console_parts import ConsoleEvents, ConsoleSpans
        from otel_ml.exporters._console_screen import Screen

        screen = Screen(self.stream)
        return Parts(spans=ConsoleSpans(screen), events=ConsoleEvents(screen), interval=5.0, delay=0.2)

    def describe(self) -> str:
        """Return where the lines go."""
        if self.stream is None:
            return "console (standard error)"
        name = getattr(self.stream, "name", None)
        return f"console ({name if isinstance(name, str) else type(self.stream).__name__})"
