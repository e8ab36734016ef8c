"""Numbers that are still on a device: copied in the caller, read by a sender, so that nobody's loop waits for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from otel_ml._shield import failed, tell

# Tensors that may wait to be read; the rest are counted.
MAX_DEFERRED = 1_024


class Deferred:
    """A tensor on a device, read when a sender takes its event, or before metrics are collected."""

    __slots__ = ("_found", "_lock", "_note", "_tensor", "_waiting")

    def __init__(self, tensor: object, note: Callable[[float], None], waiting: deque[Deferred]) -> None:
        self._tensor: object | None = tensor
        self._note, self._waiting = note, waiting
        self._lock = threading.Lock()
        self._found: float | None = None
        waiting.append(self)

    def read(self) -> float | None:
        """Return the number, waiting for the device the first time; None if it cannot be read."""
        # One after the other: each exporter's sender reads the event, and all are to get the number.
        with self._lock:
            tensor = self._tensor
            if tensor is not None:
                try:
                    self._found = float(tensor.item())  # type: ignore[attr-defined]  # a 0-d torch tensor
                    self._note(self._found)
                except Exception:
                    failed("read a tensor")
                finally:
                    self._tensor = None
                    with suppress(ValueError):
                        self._waiting.remove(self)
        return self._found


class Deferrals:
    """The tensors of one state that wait to be read; `unread` says how many were left out."""

    def __init__(self) -> None:
        self._waiting: deque[Deferred] = deque()
        self.unread = 0

    def defer(self, value: object, note: Callable[[float], None], *, wanted: bool) -> Deferred | None:
        """Take a copy of a tensor; None when 1,024 wait already. Where no event is `wanted`, only the latest count."""
        if len(self._waiting) >= MAX_DEFERRED:
            if wanted:
                self.unread += 1
                tell("unread", f"Tensors come faster than they are read ({self.unread} left out). Log a share of them.")
                return None
            self._waiting.popleft()
        return Deferred(value.detach().clone(), note, self._waiting)  # type: ignore[attr-defined]  # a torch tensor

    def read(self) -> None:
        """Read every tensor that waits: what they are belongs into the metrics that are about to be collected."""
        for one in list(self._waiting):
            one.read()
