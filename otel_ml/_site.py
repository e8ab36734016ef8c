"""Where a model is called: what a decorator or `with` block was told, and its path under the current state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from otel_ml._current import CURRENT
from otel_ml._shield import failed

if TYPE_CHECKING:
    from otel_ml._call import Call
    from otel_ml._observe import Path
    from otel_ml._span import Frame

Label = str | bool | int | float
# A part of a call: the name of an argument, or a function of the arguments. `Callable[..., object]` alone would do, but
# leave the parameters of a user's lambda unknown to a strict type checker.
Part = (
    str
    | Callable[[Any], object]
    | Callable[[Any, Any], object]
    | Callable[[Any, Any, Any], object]
    | Callable[[Any, Any, Any, Any], object]
    | Callable[..., object]
)
# What to remember of a result.
Output = Callable[[Any], object]

_MAX_IDLE = 100_000


class Follows(Protocol):
    """A site of either kind, `predict` or `train`."""

    def follow(self) -> object: ...


class Idle:
    """The path of a site while nothing is configured: `idle` calls pass before it looks around again."""

    __slots__ = ("_site", "idle", "state")

    def __init__(self, site: Follows | None, idle: int, state: object = None) -> None:
        self._site, self.idle, self.state = site, idle, state

    def open(self, args: object, kwargs: object) -> None:
        """Look around; what is found holds from the next call on."""
        if self._site is not None:
            self._site.follow()


# A state that no state is: a site that has not looked yet looks at its first call.
UNSEEN = Idle(None, 0, object())


class Site:
    """The options of one `predict`, and a cache of what they come to under the state that is current."""

    __slots__ = (
        "_calls", "_looked", "at", "call", "defaults", "id", "labels", "model", "operation", "output", "path", "positions", "remembers",
        "skip", "spans", "version",
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
        output: Output | None = None,
        at: Part | None = None,
        skip: int = 0,
        positions: Mapping[str, int] | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self.model, self.version, self.operation, self.labels, self.spans = model, version, operation, labels, spans
        self.call, self.id, self.output, self.at, self.skip = call, id, output, at, skip
        self.positions, self.defaults = positions or {}, defaults or {}
        self.remembers = id is not None or output is not None or at is not None
        self.path: Path | Idle = UNSEEN
        self._looked, self._calls = 0.0, 1

    def follow(self) -> Path | Idle:
        """Return the path under the current state; without one, join a host's providers if there are any."""
        try:
            state = CURRENT.live() if CURRENT.state is not None else CURRENT.find_host()
            self.path = self._rest() if state is None else state.path(self)
        except Exception:
            failed("follow the current state")
            self.path = self._rest()
        return self.path

    def _rest(self) -> Idle:
        """Look for a host again in about a second: counted in calls, since a clock costs more than an idle call."""
        now = monotonic()
        passed, self._looked = now - self._looked, now
        self._calls = max(1, min(_MAX_IDLE, int(self._calls / max(passed, 1e-6))))
        return Idle(self, self._calls)

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
        if position is not None and position < len(args):
            return args[position]
        return kwargs[part] if part in kwargs else self.defaults.get(part)

    def __reduce__(self) -> tuple[type[Site], tuple[object, ...], dict[str, object]]:
        """Pickle the options without the path, which holds locks and belongs to this process."""
        options = (self.model, self.version, self.operation, self.labels, self.spans, self.call)
        rest = {
            name: getattr(self, name) for name in ("id", "output", "at", "skip", "positions", "defaults", "remembers")
        }
        return Site, options, (None, rest)  # type: ignore[return-value]  # the form pickle takes for slots
