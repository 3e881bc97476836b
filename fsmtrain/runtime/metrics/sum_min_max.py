"""The reductions of a metric beside its mean: `Sum`, `Min` and `Max`, for ``log(..., reduce=...)``.

NaN stays NaN in all of them, as in a mean. A weight only says whether a batch counts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Self, final

import torch
from attrs import define, field
from torch import Tensor

from fsmtrain.runtime.metrics.step_outputs import Scalar
from fsmtrain.runtime.metrics.weighted_mean import WeightedMean


@final
@define(eq=False)
class Sum:
    """Σ value over the batches, in float64; 0 if all weights are 0."""

    _terms: WeightedMean = field(factory=WeightedMean)  # each of weight 1 or 0

    def add(self, value: Scalar, weight: Scalar) -> None:
        """Add the value of a batch. A weight of 0 leaves it out, even if it is NaN."""
        self._terms.add(value, (weight != 0).to(weight.dtype) if isinstance(weight, Tensor) else float(weight != 0))

    @property
    def weight(self) -> Scalar:
        """The number of values."""
        return self._terms.weight

    def result(self) -> Scalar:
        """Return the sum: a float if all values were floats, else a 0-d float64 tensor."""
        return self._terms.sum()

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the sum over the batches of all parts."""
        return cls(WeightedMean.merge(part._terms for part in parts))

    def state_dict(self) -> dict[str, Any]:
        """Return the sum, and the number of values."""
        return self._terms.state_dict()

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the sum that is saved."""
        return cls(WeightedMean.from_state_dict(state))


@define(eq=False)
class _Extreme(ABC):
    """The smallest or the largest value over the batches; NaN if all weights are 0."""

    _value: Scalar | None = None  # None before the first
    weight: Scalar = 0.0  # the number of values

    @staticmethod
    @abstractmethod
    def _choose(one: Scalar, other: Scalar) -> Scalar:
        """Return the smaller or the larger of two values; NaN if one is NaN."""

    @staticmethod
    @abstractmethod
    def _neutral() -> float:
        """Return the number that no other is chosen over: infinity, with its sign."""

    def add(self, value: Scalar, weight: Scalar) -> None:
        """Add the value of a batch. A weight of 0 leaves it out, even if it is NaN."""
        if isinstance(weight, Tensor):
            kept = torch.as_tensor(value).to(weight.device)
            value, weight = torch.where(weight == 0, self._neutral(), kept), (weight != 0).to(weight.dtype)
        elif weight == 0:
            return
        else:
            value, weight = value.clone() if isinstance(value, Tensor) else value, 1.0
        self._value = value if self._value is None else self._choose(self._value, value)
        self.weight = self.weight + weight

    def result(self) -> Scalar:
        """Return the value, in the dtype of the values."""
        if self._value is None:
            return math.nan
        if isinstance(self.weight, Tensor):
            return torch.where(self.weight == 0, math.nan, torch.as_tensor(self._value, dtype=self.weight.dtype))
        return self._value

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the value over the batches of all parts."""
        merged = cls()
        for part in parts:
            if part._value is not None:
                value = part._value
                merged._value = value if merged._value is None else cls._choose(merged._value, value)
                merged.weight = merged.weight + part.weight
        return merged

    def state_dict(self) -> dict[str, Any]:
        """Return the value, and the number of values."""
        return {"value": self._value, "weight": self.weight}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the reduction that is saved."""
        return cls(state["value"], state["weight"])


@final
class Min(_Extreme):
    """The smallest value over the batches."""

    @staticmethod
    def _choose(one: Scalar, other: Scalar) -> Scalar:
        if isinstance(one, Tensor):
            return torch.minimum(one, _beside(other, one)) if isinstance(other, Tensor) else one.clamp(max=other)
        if isinstance(other, Tensor):
            return other.clamp(max=one)
        return one if one <= other or math.isnan(one) else other

    @staticmethod
    def _neutral() -> float:
        return math.inf


@final
class Max(_Extreme):
    """The largest value over the batches."""

    @staticmethod
    def _choose(one: Scalar, other: Scalar) -> Scalar:
        if isinstance(one, Tensor):
            return torch.maximum(one, _beside(other, one)) if isinstance(other, Tensor) else one.clamp(min=other)
        if isinstance(other, Tensor):
            return other.clamp(min=one)
        return one if one >= other or math.isnan(one) else other

    @staticmethod
    def _neutral() -> float:
        return -math.inf


def _beside(value: Tensor, other: Tensor) -> Tensor:
    """Return a value on the device of another one; copies to the host would wait, and are made only if one is there."""
    return value.to(other.device, non_blocking=True)
