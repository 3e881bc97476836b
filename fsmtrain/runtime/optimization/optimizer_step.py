"""The hook ``optimizer_step``: its default body, and whether the model overrides it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from fsmtrain.core.counters import Signals
from fsmtrain.errors import ModelError
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot, requires_closure, zero_grad


def step_and_zero(optimizer: Any, closure: Any = None) -> None:
    """Step and zero the gradients: the default body of ``optimizer_step``.

    The closure is passed on only to an optimizer that requires it.
    """
    if closure is None or not requires_closure(optimizer):
        optimizer.step()
    else:
        optimizer.step(closure)
    zero_grad(optimizer)


def own_optimizer_step(model: object) -> Callable[..., Any] | None:
    """Return the model's override of ``optimizer_step``; None if it has none."""
    hook = getattr(model, "optimizer_step", None)
    return None if hook is None or str(getattr(hook, "__module__", "")).startswith("fsmtrain.") else hook


def count_steps(slot: OptimizerSlot, signals: Signals, step: Callable[..., None], *arguments: Any) -> None:
    """Call an override of ``optimizer_step``, and signal how many steps the optimizer itself has made meanwhile.

    If it made none, those of an optimizer within it count, which has the same parameters, such as SAM's ``base_optimizer``.
    """
    own = within = 0

    def count(optimizer: Any, *_: object) -> None:
        nonlocal own, within
        if optimizer is slot.optimizer:
            own += 1
        elif any(id(parameter) in parameters for group in optimizer.param_groups for parameter in group["params"]):
            within += 1

    parameters = {id(parameter) for parameter in slot.parameters}
    hook = register_optimizer_step_post_hook(count)
    try:
        step(*arguments)
    finally:
        hook.remove()
    signals.own_steps = own or within


def validate_optimizer_step(model: object) -> None:
    """Check that an override of ``optimizer_step`` can be called as documented.

    Raises:
        ModelError: It cannot.
    """
    hook = own_optimizer_step(model)
    if hook is None:
        return
    try:
        inspect.signature(hook).bind(0, 0, None, 0, None)
    except TypeError as error:
        raise ModelError(
            f"optimizer_step{inspect.signature(hook)}: it must accept five positional arguments (current_epoch, batch_nb, "
            f"optimizer, optimizer_i, second_order_closure): {error}."
        ) from None
