"""What is logged with ``self.log``: the options of `log`, and the metrics that a step method has logged so far."""

from __future__ import annotations

from typing import Any, TypedDict

from attrs import define, field

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, scalar_of


class LogOptions(TypedDict, total=False):
    """The options of `log`, beside the name and the value."""

    prog_bar: bool  # if true, the progress bar shows the metric


@define(eq=False)
class LoggedMetrics:
    """The metrics that a step method has logged, and the names of those for the progress bar."""

    values: Metrics = field(factory=dict)
    bar_names: set[str] = field(factory=set)

    def add(self, name: str, value: Scalar, *, prog_bar: bool = False) -> None:
        """Add a metric; the last value of a name counts."""
        self.values[name] = value
        if prog_bar:
            self.bar_names.add(name)


def logged_scalar(name: object, value: Any) -> Scalar:
    """Return the value of a metric that is logged under a name.

    Raises:
        ModelError: The name is not a non-empty string, or the value neither a number nor a tensor with one element.
    """
    if not isinstance(name, str) or not name:
        raise ModelError(f"log({name!r}, ...): a metric needs a name, as in log('accuracy', value).")
    scalar = scalar_of(value)
    if scalar is None:
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise ModelError(
            f"log({name!r}, ...): the value is {a_type_of(value)}{shape}. A metric is a number, or a tensor with one "
            f"element: reduce it, say with .mean()."
        )
    return scalar
