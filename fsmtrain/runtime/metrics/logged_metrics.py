"""What is logged with ``self.log``: the options of `log`, and the metrics that a step method has logged so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from attrs import define, field
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, scalar_of


class LogOptions(TypedDict, total=False):
    """The options of `log`, beside the name and the value."""

    prog_bar: bool  # if true, the progress bar shows the metric


# Options of `log` in other trainers, and what holds here instead.
_AVERAGED = "what validation_step and test_step log is averaged over the samples of the pass, as it is without this option"
_OPTIONS_ELSEWHERE = {
    "on_step": "what training_step logs is recorded at each batch, as it is without this option",
    "on_epoch": f"{_AVERAGED}. For the mean of a training metric over an epoch, add it up yourself and log it in on_epoch_end",
    "logger": "every metric goes to the run folder and to each logger, as it does without this option",
    "batch_size": "a batch counts with the number of its samples, or with the number that the step returns as 'weight'",
    "reduce_fx": f"{_AVERAGED}. For another reduction, return the values from the step and reduce them in validation_end",
    "add_dataloader_idx": "with several loaders a metric has its own name for all of them, and name/0, name/1, ... for each",
    **dict.fromkeys(
        ("sync_dist", "sync_dist_group", "rank_zero_only"), "a run is one process, so there is nothing to synchronize"
    ),
    **dict.fromkeys(
        ("enable_graph", "metric_attribute"), "a metric is a number, or a tensor with one element, without its graph"
    ),
}


def validate_log_options(name: object, options: Mapping[str, Any]) -> None:
    """Check the options of a call of `log`.

    Raises:
        ModelError: There is no such option, or its value is not a bool.
    """
    for option, value in options.items():
        call = f"log({name!r}, ..., {option}={value!r})"
        if option in _OPTIONS_ELSEWHERE:
            raise ModelError(f"{call}: there is no such option. Leave it out: {_OPTIONS_ELSEWHERE[option]}.")
        if option not in LogOptions.__annotations__:
            raise ModelError(f"{call}: there is no such option. The options are {', '.join(LogOptions.__annotations__)}.")
        if not isinstance(value, bool):
            raise ModelError(f"{call}: must be True or False.")


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
    """Return the present value of a metric that is logged under a name, whatever is written into its tensor later.

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
            f"element: reduce it, say with .mean(). Images, histograms and text go to a writer of your own, such as "
            f"TensorBoardLogger(folder).writer.add_images(...)."
        )
    return scalar.clone() if isinstance(scalar, Tensor) else scalar
