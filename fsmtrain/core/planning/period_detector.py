"""`PeriodDetector`: finds in a sequence of items a part that has just come twice in a row."""

from __future__ import annotations

from collections.abc import Hashable

FIRST_WINDOW_ITEMS = 8


class PeriodDetector:
    """Looks at the items since it last started afresh: are they one part, of any length, twice in a row?

    It starts afresh after 8 items without such a part, then after 16, 32 and so on, so that any beginning is left behind.

    >>> detector = PeriodDetector()
    >>> [detector.feed(item) for item in "abcabcabc"]
    [0, 0, 0, 0, 0, 3, 0, 0, 0]
    """

    def __init__(self) -> None:
        self._window = FIRST_WINDOW_ITEMS
        self._items: list[Hashable] = []
        self._borders: list[int] = []  # of each prefix: the length of the longest part that both begins and ends it

    def feed(self, item: Hashable) -> int:
        """Return the length of the part that has come twice with this item; 0 if there is none."""
        if len(self._items) == self._window:
            self._window *= 2
            self._items, self._borders = [], []
        items, borders = self._items, self._borders
        items.append(item)
        border = borders[-1] if borders else 0
        while border and items[border] != item:
            border = borders[border - 1]
        if len(items) > 1 and items[border] == item:
            border += 1
        borders.append(border)
        period = len(items) - border
        return period if len(items) == 2 * period else 0
