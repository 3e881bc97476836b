"""Gradient accumulation with sample weights: the factor of each backward, and of the gradients at the step.

The factors that follow from counters alone are in `core.accumulation_scaling`; here are the weights of ``training_step``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import define
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.step_outputs import Scalar

MAX_CACHED_SCALES = 64


@define
class Window:
    """The weights of one optimizer's open window.

    Each loss is multiplied by its weight / `unit`, and the gradients by `unit` / `total_weight` at the step. The unit keeps the
    losses in the range of half precision: it is the mean weight of the last window with weights, rounded to a power of two.

    Attributes:
        unit: Positive; a number, or a 0-d tensor on the device, which is never read.
        total_weight: Of the backwards so far; None if their losses have no weights.
        backwards: Losses in the window, those of weight 0 included.
    """

    unit: Scalar = 1.0
    total_weight: Scalar | None = None
    backwards: int = 0

    def add(self, weight: Scalar | None) -> Scalar | None:
        """Add one backward with its weight. Returns the factor for its loss (None means 1).

        Raises:
            ModelError: Losses with and without weights in one window.
        """
        if self.backwards and (weight is None) != (self.total_weight is None):
            raise ModelError(
                "training_step returned a weight for some batches of a window and none for others. Return 'weight' always, "
                "or never."
            )
        self.backwards += 1
        if weight is None:
            return None
        self.total_weight = weight if self.total_weight is None else self.total_weight + weight
        return weight / self.unit

    @property
    def is_all_zero(self) -> bool:
        """Whether all weights so far are numbers on the host, and 0: then no backward has run."""
        return is_zero(self.total_weight)

    @property
    def mean_scale(self) -> Scalar | None:
        """The factor that makes the gathered gradients the weighted mean; None for 1. Gradients of total weight 0 are zeros."""
        total = self.total_weight
        if isinstance(total, Tensor):
            return torch.where(total == 0, 1.0, self.unit / total)
        return self.unit / total if total else None

    def close(self) -> None:
        """Empty the window: its gradients have been stepped or dropped. Its mean weight becomes the unit of the next one."""
        if self.total_weight is not None:
            self.unit = _power_of_two(self.total_weight / self.backwards)
        self.total_weight, self.backwards = None, 0


def is_zero(weight: Scalar | None) -> bool:
    """Return whether a weight is a number on the host, and 0. A tensor is never read."""
    return weight is not None and not isinstance(weight, Tensor) and weight == 0


def single_scale(weight: Scalar | None) -> Scalar | None:
    """Return the factor for the loss of a window that is one backward: 0 for the weight 0, None (1) for any other."""
    if isinstance(weight, Tensor):
        return (weight != 0).to(weight)
    return 0.0 if is_zero(weight) else None


def _power_of_two(mean: Scalar) -> Scalar:
    """Return the power of two nearest to a mean weight, by the exponent; 1 if it is not positive and finite.

    >>> [_power_of_two(mean) for mean in (3.5, 1000.0, 0.2, 0.0)]
    [4.0, 1024.0, 0.25, 1.0]
    """
    if isinstance(mean, Tensor):
        is_positive = (mean > 0) & (mean < math.inf)
        return torch.where(is_positive, torch.where(is_positive, mean, 1.0).log2().round().exp2(), 1.0)
    return 2.0 ** round(math.log2(mean)) if 0 < mean < math.inf else 1.0


def fill_with_zeros(parameters: Sequence[Tensor]) -> None:
    """Give a gradient of zeros to each parameter that requires one and has none."""
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


class BackwardScales:
    """The gradients with which backwards begin, such as 1 / n, as cached tensors."""

    def __init__(self) -> None:
        self._cache: dict[tuple[float, torch.Size, torch.dtype, torch.device], Tensor] = {}

    def tensor(self, loss: Tensor, scale: Scalar) -> Tensor:
        """Return a tensor like `loss` that holds `scale`."""
        if isinstance(scale, Tensor):
            return scale.to(loss).reshape(loss.shape)
        key = (scale, loss.shape, loss.dtype, loss.device)
        tensor = self._cache.get(key)
        if tensor is None:
            if len(self._cache) >= MAX_CACHED_SCALES:
                self._cache.clear()
            tensor = self._cache[key] = torch.full_like(loss, scale, requires_grad=False)
        return tensor


def rescale_gradients(parameters: Sequence[Tensor], scale: Scalar) -> None:
    """Multiply the gradients of these parameters by `scale`, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    dense = [g for g in gradients if not g.is_sparse]
    share_device = len({g.device for g in dense}) == 1 and (not isinstance(scale, Tensor) or scale.device == dense[0].device)
    if share_device:
        torch._foreach_mul_(dense, scale)
    for gradient in gradients:
        if gradient.is_sparse or not share_device:
            gradient.mul_(scale.to(gradient.device) if isinstance(scale, Tensor) else scale)
