"""`GradientNormMonitor`: log the norm of the gradients of each optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils import get_total_norm

from fsmtrain.errors import OptionsError
from fsmtrain.machine import Machine
from fsmtrain.predicates import is_finite
from fsmtrain.runtime.hooks.callback import Callback


class GradientNormMonitor(Callback):
    """Log the norm of the gradients before each step, before they are clipped, as ``grad_norm``.

    With several optimizers it is ``grad_norm/0``, ``grad_norm/1``, ... The norm is of the window's mean gradient. It stays on
    its device until it is recorded.

    Args:
        norm_type: 2 for the 2-norm, ``float("inf")`` for the largest absolute value.
        by_parameter: Whether to log the norm of each parameter, too, as ``grad_norm/layer.weight``.

    Raises:
        OptionsError: The type is no positive number.

    Example:
        >>> from fsmtrain import Trainer
        >>> trainer = Trainer(gradient_clip_val=1.0, callbacks=[GradientNormMonitor()])
    """

    def __init__(self, norm_type: float = 2.0, *, by_parameter: bool = False) -> None:
        if norm_type != float("inf") and (not is_finite(norm_type) or norm_type <= 0):
            raise OptionsError(f"GradientNormMonitor(norm_type={norm_type!r}): must be a number > 0, or float('inf').")
        self.norm_type, self.by_parameter = float(norm_type), by_parameter

    def on_before_optimizer_step(self, machine: Machine, optimizer: Any) -> None:
        """Log the norms."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        index = next(i for i, own in enumerate(machine.optimizers) if own is optimizer)
        name = "grad_norm" if len(machine.optimizers) == 1 else f"grad_norm/{index}"
        machine.log(name, get_total_norm(gradients, self.norm_type))
        if self.by_parameter:
            own = set(map(id, parameters))
            for name, parameter in machine.model.named_parameters():
                if id(parameter) in own and parameter.grad is not None:
                    machine.log(f"grad_norm/{name}", torch.linalg.vector_norm(parameter.grad, self.norm_type))
