"""Which failed or slow calls get a span although sampling left them out: ten a second in this process; the rest counted."""

from __future__ import annotations

from collections import deque
from time import monotonic

# An outage must not export everything.
MOST_A_SECOND = 10
_NEVER = float("-inf")

# When each of the last ten spans was granted, the oldest first. Both ends of a deque are taken and put back in one step:
# whoever takes a time alone may use it, so that there are never more than ten, and nobody waits for a lock.
_granted: deque[float] = deque([_NEVER] * MOST_A_SECOND)
_refused = [0]


def may_keep() -> bool:
    """Say whether one more failed or slow unsampled call may have a span in this second."""
    now = monotonic()
    try:
        oldest = _granted.popleft()
    except IndexError:  # each of the ten is being asked for by another thread
        _refused[0] += 1
        return False
    if now - oldest > 1.0:
        _granted.append(now)
        return True
    _granted.appendleft(oldest)
    _refused[0] += 1
    return False


def unkept() -> int:
    """How many failed or slow unsampled calls got no span, because ten had one in that second."""
    return _refused[0]


def forget() -> None:
    """Begin counting anew, in a forked child."""
    _granted.clear()
    _granted.extend([_NEVER] * MOST_A_SECOND)
    _refused[0] = 0
