"""Read what step methods return: the loss, its weight, and metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

from torch import Tensor

from fsmtrain.errors import MetricError, ModelError
from fsmtrain.plurals import a_type_of

Scalar = Tensor | float
Metrics = dict[str, Scalar]

# Keys of the dict that training_step returns which are not metrics.
_RESERVED_KEYS = frozenset({"loss", "weight", "hiddens", "log", "progress_bar"})
_GROUPS = ("log", "progress_bar")


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether a value is a mapping; fast for a plain dict."""
    return type(value) is dict or isinstance(value, Mapping)


def loss_of(output: Any) -> Tensor:
    """Return the loss in what ``training_step`` returned: the tensor itself, or its ``"loss"``.

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
            "training_step returned a loss from which no gradient flows: it was detached, computed under no_grad, or depends "
            "on no parameter that requires one."
        )
    return loss


def weight_of(output: Any) -> Scalar | None:
    """Return the weight beside the loss: a number >= 0, or a 0-d tensor on another device; None if there is none.

    Raises:
        ModelError: It is neither, or negative. A tensor on another device is not read, to avoid waiting for it.
    """
    weight = output.get("weight") if _is_mapping(output) else None
    if weight is None:
        return None
    value = weight
    if isinstance(weight, Tensor) and weight.numel() == 1:
        if weight.device.type != "cpu":
            weight = weight.detach().reshape(())
            return weight if weight.device.type == "mps" else weight.double()  # counts are whole, their quotients are not
        value = weight.item()
    if isinstance(value, (int, float)) and (value is not weight or not isinstance(weight, bool)) and 0 <= value < math.inf:
        return value
    raise ModelError(
        f"training_step returned the weight {weight!r}. A weight must be a number >= 0, or a tensor with one element: "
        f"the number of samples or tokens over which the loss is the mean."
    )


def scalar_of(value: Any) -> Scalar | None:
    """Return a metric as a float, or as a detached 0-d tensor on its device; None if it is not one number."""
    if isinstance(value, Tensor):
        if value.dim() == 0:
            return value.detach()
        return value.detach().reshape(()) if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def metrics_of(output: Any, *, of_training: bool = False) -> Metrics:
    """Return the scalars in the dict of a step or an end hook, including those under ``"log"`` and ``"progress_bar"``."""
    metrics: Metrics = {}
    if not _is_mapping(output):
        return metrics
    for group in _GROUPS:
        named = output.get(group)
        if _is_mapping(named):
            _collect(named, (), metrics)
    _collect(output, _RESERVED_KEYS if of_training else _GROUPS, metrics)
    return metrics


def _collect(named: Mapping[Any, Any], skipped: Collection[str], into: Metrics) -> None:
    """Add the scalars of a mapping to `into`, except those with skipped names."""
    for name, value in named.items():
        if name not in skipped:
            scalar = scalar_of(value)
            if scalar is not None:
                into[str(name)] = scalar


def group_metrics(output: Any, group: str) -> Metrics:
    """Return the scalars under ``"log"`` or ``"progress_bar"``."""
    named = output.get(group) if _is_mapping(output) else None
    return {} if named is None else metrics_of(named)


def number(value: Scalar) -> float:
    """Return a metric as a number. Waits for its device."""
    return float(value.item()) if isinstance(value, Tensor) else float(value)


def monitored_value(metrics: Metrics, name: str, monitor: str) -> float:
    """Return the metric that a monitor watches, as a number. Waits for its device.

    Raises:
        MetricError: The validation did not return it.
    """
    if name not in metrics:
        raise MetricError(
            f"{monitor} monitors {name!r}, which the validation did not return. It returned "
            f"{', '.join(map(repr, metrics)) or 'no metric'}. Return {name!r} from validation_step or "
            f"validation_end, or monitor another metric with monitor=..."
        )
    return number(metrics[name])
