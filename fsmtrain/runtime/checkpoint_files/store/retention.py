"""Which checkpoints are kept: plain functions of what each is of. The newest valid one stays whatever they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

# From what each checkpoint is of, by its number, to the numbers of those that stay.
RetentionPolicy = Callable[[Mapping[int, Mapping[str, Any]]], Collection[int]]


def keep_newest(count: int) -> RetentionPolicy:
    """The last ones.

    >>> newest(2)({1: {}, 2: {}, 5: {}})
    [2, 5]
    """
    return lambda abouts: sorted(abouts)[-count:] if count > 0 else []


def keep_best(count: int, metric: str, mode: Literal["min", "max"] = "min") -> RetentionPolicy:
    """Those with the best values of a metric; of equal ones the older. Without the metric, or with NaN, it is none of them.

    >>> best(2, "val_loss")({1: {"val_loss": 0.3}, 2: {"val_loss": 0.1}, 3: {"val_loss": 0.2}, 4: {}})
    [2, 3]
    """
    sign = 1 if mode == "min" else -1

    def policy(abouts: Mapping[int, Mapping[str, Any]]) -> list[int]:
        values = {number: about.get(metric) for number, about in abouts.items()}
        ranked = sorted((sign * value, number) for number, value in values.items() if value is not None and value == value)
        return [number for _, number in ranked[: max(count, 0)]]

    return policy


def keep_any(*policies: RetentionPolicy) -> RetentionPolicy:
    """Those that any of these keeps.

    >>> sorted(either(newest(1), best(1, "val_loss"))({1: {"val_loss": 0.1}, 2: {"val_loss": 0.2}, 3: {}}))
    [1, 3]
    """
    return lambda abouts: {number for policy in policies for number in policy(abouts)}
