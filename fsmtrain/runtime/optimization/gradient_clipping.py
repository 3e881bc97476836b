"""The hook ``configure_gradient_clipping``: its default body, and whether the model overrides it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from fsmtrain.errors import ModelError
from fsmtrain.options import Options
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot

ClipAlgorithm = Literal["norm", "value"]


def clip_gradients(parameters: Sequence[Tensor], limit: float, algorithm: ClipAlgorithm) -> None:
    """Clip the 2-norm of all gradients together, or the absolute value of each element."""
    if algorithm == "value":
        clip_grad_value_(parameters, limit)
    else:
        clip_grad_norm_(parameters, limit)


def parameters_of(optimizer: Any) -> list[Tensor]:
    """Return the parameters of all groups of an optimizer."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def own_gradient_clipping(model: object) -> Callable[..., Any] | None:
    """Return the model's override of ``configure_gradient_clipping``; None if it has none."""
    hook = getattr(model, "configure_gradient_clipping", None)
    return hook if callable(hook) and not str(getattr(hook, "__module__", "")).startswith("fsmtrain.") else None


def gradient_clipping(model: object, options: Options) -> Callable[[OptimizerSlot], None] | None:
    """Return what clips the gradients of an optimizer right before its step; None if nothing does.

    An override is called before every step, also if ``gradient_clip_val`` is not set.

    Raises:
        ModelError: The override cannot be called as documented.
    """
    limit, algorithm, override = options.gradient_clip_val, options.gradient_clip_algorithm, own_gradient_clipping(model)
    if override is not None:
        arguments = {"gradient_clip_val": limit, "gradient_clip_algorithm": algorithm}
        _validate_signature(override, arguments)
        return lambda slot: override(slot.optimizer, **arguments)
    return partial(_clip_slot, limit=float(limit), algorithm=algorithm) if limit else None


def _clip_slot(slot: OptimizerSlot, limit: float, algorithm: ClipAlgorithm) -> None:
    clip_gradients(slot.parameters, limit, algorithm)


def _validate_signature(override: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        inspect.signature(override).bind(None, **arguments)
    except TypeError as error:
        raise ModelError(
            f"configure_gradient_clipping{inspect.signature(override)}: it is called as configure_gradient_clipping(optimizer, "
            f"gradient_clip_val=..., gradient_clip_algorithm=...): {error}."
        ) from None
