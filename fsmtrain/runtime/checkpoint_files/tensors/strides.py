"""Arithmetic of shapes and strides: how a tensor's elements lie in memory, all counted in elements."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

MAX_DIMENSIONS = 64  # of a tensor; most of torch's operations take no more
MAX_SIZE = 2**62  # elements


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


def expect_sizes(values: Any) -> list[int]:
    """Return the sizes or strides of a tensor that a file says it has. Their product fits 64 bits.

    Raises:
        ValueError: They are none.
    """
    if type(values) is not list or not all(type(value) is int and 0 <= value < MAX_SIZE for value in values):
        raise ValueError("it must be a list of sizes")
    if len(values) > MAX_DIMENSIONS:
        raise ValueError(f"it has {len(values)} dimensions, more than {MAX_DIMENSIONS}")
    if math.prod(value for value in values if value) >= MAX_SIZE:
        raise ValueError("these sizes are too large")
    return values
