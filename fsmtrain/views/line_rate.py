"""`LineRate`: how many lines about a run's progress are written: all of a short run, and no flood of a long one."""

from __future__ import annotations

import math

MAX_LINES_AT_ONCE = 20  # that may follow one another at any speed
SECONDS_PER_LINE = 1.0  # after those


class LineRate:
    """Allows so many lines at any speed, and then one per second; the allowance comes back with the time.

    >>> rate = LineRate()
    >>> sum(rate.allows(now=0.1 * i) for i in range(20)), sum(rate.allows(now=2.0 + 0.1 * i) for i in range(100))
    (20, 11)
    """

    def __init__(self) -> None:
        self._used_up_to = -math.inf  # the time at which the whole allowance is there again

    def allows(self, now: float) -> bool:
        """Return whether a line may be written now, and count it if so."""
        used_up_to = max(self._used_up_to, now) + SECONDS_PER_LINE
        if used_up_to - now > MAX_LINES_AT_ONCE * SECONDS_PER_LINE:
            return False
        self._used_up_to = used_up_to
        return True
