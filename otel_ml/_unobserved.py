"""What `current()` gives where nothing is observed: a call and a run in one, that does nothing."""

from __future__ import annotations

from typing import cast

from otel_ml._call import Call
from otel_ml._runs import Run


def unobserved(kind: type[Call] | type[Run] | None) -> Call | Run:
    """Return an inert call or run; for None one that can be used as either."""
    if kind is Call:
        return Call(None, None)
    return Run("", None, {}, {}) if kind is Run else cast("Call", _Either())


class _Either:
    """Takes whatever a `Call` or a `Run` takes."""

    def __init__(self) -> None:
        object.__setattr__(self, "_both", (Call(None, None), Run("", None, {}, {})))

    def __getattr__(self, name: str) -> object:
        call, run = cast("tuple[Call, Run]", object.__getattribute__(self, "_both"))
        return getattr(call if hasattr(call, name) else run, name)

    def __setattr__(self, name: str, value: object) -> None:
        call, _ = cast("tuple[Call, Run]", object.__getattribute__(self, "_both"))
        setattr(call, name, value)

    def __repr__(self) -> str:
        return "<nothing observed>"
