"""What is logged with ``self.log``: the options of `log`, and the metrics that a step method has logged so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from attrs import define, field, frozen
from torch import Tensor, nn

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.metrics.averages import REDUCTIONS
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, scalar_of

LogPlace = Literal["training_step", "evaluation", "hook"]  # where `log` is called


class LogOptions(TypedDict, total=False):
    """The options of `log`, beside the name and the value."""

    prog_bar: bool  # if true, the progress bar shows the metric
    logger: bool  # if false, neither the run folder nor a logger gets it
    on_step: bool | None  # whether its value is recorded where it is logged: at this batch; None: the default of the place
    on_epoch: bool | None  # whether it is reduced over the epoch or the pass; None: the default of the place
    batch_size: int | None  # how much the value counts in the mean; None: the step's "weight", or its number of samples
    reduce: str  # how: "mean", "sum", "min" or "max"


@frozen(kw_only=True)
class LogRule:
    """What becomes of one metric, as the options of `log` say.

    Attributes:
        prog_bar: Whether the progress bar shows it.
        logger: Whether the run folder and the loggers get it.
        on_step: Whether its value at this batch is a metric.
        on_epoch: Whether it is reduced over the epoch or the pass.
        batch_size: How much the value counts; None: as the batch does.
        reduce: Its reduction.
    """

    prog_bar: bool = False
    logger: bool = True
    on_step: bool = True
    on_epoch: bool = False
    batch_size: int | None = None
    reduce: str = "mean"

    def step_name(self, name: str) -> str:
        """Return the name of its value at a batch: ``name_step`` if the epoch has one, too."""
        return f"{name}_step" if self.on_epoch else name

    def epoch_name(self, name: str) -> str:
        """Return the name of its value over an epoch: ``name_epoch`` if batches have one, too."""
        return f"{name}_epoch" if self.on_step else name


OF_PASS = LogRule(on_step=False, on_epoch=True)  # of what validation and test log

_DEFAULT_RULES: Mapping[LogPlace, LogRule] = {"training_step": LogRule(), "evaluation": OF_PASS, "hook": LogRule()}

# Options of `log` in other trainers, and what holds here instead.
_OPTIONS_ELSEWHERE = {
    "reduce_fx": "Its name here is reduce, and its value one of 'mean', 'sum', 'min' and 'max': reduce='max'",
    "add_dataloader_idx": (
        "Leave it out: with several loaders a metric has its own name for all of them, and name/0, name/1, ... for each"
    ),
    **dict.fromkeys(
        ("sync_dist", "sync_dist_group", "rank_zero_only"),
        "Leave it out: a run is one process, so there is nothing to synchronize",
    ),
    "enable_graph": "Leave it out: a metric is a number, or a tensor with one element, without its graph",
    "metric_attribute": "Leave it out: a metric object is found among the modules of the model",
}


def parse_log_options(name: object, options: Mapping[str, Any], place: LogPlace) -> LogRule:
    """Return the rule for a metric that is logged with these options.

    Raises:
        ModelError: There is no such option, or its value has no meaning there.
    """
    if not options:
        return _DEFAULT_RULES[place]
    for option, value in options.items():
        call = f"log({name!r}, ..., {option}={value!r})"
        if option in _OPTIONS_ELSEWHERE:
            raise ModelError(f"{call}: there is no such option. {_OPTIONS_ELSEWHERE[option]}.")
        if option not in LogOptions.__annotations__:
            raise ModelError(f"{call}: there is no such option. The options are {', '.join(LogOptions.__annotations__)}.")
        if option == "reduce":
            if value not in REDUCTIONS:
                known = ", ".join(map(repr, REDUCTIONS))
                raise ModelError(f"{call}: must be one of {known}. For another, return the values and reduce them in a hook.")
        elif option == "batch_size":
            if value is not None and (not is_integer(value) or value < 0):
                raise ModelError(f"{call}: a number of samples or tokens, so it must be an int >= 0.")
        elif not isinstance(value, bool) and not (value is None and option in ("on_step", "on_epoch")):
            raise ModelError(f"{call}: must be True or False.")
    default = _DEFAULT_RULES[place]
    on_step, on_epoch = options.get("on_step"), options.get("on_epoch")
    rule = LogRule(
        prog_bar=options.get("prog_bar", False),
        logger=options.get("logger", True),
        on_step=default.on_step if on_step is None else on_step,
        on_epoch=default.on_epoch if on_epoch is None else on_epoch,
        batch_size=options.get("batch_size"),
        reduce=options.get("reduce", "mean"),
    )
    if place == "evaluation" and (rule.on_step or not rule.on_epoch):
        wrong = "on_step=True" if rule.on_step else "on_epoch=False"
        raise ModelError(
            f"log({name!r}, ..., {wrong}): a metric of a validation or test has one value, of the whole pass. Leave it out. "
            f"To keep the value of each batch, append it to a list of your own."
        )
    if not rule.on_step and not rule.on_epoch:
        raise ModelError(
            f"log({name!r}, ..., on_step=False): then it would be kept nowhere. For its value over the epoch add on_epoch=True."
        )
    return rule


@define(eq=False)
class LoggedMetrics:
    """The metrics that a step method has logged.

    Attributes:
        values: Of each name the last value.
        rules: The rule of each metric that was logged with options.
        objects: Of each name the metric object, if one was logged. It has a value only if its batches are shown.
    """

    values: Metrics = field(factory=dict)
    rules: dict[str, LogRule] = field(factory=dict)
    objects: dict[str, nn.Module] = field(factory=dict)

    def add(self, name: str, value: Scalar | None, rule: LogRule | None, metric: nn.Module | None) -> None:
        """Add a metric; the last value of a name counts."""
        if value is not None:
            self.values[name] = value
        if rule is not None:
            self.rules[name] = rule
        if metric is not None:
            self.objects[name] = metric

    def __bool__(self) -> bool:
        return bool(self.values or self.objects)

    @property
    def bar_names(self) -> set[str]:
        """The names of the metrics that the progress bar shows."""
        return {name for name, rule in self.rules.items() if rule.prog_bar}

    @property
    def unrecorded(self) -> set[str]:
        """The names of the metrics that neither the run folder nor a logger gets."""
        return {name for name, rule in self.rules.items() if not rule.logger}

    def recorded(self, metrics: Metrics | None) -> Metrics | None:
        """Return the metrics of the batch without those that were logged with ``logger=False``."""
        hidden = {rule.step_name(name) for name, rule in self.rules.items() if not rule.logger}
        return {name: metrics[name] for name in metrics if name not in hidden} if hidden and metrics else metrics

    def of_batch(self) -> Metrics:
        """Return the metrics of the batch, under the names that they have there."""
        if not self.rules:
            return self.values
        metrics: Metrics = {}
        for name, value in self.values.items():
            rule = self.rules.get(name)
            if rule is None or rule.on_step:
                metrics[name if rule is None else rule.step_name(name)] = value
        return metrics


def logged_scalar(name: object, value: Any) -> Scalar:
    """Return the present value of a metric that is logged under a name, whatever is written into its tensor later.

    Raises:
        ModelError: The name is not a non-empty string, or the value neither a number nor a tensor with one element.
    """
    validate_name(name)
    scalar = scalar_of(value)
    if scalar is None:
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise ModelError(
            f"log({name!r}, ...): the value is {a_type_of(value)}{shape}. A metric is a number, a tensor with one element, or "
            f"a metric object of torchmetrics: reduce it, say with .mean(). Images, histograms and text go to a writer of your "
            f"own, such as TensorBoardLogger(folder).writer.add_images(...)."
        )
    return scalar.clone() if isinstance(scalar, Tensor) else scalar


def validate_name(name: object) -> None:
    """Raise an error unless a metric has a name.

    Raises:
        ModelError: The name is not a non-empty string.
    """
    if not isinstance(name, str) or not name:
        raise ModelError(f"log({name!r}, ...): a metric needs a name, as in log('accuracy', value).")
