"""Gradients gathered over a window: the scale of each backward, and what is left to do at the step.

The two factors that follow from the counters are `core.window_scaling`; here are the weights that ``training_step`` may return.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import define
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.step_outputs import Scalar


@define
class Window:
    """The weights of one optimizer's open window. All None where its losses have none."""

    first_weight: Scalar | None = None
    total_weight: Scalar | None = None
    backwards: int = 0

    def add(self, weight: Scalar | None) -> Scalar | None:
        """Take the weight of one more backward; returns what its loss is multiplied by, None for 1.

        The scale is relative to the window's first weight, so that weights in the thousands overflow no half precision.

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
        """What the gathered gradients are multiplied by to make them the weighted mean."""
        if self.backwards == 1 or self.first_weight is None or self.total_weight is None:
            return 1.0
        return self.first_weight / self.total_weight

    def close(self) -> None:
        """Forget the window: its gradients have been stepped, or dropped."""
        self.first_weight, self.total_weight, self.backwards = None, None, 0


class BackwardScales:
    """The gradients with which backwards begin: 1 ÷ n as tensors, made once for each n, shape, dtype and device."""

    def __init__(self) -> None:
        self._made: dict[tuple[float, torch.Size, torch.dtype, torch.device], Tensor] = {}

    def tensor(self, loss: Tensor, scale: Scalar) -> Tensor:
        """A tensor like `loss` that holds `scale`."""
        if isinstance(scale, Tensor):
            return scale.to(loss).reshape(loss.shape)
        key = (scale, loss.shape, loss.dtype, loss.device)
        seed = self._made.get(key)
        if seed is None:
            if len(self._made) >= 64:
                self._made.clear()
            seed = self._made[key] = torch.full_like(loss, scale, requires_grad=False)
        return seed


def rescale_gradients(parameters: Sequence[Tensor], scale: Scalar) -> None:
    """Multiply what stands in ``.grad`` by `scale`, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    dense = [g for g in gradients if not g.is_sparse]
    same_place = len({g.device for g in dense}) == 1 and (not isinstance(scale, Tensor) or scale.device == dense[0].device)
    if same_place:
        torch._foreach_mul_(dense, scale)
    for gradient in gradients:
        if gradient.is_sparse or not same_place:
            gradient.mul_(scale.to(gradient.device) if isinstance(scale, Tensor) else scale)
