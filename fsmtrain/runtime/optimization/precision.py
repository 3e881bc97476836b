"""Mixed precision: autocast around the user's steps, and for fp16 a gradient scaler for each optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fsmtrain.flags.precision_values import Precision
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot, zero_grad


def with_autocast(step: Callable[..., Any], precision: Precision, device: torch.device) -> Callable[..., Any]:
    """Return a user's step method under autocast; the method itself if this precision has none."""
    if precision.autocast_dtype is None:
        return step
    dtype = getattr(torch, precision.autocast_dtype)

    @functools.wraps(step)
    def autocast_step(*args: Any) -> Any:
        with torch.autocast(device.type, dtype=dtype):
            return step(*args)

    return autocast_step


class GradScalers:
    """The gradient scalers of a run in fp16, one for each optimizer, so that each window has one scale.

    A scaler reads once for each step whether the gradients are finite, and waits for the device to do so.
    """

    def __init__(self, turns: Sequence[OptimizerSlot], device: torch.device) -> None:
        self._scalers = [torch.amp.GradScaler(device.type) for _ in turns]
        self._steps = [_ScaledStep(turn) for turn in turns]

    def state_dict(self) -> list[dict[str, Any]]:
        """What the scalers remember."""
        return [scaler.state_dict() for scaler in self._scalers]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Make them what they were."""
        for scaler, own in zip(self._scalers, state, strict=True):
            scaler.load_state_dict(own)

    def scale(self, index: int, loss: Tensor) -> Tensor:
        """The loss, scaled up so that its gradients do not vanish in fp16."""
        scaled: Tensor = self._scalers[index].scale(loss)
        return scaled

    def step(self, index: int, body: Callable[[], None]) -> bool:
        """Scale the gradients back and run `body`, which steps; returns whether it ran.

        Where a gradient is not finite, they are zeroed instead, and the scale is lowered.
        """
        scaler, scaled_step = self._scalers[index], self._steps[index]
        scaled_step.body, scaled_step.ran = body, False
        scaler.step(scaled_step)  # type: ignore[arg-type]
        scaler.update()
        if not scaled_step.ran:
            zero_grad(scaled_step.turn.optimizer)
        return scaled_step.ran


class _ScaledStep:
    """What a gradient scaler takes for an optimizer: its parameters, and our whole step in the place of its ``step``."""

    def __init__(self, turn: OptimizerSlot) -> None:
        self.turn = turn
        self.body: Callable[[], None] | None = None
        self.ran = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, as they are now."""
        return self.turn.optimizer.param_groups

    def step(self) -> None:
        """Called by the scaler where all gradients are finite."""
        self.ran = True
        if self.body is not None:
            self.body()
