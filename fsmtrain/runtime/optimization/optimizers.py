"""Parse what ``configure_optimizers`` returned, in any of its forms, into optimizers and LR schedulers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from fsmtrain.core.sizes import Schedule
from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.metrics.monitor import Monitor

ACCEPTED_FORMS = (
    "It may return one optimizer; a tuple or list of optimizers; two lists, optimizers and schedulers; or dicts "
    "{'optimizer': ..., 'lr_scheduler': ...}. A scheduler may be a dict {'scheduler': ..., 'interval': 'epoch', 'step' or "
    "'validation', 'frequency': n, 'monitor': name}."
)
_AFTER_EACH_VALIDATION = "To step it after every validation, several times an epoch, use interval='validation'."
_METHODS = ("step", "state_dict", "load_state_dict")

_TORCH_ZERO_GRAD = Optimizer.zero_grad


def zero_grad(optimizer: Any) -> None:
    """Zero the gradients as ``optimizer.zero_grad()`` does; call that only if it is not torch's own.

    torch's own reports to the profiler, which takes longer than the step of a small model.
    """
    if getattr(optimizer.zero_grad, "__func__", None) is not _TORCH_ZERO_GRAD:
        optimizer.zero_grad()
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


@define(eq=False)
class SchedulerConfig:
    """A learning-rate scheduler, when it steps, and the metric that it monitors."""

    scheduler: Any  # one of torch's, or an object with step(), state_dict() and load_state_dict()
    schedule: Schedule
    monitor: str | None = None  # for a plateau scheduler; None for the others

    @property
    def metric_monitor(self) -> Monitor | None:
        """The scheduler as a monitor of its metric; None if it monitors none."""
        return None if self.monitor is None else Monitor(type(self.scheduler).__name__, self.monitor)


@define(eq=False)
class OptimizerSlot:
    """One optimizer, with its index from 0 and the schedulers that follow its steps."""

    index: int
    optimizer: Optimizer
    needs_closure: bool
    step_schedulers: list[SchedulerConfig] = field(factory=list)

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters of its groups; a group may be added during the run."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@define(eq=False)
class OptimizerSetup:
    """All optimizers, and the schedulers that step at the end of an epoch or a validation, in the order of return."""

    slots: list[OptimizerSlot]
    epoch_schedulers: list[SchedulerConfig]
    validation_schedulers: list[SchedulerConfig] = field(factory=list)
    manual_schedulers: list[SchedulerConfig] = field(factory=list)  # which the model steps itself

    @property
    def scheduler_configs(self) -> list[SchedulerConfig]:
        """All schedulers: those of epochs, then those of steps, then those of validations, then those of the model."""
        of_steps = [config for slot in self.slots for config in slot.step_schedulers]
        return [*self.epoch_schedulers, *of_steps, *self.validation_schedulers, *self.manual_schedulers]


def parse_configure_optimizers(returned: Any, *, is_manual: bool = False) -> OptimizerSetup:
    """Parse what ``configure_optimizers`` returned.

    Args:
        returned: What it returned.
        is_manual: Whether the model steps the schedulers itself, in the order of return.

    Raises:
        ModelError: An unknown form, a scheduler of an optimizer that was not returned, a wrong interval or frequency.
    """
    optimizers, schedulers = _optimizers_and_schedulers(returned)
    if not optimizers:
        raise ModelError(f"configure_optimizers returned no optimizer: {returned!r}. {ACCEPTED_FORMS}")
    if len(set(map(id, optimizers))) < len(optimizers):
        raise ModelError("configure_optimizers returned the same optimizer twice.")
    slots = [OptimizerSlot(i, optimizer, requires_closure(optimizer)) for i, optimizer in enumerate(optimizers)]
    setup = OptimizerSetup(slots, [])
    for scheduler in schedulers:
        config = _scheduler_config(scheduler, optimizers)
        if is_manual:
            setup.manual_schedulers.append(config)
        elif config.schedule.interval == "epoch":
            setup.epoch_schedulers.append(config)
        elif config.schedule.interval == "validation":
            setup.validation_schedulers.append(config)
        else:
            slots[config.schedule.optimizer_i].step_schedulers.append(config)
    return setup


def requires_closure(optimizer: Any) -> bool:
    """Return whether the optimizer's ``step`` requires a closure, as that of LBFGS does."""
    kind: Any = type(optimizer)
    return _step_requires_closure(kind)


@functools.cache
def _step_requires_closure(kind: Any) -> bool:
    parameter = inspect.signature(kind.step).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _optimizers_and_schedulers(returned: Any) -> tuple[list[Optimizer], list[Any]]:
    if isinstance(returned, (Optimizer, Mapping)):
        returned = [returned]
    if not isinstance(returned, (tuple, list)):
        raise ModelError(f"configure_optimizers returned {returned!r}. {ACCEPTED_FORMS}")
    if len(returned) == 2 and all(isinstance(part, (tuple, list)) for part in returned):
        optimizers, schedulers = returned
        if not all(isinstance(o, Optimizer) for o in optimizers):
            raise ModelError(
                f"configure_optimizers returned two lists, the first not all optimizers: {optimizers!r}. {ACCEPTED_FORMS}"
            )
        return list(optimizers), list(schedulers)
    optimizers, schedulers = [], []
    for part in returned:
        if isinstance(part, Optimizer):
            optimizers.append(part)
        elif isinstance(part, Mapping):
            own_optimizers, own_schedulers = _from_dict(part)
            optimizers += own_optimizers
            schedulers += own_schedulers
        else:
            raise ModelError(f"configure_optimizers returned {part!r} among its optimizers. {ACCEPTED_FORMS}")
    return optimizers, schedulers


def _from_dict(returned: Mapping[str, Any]) -> tuple[list[Optimizer], list[Any]]:
    """The form ``{"optimizer": ..., "lr_scheduler": ...}``."""
    unknown = set(returned) - {"optimizer", "lr_scheduler", "monitor"}
    if not isinstance(returned.get("optimizer"), Optimizer) or unknown:
        raise ModelError(f"configure_optimizers returned the dict {dict(returned)!r}. {ACCEPTED_FORMS}")
    scheduler = returned.get("lr_scheduler")
    if scheduler is None:
        return [returned["optimizer"]], []
    if "monitor" in returned:
        config = scheduler if isinstance(scheduler, Mapping) else {"scheduler": scheduler}
        scheduler = {"monitor": returned["monitor"], **config}
    return [returned["optimizer"]], [scheduler]


def _scheduler_config(returned: Any, optimizers: Sequence[Optimizer]) -> SchedulerConfig:
    options: Mapping[str, Any] = returned if isinstance(returned, Mapping) else {"scheduler": returned}
    unknown = sorted(set(options) - {"scheduler", "interval", "frequency", "monitor"})
    if unknown:
        raise ModelError(f"configure_optimizers: a scheduler's dict has the unknown key {unknown[0]!r}. {ACCEPTED_FORMS}")
    scheduler = options.get("scheduler")
    if not isinstance(scheduler, LRScheduler):
        _validate_own_scheduler(scheduler)
    # An object that does not name its optimizer follows the first.
    followed = getattr(scheduler, "optimizer", optimizers[0])
    owner = next((i for i, optimizer in enumerate(optimizers) if followed is optimizer), None)
    name = type(scheduler).__name__
    if owner is None:
        raise ModelError(f"configure_optimizers returned a {name} of an optimizer that it did not return. Return that one too.")
    interval, frequency = options.get("interval", "epoch"), options.get("frequency", 1)
    is_plateau = isinstance(scheduler, ReduceLROnPlateau)
    if interval not in ("epoch", "step", "validation"):
        raise ModelError(f"configure_optimizers: {name} has interval={interval!r}; it must be 'epoch', 'step' or 'validation'.")
    if not is_integer(frequency) or frequency < 1:
        raise ModelError(
            f"configure_optimizers: {name} has frequency={frequency!r}; it must be a number of {interval}s, an int >= 1."
        )
    if is_plateau and interval == "step":
        raise ModelError(
            f"configure_optimizers: {name} has interval='step'; its metric comes from a validation. Use interval='epoch'. "
            f"{_AFTER_EACH_VALIDATION}"
        )
    monitor = (options.get("monitor") or "val_loss") if is_plateau else None
    schedule = Schedule(
        optimizer_i=owner,
        interval=interval,
        frequency=frequency,
        needs_validation=is_plateau or interval == "validation",
        length=_scheduler_length(scheduler),
        raises_after_end=isinstance(scheduler, OneCycleLR),
    )
    return SchedulerConfig(scheduler, schedule, monitor)


def _validate_own_scheduler(returned: Any) -> None:
    """Raise an error unless an object that is no scheduler of torch's can be stepped, saved and loaded."""
    if not callable(getattr(returned, "step", None)):
        raise ModelError(f"configure_optimizers returned {returned!r} as a scheduler. {ACCEPTED_FORMS}")
    missing = [name for name in _METHODS if not callable(getattr(returned, name, None))]
    about = f"configure_optimizers returned {a_type_of(returned)} as a scheduler, which is not one of torch.optim.lr_scheduler"
    if missing:
        raise ModelError(
            f"{about} and has no method {missing[0]}, so it could not be saved and resumed. Give it state_dict() and "
            f"load_state_dict(state)."
        )
    try:
        inspect.signature(returned.step).bind()
    except TypeError as error:
        raise ModelError(
            f"{about}, and its step() cannot be called without arguments ({error}). Wrap it in a class whose step() counts by "
            f"itself, and which hands on state_dict and load_state_dict."
        ) from None
    except ValueError:  # a function of C without a signature
        return


def _scheduler_length(scheduler: Any) -> int | None:
    """Return the steps of a scheduler up to its end, its first drop or its last milestone; None if it has none of them."""
    match scheduler:
        case LinearLR() | ConstantLR() | PolynomialLR():
            return int(scheduler.total_iters)
        case CosineAnnealingLR():
            return int(scheduler.T_max)
        case StepLR():
            return int(scheduler.step_size)
        case MultiStepLR():
            return max(scheduler.milestones, default=None)
        case ChainedScheduler():
            return max((n for s in scheduler._schedulers if (n := _scheduler_length(s)) is not None), default=None)
        case OneCycleLR():
            return int(scheduler.total_steps) - scheduler.last_epoch
        case SequentialLR():
            last = _scheduler_length(scheduler._schedulers[-1]) or 0
            return max(scheduler._milestones, default=0) + last or None
    return None
