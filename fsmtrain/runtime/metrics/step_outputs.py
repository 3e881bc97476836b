"""Read what step methods return: the loss, its weight, and metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of

Scalar = Tensor | float
Metrics = dict[str, Scalar]

# Keys that are not metrics, of the dicts that steps and end hooks return, and further ones of training_step.
_GROUPS = ("log", "progress_bar")
_RESERVED_KEYS = frozenset({*_GROUPS, "weight"})
_TRAINING_KEYS = _RESERVED_KEYS | {"loss", "hiddens"}


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether a value is a mapping; fast for a plain dict."""
    return type(value) is dict or isinstance(value, Mapping)


def loss_of(output: Any, hint: str = "") -> Tensor:
    """Return the loss in what ``training_step`` returned: the tensor itself, or its ``"loss"``.

    Args:
        output: What it returned.
        hint: A sentence for the error about a loss without a gradient: why that is probably so in this run.

    Raises:
        ModelError: There is no loss, it has more than one element, or no gradient can flow from it.
    """
    loss = output.get("loss") if _is_mapping(output) else output
    if not isinstance(loss, Tensor):
        if output is None:
            what = "None"
        elif isinstance(output, Mapping):
            what = f"a dict without a loss tensor (its keys: {', '.join(map(repr, output)) or 'none'})"
        else:
            what = a_type_of(output)
        raise ModelError(
            f"training_step returned {what}. It must return the loss, a tensor, or a dict with the loss under 'loss'."
        )
    if loss.numel() != 1:
        raise ModelError(
            f"training_step returned a loss of shape {tuple(loss.shape)}. A loss is one number: reduce it, say with .mean()."
        )
    if not loss.requires_grad:
        raise ModelError(
            hint
            or "training_step returned a loss from which no gradient flows: it was detached, computed under no_grad, or "
            "depends on no parameter that requires one."
        )
    return loss


def manual_loss_of(output: Any) -> Tensor | None:
    """Return the loss that a ``training_step`` with manual optimization returned, detached; None if there is none.

    Raises:
        ModelError: It returned something else than a tensor with one element, a dict, or None; or "loss" in the dict is none.
    """
    loss = output.get("loss") if _is_mapping(output) else output
    if loss is None:
        return None
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else a_type_of(loss)
        raise ModelError(
            f"training_step returned {shape}. With automatic_optimization=False it may return the loss, a tensor with one "
            f"element, to be recorded; a dict with the loss under 'loss'; or None."
        )
    return loss.detach()


def weight_of(output: Any, step: str = "training_step") -> Scalar | None:
    """Return the weight that a step returned: a number >= 0, or a 0-d tensor on another device; None if there is none.

    Raises:
        ModelError: It is neither, or negative. A tensor on another device is not read, to avoid waiting for it.
    """
    weight = output.get("weight") if _is_mapping(output) else None
    if weight is None:
        return None
    value = None if isinstance(weight, bool) else scalar_of(weight)
    if isinstance(value, Tensor):
        if not value.is_cpu:
            return value if value.device.type == "mps" else value.double()  # counts are whole, their quotients are not
        value = value.item()
    if value is not None and 0 <= value < math.inf:
        return value
    raise ModelError(
        f"{step} returned the weight {weight!r}. A weight must be a number >= 0, or a tensor with one element: "
        f"the number of samples or tokens over which the loss is the mean."
    )


def scalar_of(value: Any) -> Scalar | None:
    """Return a metric as a float, or as a detached 0-d tensor on its device; None if it is not one real number."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            return None
        return value.detach() if value.dim() == 0 else value.detach().reshape(())
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 and value.dtype.kind in "biuf":
        return float(value.item())
    return None


def metrics_of(output: Any, *, of_training: bool = False) -> Metrics:
    """Return the scalars in the dict of a step or an end hook, including those under ``"log"`` and ``"progress_bar"``."""
    metrics: Metrics = {}
    if not _is_mapping(output):
        return metrics
    for group in _GROUPS:
        named = output.get(group)
        if _is_mapping(named):
            _collect(named, (), metrics)
    _collect(output, _TRAINING_KEYS if of_training else _RESERVED_KEYS, metrics)
    return metrics


def present_values(metrics: Metrics) -> Metrics:
    """Return copies of metrics, whatever is written into their tensors later. Waits for no device."""
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in metrics.items()}


def _collect(named: Mapping[Any, Any], skipped: Collection[str], into: Metrics) -> None:
    """Add the scalars of a mapping to `into`, except those with skipped names."""
    for name, value in named.items():
        if name not in skipped:
            scalar = scalar_of(value)
            if scalar is not None:
                into[str(name)] = scalar


def group_metrics(output: Any, group: str) -> Metrics:
    """Return the scalars under ``"log"`` or ``"progress_bar"``."""
    metrics: Metrics = {}
    named = output.get(group) if _is_mapping(output) else None
    if _is_mapping(named):
        _collect(named, (), metrics)
    return metrics


def number(value: Scalar) -> float:
    """Return a metric as a number. Waits for its device."""
    return float(value.item()) if isinstance(value, Tensor) else float(value)
