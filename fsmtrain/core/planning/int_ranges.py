"""`IntRanges`: batch or epoch numbers, stored compactly as ranges: every n-th number from one on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, overload

from attrs import frozen


@frozen(repr=False)
class IntRanges(Sequence[int]):
    """Ints as ascending ranges, one after the other. A million of them at equal distance take no more room than two.

    They are ascending as a whole, too, unless ranges were added that interleave.

    >>> numbers = IntRanges((range(1, 9, 2), range(8, 9)))
    >>> numbers, len(numbers), numbers[-1]
    (IntRanges(1, 3, 5, 7, 8), 5, 8)
    """

    ranges: tuple[range, ...] = ()

    def as_lists(self) -> list[list[int]]:
        """Return each range as ``[first, step, count]``, for JSON."""
        return [[part[0], part.step, len(part)] for part in self.ranges]

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        offset = index + len(self) if index < 0 else index
        for part in self.ranges:
            if 0 <= offset < len(part):
                return part[offset]
            offset -= len(part)
        raise IndexError(f"index {index} is out of range for {len(self)} numbers")

    def __contains__(self, number: object) -> bool:
        return any(number in part for part in self.ranges)

    def __repr__(self) -> str:
        items = [*map(str, self[:8]), *(["..."] if len(self) > 8 else [])]
        return f"IntRanges({', '.join(items)})"


class IntRangesBuilder:
    """Builds an `IntRanges` from ascending numbers, or ranges."""

    def __init__(self) -> None:
        self._ranges: list[range] = []

    def add(self, number: int) -> None:
        """Append a number, greater than the last one."""
        ranges = self._ranges
        if ranges:
            last = ranges[-1]
            step = number - last[-1]
            if len(last) == 1 or step == last.step:
                ranges[-1] = range(last[0], number + step, step)
                return
        ranges.append(range(number, number + 1))

    def add_range(self, first: int, step: int, count: int) -> None:
        """Append `count` numbers, each `step` after the one before. The ranges are as if they were added one by one."""
        for number in range(first, first + step * min(3, count), step):  # then the last range has this very step
            self.add(number)
        if count > 3:
            last = self._ranges[-1]
            self._ranges[-1] = range(last[0], first + step * count, step)

    def add_interleaved(self, firsts: Sequence[int], step: int, count: int) -> None:
        """Append, for each first number, `count` numbers, each `step` after the one before.

        Later numbers must be greater than all of these.
        """
        if len(firsts) == 1:
            self.add_range(firsts[0], step, count)
            return
        self._ranges += [range(first, first + step * count, step) for first in firsts]

    def build(self) -> IntRanges:
        """Return the numbers added so far."""
        return IntRanges(tuple(self._ranges))
