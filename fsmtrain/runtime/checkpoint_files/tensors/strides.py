"""How the elements of a tensor lie in memory: arithmetic of shapes and strides, all counted in elements."""

from __future__ import annotations

from collections.abc import Iterable


def contiguous_stride(shape: Iterable[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor.

    >>> standard_stride((2, 3, 4))
    (12, 4, 1)
    """
    strides = []
    step = 1
    for size in reversed(tuple(shape)):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_dense(shape: Iterable[int], stride: Iterable[int]) -> bool:
    """Whether the elements fill their memory, each place once, in whatever order."""
    step = 1
    for distance, size in sorted((d, s) for s, d in zip(shape, stride, strict=True) if s != 1):
        if distance != step:
            return False
        step *= size
    return True


def span(shape: Iterable[int], stride: Iterable[int]) -> int:
    """How many elements of memory there are from a tensor's first one to its last one.

    >>> reach((2, 3), (8, 2)), reach((0, 3), (3, 1))
    (13, 0)
    """
    pairs = list(zip(shape, stride, strict=True))
    if any(size == 0 for size, _ in pairs):
        return 0
    return 1 + sum((size - 1) * distance for size, distance in pairs)
