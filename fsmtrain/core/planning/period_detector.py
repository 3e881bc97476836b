"""`PeriodDetector`: hears what comes one after the other, and says when it has heard the same thing twice in a row."""

from __future__ import annotations

from collections.abc import Hashable

SHORT = 8


class PeriodDetector:
    """Looks for a part that repeats itself, of any length, at the end of what was heard.

    What does not belong to it is forgotten after a while: first after 8, then after twice as much, and so on.

    >>> periods = PeriodDetector()
    >>> [periods.feed(shape) for shape in "abcabcabc"]
    [0, 0, 0, 0, 0, 3, 0, 0, 0]
    """

    def __init__(self) -> None:
        self._patience = SHORT
        self._heard: list[Hashable] = []
        self._borders: list[int] = []  # for each beginning of what was heard: the longest part that begins and ends it

    def feed(self, shape: Hashable) -> int:
        """How long the part is that has now been heard twice, and nothing else since the last time; 0 where there is none."""
        if len(self._heard) == self._patience:
            self._patience *= 2
            self._heard, self._borders = [], []
        heard, borders = self._heard, self._borders
        heard.append(shape)
        border = borders[-1] if borders else 0
        while border and heard[border] != shape:
            border = borders[border - 1]
        if len(heard) > 1 and heard[border] == shape:
            border += 1
        borders.append(border)
        period = len(heard) - border
        return period if len(heard) == 2 * period else 0
