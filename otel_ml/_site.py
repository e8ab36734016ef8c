"""Where a model is called: what a decorator or `with` block was told, and its path under the current state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from otel_ml._current import CURRENT
from otel_ml._shield import failed

if TYPE_CHECKING:
    from otel_ml._calls import Call
    from otel_ml._observe import Path
    from otel_ml._span import Frame
    from otel_ml._state import State

Label = str | bool | int | float
# A part of a call: the name of an argument, or a function of the arguments.
Part = str | Callable[..., object]

_MAX_IDLE = 100_000


class Site:
    """The options of one `predict`, and a cache of what they come to under the state that is current."""

    __slots__ = (
        "at", "call", "id", "idle", "labels", "model", "operation", "output", "path", "positions", "remembers", "skip",
        "spans", "version", "_looked", "_span",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        version: str | None,
        operation: str,
        labels: Mapping[str, Label],
        spans: bool,
        call: Callable[[Path, Frame], Call],
        *,
        id: Part | None = None,
        output: Callable[..., object] | None = None,
        at: Part | None = None,
        skip: int = 0,
        positions: Mapping[str, int] | None = None,
    ) -> None:
        self.model, self.version, self.operation, self.labels, self.spans = model, version, operation, labels, spans
        self.call, self.id, self.output, self.at, self.skip = call, id, output, at, skip
        self.positions = positions or {}
        self.remembers = id is not None or output is not None or at is not None
        self.path: Path | None = None
        self.idle = 0
        self._looked, self._span = 0.0, 1

    def follow(self, state: State | None) -> Path | None:
        """Return the path under `state`; without one, look for a host's providers at most about once a second."""
        try:
            if state is None:
                state = self._look()
                if state is None:
                    return None
            self.path = state.successor().path(self)
        except Exception:
            failed("follow the current state")
            return None
        return self.path

    def _look(self) -> State | None:
        now = monotonic()
        passed = now - self._looked
        if passed >= 1.0:
            self._looked = now
            found = CURRENT.find_host()
            if found is not None:
                return found
        # A clock costs more than a whole unobserved call: count as many calls as are made in a second instead.
        self._span = max(1, min(_MAX_IDLE, int(self._span / max(passed, 1e-5)) if passed < 1.0 else self._span // 2))
        self.idle = self._span - 1
        return None

    def note(self, path: Path, frame: Frame, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Have the call remembered under the id, and at the time, that the arguments hold."""
        try:
            call = self.call(path, frame)
            call.arguments(self._read(self.id, args, kwargs), self._read(self.at, args, kwargs))
        except Exception:
            failed("read id= or at=")

    def _read(self, part: Part | None, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        if part is None:
            return None
        if callable(part):
            return part(*args, **kwargs)
        position = self.positions.get(part)
        return args[position] if position is not None and position < len(args) else kwargs.get(part)

    def __reduce__(self) -> tuple[type[Site], tuple[object, ...], dict[str, object]]:
        """Pickle the options without the path, which holds locks and belongs to this process."""
        options = (self.model, self.version, self.operation, self.labels, self.spans, self.call)
        rest = {name: getattr(self, name) for name in ("id", "output", "at", "skip", "positions", "remembers")}
        return Site, options, (None, rest)  # type: ignore[return-value]  # the form pickle takes for slots
