"""Wall-clock time for timestamps and monotonic time for durations, from one reading."""

from time import perf_counter_ns, time_ns


class Clock:
    """Epoch nanoseconds are `now() + anchor`: one clock reading an edge instead of two.

    The anchor is taken anew each time telemetry is collected, so a corrected wall clock shows in the next
    timestamps while durations, which never use the anchor, stay monotonic.
    """

    __slots__ = ("anchor",)

    def __init__(self) -> None:
        self.anchor = 0
        self.reanchor()

    def reanchor(self) -> None:
        """Tie monotonic time to the wall clock as it is now."""
        self.anchor = time_ns() - perf_counter_ns()


CLOCK = Clock()
