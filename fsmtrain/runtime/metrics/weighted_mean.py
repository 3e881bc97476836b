"""The weighted mean of one metric, with sums in float64 that stay on the device of its values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Self

import torch
from attrs import define, field
from torch import Tensor

from fsmtrain.runtime.metrics.step_outputs import Scalar, number

MAX_WAITING_VALUES = 1024  # on a device without float64, whose values are summed on the host, this many at a time


@define(eq=False)
class WeightedMean:
    """Σ weight · value / Σ weight, over the batches of one loader.

    The sums are in float64 whatever the dtype of the values: in bfloat16 a sum of ones would stand still at 256. A value on a
    device is added there, so that nothing waits for it. Only a device without float64 is read, once for every
    `MAX_WAITING_VALUES` values.
    """

    total: Scalar = 0.0  # Σ weight · value
    weight: Scalar = 0.0  # Σ weight
    _waiting: list[tuple[Scalar, Scalar]] = field(factory=list)  # values and weights of a device without float64

    def add(self, value: Scalar, weight: Scalar) -> None:
        """Add the value of a batch. A weight of 0 leaves it out, even if it is NaN."""
        if not isinstance(weight, Tensor) and weight == 0:
            return
        if _has_float64(value) and _has_float64(weight):
            self._sum(value, weight)
            return
        self._waiting.append((_copy(value), _copy(weight)))
        if len(self._waiting) >= MAX_WAITING_VALUES:
            self._read_waiting()

    def result(self) -> Scalar:
        """Return the mean: a float if all values were floats, else a 0-d float64 tensor. NaN if all weights are 0."""
        self._read_waiting()
        if isinstance(self.total, Tensor) or isinstance(self.weight, Tensor):
            return self.total / self.weight
        return self.total / self.weight if self.weight else math.nan

    def sum(self) -> Scalar:
        """Return Σ weight · value: a float if all values were floats, else a 0-d float64 tensor."""
        self._read_waiting()
        return self.total

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the mean over the batches of all parts."""
        merged = cls()
        for part in parts:
            part._read_waiting()
            merged.total, merged.weight = _plus(merged.total, part.total), _plus(merged.weight, part.weight)
        return merged

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        self._read_waiting()
        return {"total": self.total, "weight": self.weight}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the mean whose sums are saved."""
        return cls(state["total"], state["weight"])

    def _sum(self, value: Scalar, weight: Scalar) -> None:
        if isinstance(weight, Tensor):
            weight = weight.double()
        product = (value.double() if isinstance(value, Tensor) else value) * weight
        if isinstance(weight, Tensor):
            product = torch.where(weight == 0, 0.0, product)  # also if the value is NaN
        self.total, self.weight = _plus(self.total, product), _plus(self.weight, weight)

    def _read_waiting(self) -> None:
        for value, weight in self._waiting:
            if number(weight):
                product = torch.tensor(number(value), dtype=torch.float64) * number(weight)
                self.total, self.weight = _plus(self.total, product), _plus(self.weight, number(weight))
        self._waiting.clear()


def _plus(total: Scalar, more: Scalar) -> Scalar:
    """Add two numbers, which may be on different devices if the model is."""
    if isinstance(total, Tensor) and isinstance(more, Tensor) and total.device != more.device:
        device = more.device if total.is_cpu else total.device  # copies to the host would wait
        return total.to(device, non_blocking=True) + more.to(device, non_blocking=True)
    return total + more


def _copy(value: Scalar) -> Scalar:
    """Return the present value, whatever is written into its tensor later."""
    return value.clone() if isinstance(value, Tensor) else value


def _has_float64(value: Scalar) -> bool:
    return not isinstance(value, Tensor) or value.is_cpu or _device_has_float64(value.device)


@lru_cache(maxsize=64)
def _device_has_float64(device: torch.device) -> bool:
    try:
        torch.zeros((), dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True
