"""Gradient accumulation with sample weights: the factor of each backward, and of the gradients at the step.

The factors that follow from counters alone are in `core.accumulation_scaling`; here are the weights of ``training_step``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import define
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.step_outputs import Scalar

MAX_CACHED_SCALES = 64


@define
class Window:
    """The weights of one optimizer's open window; None if its losses have none."""

    first_weight: Scalar | None = None
    total_weight: Scalar | None = None
    backwards: int = 0

    def add(self, weight: Scalar | None) -> Scalar | None:
        """Add one backward with its sample weight. Returns the factor for its loss (None means 1).

        The factor is relative to the window's first weight, so that weights in the thousands do not overflow in half precision.

        Raises:
            ModelError: Losses with and without weights in one window.
        """
        if self.backwards and (weight is None) != (self.first_weight is None):
            raise ModelError(
                "training_step returned a weight for some batches of a window and none for others. Return 'weight' always, "
                "or never."
            )
        self.backwards += 1
        if weight is None:
            return None
        if self.first_weight is None or self.total_weight is None:
            self.first_weight = self.total_weight = weight
            return None
        self.total_weight = self.total_weight + weight
        return weight / self.first_weight

    @property
    def mean_scale(self) -> Scalar:
        """The factor that makes the gathered gradients the weighted mean."""
        if self.backwards == 1 or self.first_weight is None or self.total_weight is None:
            return 1.0
        return self.first_weight / self.total_weight

    def close(self) -> None:
        """Empty the window: its gradients have been stepped or dropped."""
        self.first_weight, self.total_weight, self.backwards = None, None, 0


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
