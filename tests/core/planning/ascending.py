"""`IntRanges` of given numbers, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from fsmtrain.core.planning.int_ranges import IntRanges, IntRangesBuilder


def ranges_of(numbers: Iterable[int]) -> IntRanges:
    """Return these numbers, which must be ascending, added one by one."""
    builder = IntRangesBuilder()
    for number in numbers:
        builder.add(number)
    return builder.build()
