"""`IntRanges`: batches or epochs, from 0, in ascending order, held as what they mostly are: every n-th from one on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from attrs import frozen


@frozen(repr=False)
class IntRanges(Sequence[int]):
    """Ascending whole numbers as runs of equal distance. A million of them take no more room than two.

    >>> places = Places.of([1, 3, 5, 7, 8])
    >>> places, places.runs, len(places), places[-1]
    (Places(1, 3, 5, 7, 8), (range(1, 9, 2), range(8, 9)), 5, 8)
    """

    runs: tuple[range, ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> IntRanges:
        """These numbers."""
        growing = IntRangesBuilder()
        for number in numbers:
            growing.add(number)
        return growing.places()

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    def __iter__(self) -> Iterator[int]:
        for run in self.runs:
            yield from run

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        left = index + len(self) if index < 0 else index
        for run in self.runs:
            if 0 <= left < len(run):
                return run[left]
            left -= len(run)
        raise IndexError(f"there are {len(self)} places, and none at {index}")

    def __contains__(self, number: object) -> bool:
        return any(number in run for run in self.runs)

    def __repr__(self) -> str:
        shown = [*map(str, self[:8]), *(["..."] if len(self) > 8 else [])]
        return f"Places({', '.join(shown)})"


class IntRangesBuilder:
    """Places that are still being added to, each behind the last."""

    def __init__(self) -> None:
        self._runs: list[range] = []

    def add(self, number: int) -> None:
        """One more."""
        runs = self._runs
        if runs:
            last = runs[-1]
            step = number - last[-1]
            if len(last) == 1 or step == last.step:
                runs[-1] = range(last[0], number + step, step)
                return
        runs.append(range(number, number + 1))

    def add_run(self, first: int, step: int, count: int) -> None:
        """`count` more, each `step` behind the other. The runs come out as if they were added one by one."""
        for number in range(first, first + step * min(3, count), step):  # then the last run has this very step
            self.add(number)
        if count > 3:
            last = self._runs[-1]
            self._runs[-1] = range(last[0], first + step * count, step)

    def places(self) -> IntRanges:
        """What has been added."""
        return IntRanges(tuple(self._runs))
