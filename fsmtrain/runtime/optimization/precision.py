"""Mixed precision: autocast around step methods, and for fp16 one gradient scaler per optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fsmtrain.flags.precision_values import Precision
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot, zero_grad

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def with_autocast(step: Callable[..., Any], precision: Precision, device: torch.device) -> Callable[..., Any]:
    """Return a user's step method under autocast; the method itself if this precision has none."""
    if precision.autocast_dtype is None:
        return step
    dtype = _DTYPES[precision.autocast_dtype]

    @functools.wraps(step)
    def autocast_step(*args: Any) -> Any:
        with torch.autocast(device.type, dtype=dtype):
            return step(*args)

    return autocast_step


class GradScalers:
    """The gradient scalers of a run in fp16, one per optimizer, so that each window has one scale.

    For each step a scaler reads once whether the gradients are finite, which waits for the device.
    """

    def __init__(self, slots: Sequence[OptimizerSlot], device: torch.device) -> None:
        self._scalers = [torch.amp.GradScaler(device.type) for _ in slots]
        self._steps = [_ScaledStep(slot) for slot in slots]

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of the scalers."""
        return [scaler.state_dict() for scaler in self._scalers]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Take the states over."""
        for scaler, own in zip(self._scalers, state, strict=True):
            scaler.load_state_dict(own)

    def scale(self, index: int, loss: Tensor) -> Tensor:
        """Return the loss scaled up, so that its gradients do not vanish in fp16."""
        scaled: Tensor = self._scalers[index].scale(loss)
        return scaled

    def step(self, index: int, body: Callable[[], None]) -> bool:
        """Unscale the gradients and run `body`, which steps. Returns whether it ran.

        If a gradient is not finite, the gradients are zeroed instead, and the scale is lowered.
        """
        scaler, scaled_step = self._scalers[index], self._steps[index]
        scaled_step.body, scaled_step.ran = body, False
        scaler.step(scaled_step)  # type: ignore[arg-type]
        scaler.update()
        if not scaled_step.ran:
            zero_grad(scaled_step.slot.optimizer)
        return scaled_step.ran


class _ScaledStep:
    """Stands in for an optimizer in a gradient scaler: its parameters, and our whole step as ``step``."""

    def __init__(self, slot: OptimizerSlot) -> None:
        self.slot = slot
        self.body: Callable[[], None] | None = None
        self.ran = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups."""
        return self.slot.optimizer.param_groups

    def step(self) -> None:
        """Run the step. The scaler calls this if all gradients are finite."""
        self.ran = True
        if self.body is not None:
            self.body()
