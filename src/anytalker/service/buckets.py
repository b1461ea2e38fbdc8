"""Rate limits: so many requests a minute, in bursts of as many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_MOST = 10_000


class Buckets:
    """A token bucket a name.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_minute: int) -> int:
        """Take one; 0, or after how many seconds there is one again."""
        now = self._clock()
        level, since = self._levels.get(name, (float(per_minute), now))
        level = min(per_minute, level + (now - since) * per_minute / 60)
        if level < 1:
            return max(1, math.ceil((1 - level) * 60 / per_minute))
        if len(self._levels) >= _MOST and name not in self._levels:
            self._levels.clear()
        self._levels[name] = level - 1, now
        return 0
