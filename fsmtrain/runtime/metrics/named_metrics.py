"""`NamedMetrics`: the metrics of a `Supervised` model by name, functions of predictions and targets or metric objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.metrics.metric_objects import is_metric_object, metrics_in
from fsmtrain.runtime.metrics.step_outputs import scalar_of
from fsmtrain.runtime.nested_tensors import detach

Function = Callable[..., Any]


def require_two_arguments(function: Function, about: str) -> None:
    """Check that a function can be called with predictions and targets.

    Raises:
        ModelError: It cannot; the message begins with `about`.
    """
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ModelError(f"{about}: it is called with predictions and targets, in this order, but {error}.") from None
    except ValueError:  # a function of C without a signature
        return


class NamedMetrics(nn.Module):
    """Metrics by name: functions, and metric objects, which are modules of the model so that a run moves and saves them.

    Args:
        argument: The argument of `Supervised` that they are, for errors.
        given: The metrics.
    """

    def __init__(self, argument: str, given: Any) -> None:
        super().__init__()
        self.argument = argument
        self.functions: dict[str, Function] = {}
        self.objects = nn.ModuleList()
        self.names: list[str | None] = []  # of each object; None for a collection
        if given is None:
            return
        if is_metric_object(given) and callable(getattr(given, "items", None)):
            self.objects.append(given)
            self.names.append(None)
            return
        if not isinstance(given, Mapping):
            raise ModelError(
                f"Supervised({argument}={given!r}): must be a dict of metrics by name, as in {argument}={{'accuracy': "
                f"...}}, or a MetricCollection."
            )
        for name, metric in given.items():
            self._add(name, metric)

    def _add(self, name: object, metric: Any) -> None:
        about = f"Supervised({self.argument}={{{name!r}: ...}})"
        if not isinstance(name, str) or not name:
            raise ModelError(f"{about}: a metric needs a name, a text that is not empty.")
        if name in ("loss", "weight"):
            raise ModelError(f"{about}: the name {name!r} is that of the {name} itself. Give this metric another one.")
        if is_metric_object(metric):
            if callable(getattr(metric, "items", None)):
                raise ModelError(
                    f"{about}: is a collection, which has names of its own. Pass it by itself: {self.argument}=it."
                )
            if any(metric is other for other in self.objects):
                raise ModelError(f"{about}: the same object is there under another name. Make two, as with metric.clone().")
            self.objects.append(metric)
            self.names.append(name)
        elif not callable(metric) or isinstance(metric, type):
            raise ModelError(
                f"{about}: is {metric!r}. A metric is a function of predictions and targets that returns a number, or a metric "
                f"object of torchmetrics."
            )
        else:
            require_two_arguments(metric, about)
            self.functions[name] = metric

    def values(self, predictions: Any, targets: Any) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each function for a batch, and each metric object when it has been updated.

        Predictions come without the graph that computed them: a metric that keeps them would keep the graphs of a whole epoch.

        Raises:
            ModelError: A function returned no number.
        """
        if torch.is_grad_enabled():
            predictions = detach(predictions)
        for name, function in self.functions.items():
            with torch.no_grad():
                returned = function(predictions, targets)
            value = scalar_of(returned)
            if value is None:
                shape = f" of shape {tuple(returned.shape)}" if isinstance(returned, Tensor) else ""
                raise ModelError(
                    f"Supervised({self.argument}={{{name!r}: ...}}): it returned {a_type_of(returned)}{shape}. A metric is a "
                    f"number or a tensor with one element: reduce it, say with .float().mean()."
                )
            yield name, value
        for own, metric in zip(self.names, self.objects, strict=True):
            metric.update(predictions, targets)  # type: ignore[operator]
            if own is None:
                yield from metrics_in(metric)
            else:
                yield own, metric
