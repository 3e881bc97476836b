"""Metric objects, such as torchmetrics' `Metric`: modules of the model that gather over the batches by themselves.

The package is not imported: an object is one of these if it has the methods ``update``, ``compute`` and ``reset``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from torch import Tensor, nn

from fsmtrain.errors import ModelError, ResumeError
from fsmtrain.runtime.metrics.step_outputs import Scalar, scalar_of
from fsmtrain.runtime.nested_tensors import map_nested
from fsmtrain.user_warnings import warn

_METHODS = ("update", "compute", "reset")


def is_metric_object(value: object) -> TypeGuard[nn.Module]:
    """Return whether a value is a metric object."""
    return isinstance(value, nn.Module) and all(callable(getattr(value, name, None)) for name in _METHODS)


def metrics_in(named: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over names and values of a dict of metrics, or of a collection of metric objects, under the names it gives them.

    Raises:
        ModelError: It is neither.
    """
    items: Any = getattr(named, "items", None)
    if is_metric_object(named) and callable(items):
        # Without copies: metrics that share their state get the state of their group at this moment.
        yield from items(keep_base=False, copy_state=False)
    elif isinstance(named, Mapping):
        yield from named.items()
    else:
        raise ModelError(f"log_dict({named!r}): must be a dict of metrics, {{name: value}}, or a MetricCollection.")


def value_of_batch(name: str, metric: nn.Module) -> Any:
    """Return the value of the batch for which a metric object was called last.

    Raises:
        ModelError: It has not been called.
    """
    value = getattr(metric, "_forward_cache", None)
    if value is None:
        raise ModelError(
            f"log({name!r}, metric): {type(metric).__name__} has no value of this batch, since it was updated and not called. "
            f"Call it as self.metric(predictions, targets), or log the epoch only: on_step=False, on_epoch=True."
        )
    return value


def computed(name: str, metric: nn.Module) -> Scalar:
    """Return what a metric object has gathered, as one number.

    Raises:
        ModelError: It is more than one number.
    """
    result = metric.compute()  # type: ignore[operator]
    scalar = scalar_of(result)
    if scalar is None:
        what = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        raise ModelError(
            f"log({name!r}, metric): {type(metric).__name__}.compute() returned {what}, and a metric is one number. Log each "
            f"of its numbers under a name of its own, in a hook at the end, such as on_epoch_end, and reset the metric there."
        )
    return scalar.clone() if isinstance(scalar, Tensor) else scalar


class MetricObjects:
    """The metric objects among the modules of a model. What they have gathered is part of the run's state.

    Args:
        model: The plain model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._paths: dict[int, tuple[nn.Module, str]] = {}

    def path_of(self, name: str, metric: nn.Module) -> str:
        """Return the path in the model of a metric object that is logged.

        Raises:
            ModelError: It is not a module of the model, so that it could be neither moved to the device nor saved.
        """
        known, path = self._paths.get(id(metric), (None, ""))
        if known is metric:
            return path
        self._paths = {id(module): (module, path) for path, module in self._model.named_modules()}
        known, path = self._paths.get(id(metric), (None, ""))
        if known is not metric:
            raise ModelError(
                f"log({name!r}, metric): this {type(metric).__name__} is not a module of {type(self._model).__name__}. Keep it "
                f"as an attribute, self.{name.replace('/', '_')} = ..., or in an nn.ModuleList or nn.ModuleDict, so that it is "
                f"moved to the device and saved with the run. A number can be logged from anywhere: metric.compute()."
            )
        return path

    def at(self, path: str) -> nn.Module:
        """Return the metric object at a path in the model.

        Raises:
            ResumeError: There is none.
        """
        module = dict(self._model.named_modules()).get(path)
        if not is_metric_object(module):
            raise ResumeError(f"{path}: it was a metric object when the run was saved, and the model has none there now.")
        return module

    def state_dict(self) -> dict[str, Any]:
        """Return what each metric object has gathered, by its path. Tensors are its own, not copies."""
        return {path: _state_of(module) for path, module in self._gathering()}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Take over what each metric object has gathered; one without a state begins anew.

        Raises:
            ResumeError: One gathers something else.
        """
        present = dict(self._gathering())
        for path in states:
            if path not in present:
                warn(f"{path}: it was a metric object when the run was saved, and the model has none there now.")
        for path, module in present.items():
            module.reset()  # type: ignore[operator]
            if path in states:
                _restore(path, module, states[path])

    def _gathering(self) -> Iterator[tuple[str, nn.Module]]:
        for path, module in self._model.named_modules():
            if not is_metric_object(module):
                continue
            if callable(getattr(module, "items", None)):
                dict(metrics_in(module))  # a collection, whose metrics come after it: those that share a state get it now
            elif isinstance(getattr(module, "metric_state", None), Mapping):
                yield path, module


def copied(states: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the states of metric objects, which go on gathering."""
    return {path: map_nested(lambda tensor: tensor.detach().clone(), state) for path, state in states.items()}


def _state_of(metric: nn.Module) -> dict[str, Any]:
    gathered: Any = metric.metric_state
    return {
        "gathered": {name: list(value) if isinstance(value, list) else value for name, value in gathered.items()},
        "updates": int(getattr(metric, "_update_count", 0)),
    }


def _restore(path: str, metric: nn.Module, state: Mapping[str, Any]) -> None:
    gathered: Any = metric.metric_state
    if set(gathered) != set(state["gathered"]):
        raise ResumeError(
            f"{path}: {type(metric).__name__} gathers {', '.join(gathered)}, and the checkpoint has "
            f"{', '.join(state['gathered'])}: it is the state of another metric."
        )
    for name, value in state["gathered"].items():
        setattr(metric, name, list(value) if isinstance(value, list) else value.clone())
    metric._update_count = state["updates"]
    metric._computed = None  # type: ignore[assignment]
