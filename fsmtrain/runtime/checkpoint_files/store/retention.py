"""Checkpoint retention: policies that choose which to keep, by their metadata.

The newest valid one is always kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

# Takes the metadata of each checkpoint by its number, and returns the numbers of those to keep.
RetentionPolicy = Callable[[Mapping[int, Mapping[str, Any]]], Collection[int]]


def keep_newest(count: int) -> RetentionPolicy:
    """Keep the last ones.

    >>> keep_newest(2)({1: {}, 2: {}, 5: {}})
    [2, 5]
    """
    return lambda metadata: sorted(metadata)[-count:] if count > 0 else []


def keep_best(count: int, metric: str, mode: Literal["min", "max"] = "min") -> RetentionPolicy:
    """Keep those with the best values of a metric; of equal ones the older.

    A missing value or NaN is never the best.

    >>> keep_best(2, "val_loss")({1: {"val_loss": 0.3}, 2: {"val_loss": 0.1}, 3: {"val_loss": 0.2}, 4: {}})
    [2, 3]
    """
    sign = 1 if mode == "min" else -1

    def policy(metadata: Mapping[int, Mapping[str, Any]]) -> list[int]:
        values = {number: its_metadata.get(metric) for number, its_metadata in metadata.items()}
        ranked = sorted((sign * value, number) for number, value in values.items() if value is not None and value == value)
        return [number for _, number in ranked[: max(count, 0)]]

    return policy


def keep_any(*policies: RetentionPolicy) -> RetentionPolicy:
    """Keep those that any of these policies keeps.

    >>> sorted(keep_any(keep_newest(1), keep_best(1, "val_loss"))({1: {"val_loss": 0.1}, 2: {"val_loss": 0.2}, 3: {}}))
    [1, 3]
    """
    return lambda metadata: {number for policy in policies for number in policy(metadata)}
