"""Arithmetic of shapes and strides: how a tensor's elements lie in memory, all counted in elements."""

from __future__ import annotations

from collections.abc import Iterable


def contiguous_stride(shape: Iterable[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor.

    >>> contiguous_stride((2, 3, 4))
    (12, 4, 1)
    """
    strides = []
    step = 1
    for size in reversed(tuple(shape)):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_dense(shape: Iterable[int], stride: Iterable[int]) -> bool:
    """Return whether the elements fill their memory without gaps, in any order."""
    step = 1
    for distance, size in sorted((d, s) for s, d in zip(shape, stride, strict=True) if s != 1):
        if distance != step:
            return False
        step *= size
    return True


def span(shape: Iterable[int], stride: Iterable[int]) -> int:
    """Return the size of the memory from a tensor's first element to its last one.

    >>> span((2, 3), (8, 2)), span((0, 3), (3, 1))
    (13, 0)
    """
    pairs = list(zip(shape, stride, strict=True))
    if any(size == 0 for size, _ in pairs):
        return 0
    return 1 + sum((size - 1) * distance for size, distance in pairs)
