"""Settings of optimizers and schedulers, such as lr, weight_decay and gamma, as ``configure_optimizers`` built them.

A checkpoint holds those of its run. A resumed run compares them with its own, reports each difference, and continues with the
saved ones, or with its own if asked to.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

import numpy as np
import torch
from attrs import define, frozen
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from fsmtrain.core.guard_ast.source import UnreadableError, find_source
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, SchedulerConfig

Settings = dict[str, dict[str, Any]]  # of each group and scheduler, under a name for people: plain values by name

# Attributes of schedulers that are no settings: how far they have come, and what follows from other settings.
_PROGRESS = frozenset({"best", "cooldown_counter", "last_epoch", "num_bad_epochs", "T_cur", "T_i"})
_DERIVED = frozenset({"base_lrs", "mode_worse", "optimizer", "verbose"})
# Settings that no state_dict holds: those of this run are used in any case.
_NEVER_SAVED = frozenset({"interval", "frequency", "monitor", "lr_lambdas"})
_OMITTED = object()


@frozen
class Difference:
    """A setting that this run built with another value than the run that was saved."""

    where: str
    name: str
    saved: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.name}={self.now!r}, checkpoint has {self.saved!r}"


@define(eq=False)
class OptimizerSettings:
    """The settings in force, and what ``configure_optimizers`` built, to build it again at any step of a schedule.

    Attributes:
        setup: The optimizers and schedulers.
        in_force: The settings with which the run trains: its own, or those of the run that it continues.
        built: Its own.
        groups: The options of each optimizer's groups, as they were built.
        schedulers: The state of each scheduler, as it was built.
    """

    setup: OptimizerSetup
    in_force: Settings
    built: Settings
    groups: list[list[dict[str, Any]]]
    schedulers: list[dict[str, Any]]
    has_warned: bool = False  # of a group that no resumed run can add again

    @classmethod
    def of(cls, setup: OptimizerSetup) -> OptimizerSettings:
        """Return the settings of optimizers and schedulers that have just been built."""
        built = _settings_of(setup)
        groups = [[_options(group) for group in slot.optimizer.param_groups] for slot in setup.slots]
        schedulers = [copy.deepcopy(config.scheduler.state_dict()) for config in setup.scheduler_configs]
        return cls(setup, built, built, groups, schedulers)

    def differences(self, saved: Settings) -> list[Difference]:
        """Return what this run built with other values. What only one of the two has is left out: it is another optimizer."""
        return [
            Difference(where, name, saved[where][name], value)
            for where, settings in self.built.items()
            if where in saved
            for name, value in settings.items()
            if name in saved[where] and saved[where][name] != value
        ]

    def take_own(self, saved: Settings) -> None:
        """Give optimizers and schedulers that have been loaded the settings of this run, at the step that they have reached."""
        ratios = [
            [_ratio(saved, self.built, name) for name in _group_names(i, slot)] for i, slot in enumerate(self.setup.slots)
        ]
        loaded = [[group["lr"] for group in slot.optimizer.param_groups] for slot in self.setup.slots]
        for slot, groups in zip(self.setup.slots, self.groups, strict=True):
            for group, options in zip(slot.optimizer.param_groups, groups, strict=False):
                group.update(copy.deepcopy(options))
        for config, state in zip(self.setup.scheduler_configs, self.schedulers, strict=True):
            if isinstance(config.scheduler, ReduceLROnPlateau):
                i = config.schedule.optimizer_i
                progress = {name: value for name, value in config.scheduler.state_dict().items() if name in _PROGRESS}
                config.scheduler.load_state_dict({**state, **progress})
                for group, lr, ratio in zip(config.scheduler.optimizer.param_groups, loaded[i], ratios[i], strict=False):
                    group["lr"] = lr * ratio
            elif isinstance(config.scheduler, LRScheduler):
                _restart(config.scheduler, state)
        for slot, groups, lrs in zip(self.setup.slots, self.groups, loaded, strict=True):
            for group, lr in [*zip(slot.optimizer.param_groups, lrs, strict=True)][len(groups) :]:
                group["lr"] = lr  # of a group that was added on the way
        self.in_force = self.built

    def keep_saved(self, saved: Settings) -> list[SchedulerConfig]:
        """Keep the settings that have been loaded, except of a schedule that is longer now and whose end would be an error.

        Returns:
            These schedules; they have the settings of this run.
        """
        own = {name: {**settings, **_subset(self.built.get(name, {}), _NEVER_SAVED)} for name, settings in saved.items()}
        longer = []
        for i, (config, state) in enumerate(zip(self.setup.scheduler_configs, self.schedulers, strict=True)):
            if isinstance(config.scheduler, OneCycleLR) and state["total_steps"] > config.scheduler.total_steps:
                _restart(config.scheduler, state)
                own[_scheduler_name(i, config.scheduler)] = self.built[_scheduler_name(i, config.scheduler)]
                longer.append(config)
        self.in_force = own
        return longer


def differences_text(differences: list[Difference]) -> str:
    """Return the differences as one line."""
    return "; ".join(map(str, differences))


def is_taken_in_any_case(difference: Difference) -> bool:
    """Return whether the value of this run is used whether it was asked for or not: no checkpoint can hold it."""
    return difference.name in _NEVER_SAVED


def _restart(scheduler: LRScheduler, built: Mapping[str, Any]) -> None:
    """Bring a scheduler to the state in which it was built, and from there to as many steps as it had made."""
    steps = _steps_made(scheduler)
    scheduler.load_state_dict(copy.deepcopy(dict(built)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects a step of the optimizer first, and this one has made many
        for _ in range(steps - _steps_made(scheduler)):
            scheduler.step()


def _steps_made(scheduler: LRScheduler) -> int:
    parts = getattr(scheduler, "_schedulers", ())
    return int(getattr(scheduler, "last_epoch", None) or (parts[0].last_epoch if parts else 0))


def _ratio(saved: Settings, built: Settings, name: str) -> float:
    """Return by how much the learning rate of a group, as it was built, differs from the saved run's."""
    before, now = saved.get(name, {}).get("lr"), built.get(name, {}).get("lr")
    return now / before if isinstance(before, (int, float)) and isinstance(now, (int, float)) and before else 1.0


# ---- reading settings


def _settings_of(setup: OptimizerSetup) -> Settings:
    settings: Settings = {}
    for i, slot in enumerate(setup.slots):
        for name, group in zip(_group_names(i, slot), slot.optimizer.param_groups, strict=True):
            options = {**group, "lr": group.get("initial_lr", group.get("lr"))}  # schedulers note the one that they began with
            settings[name] = _plain_items((key, options[key]) for key in options if key not in ("params", "initial_lr"))
    for i, config in enumerate(setup.scheduler_configs):
        settings |= _scheduler_settings(_scheduler_name(i, config.scheduler), config.scheduler)
        schedule = config.schedule
        when = {"interval": schedule.interval, "frequency": schedule.frequency, "monitor": config.monitor}
        settings[_scheduler_name(i, config.scheduler)] |= when
    return settings


def _group_names(index: int, slot: Any) -> list[str]:
    whole, groups = f"optimizer {index} ({type(slot.optimizer).__name__})", slot.optimizer.param_groups
    return [whole if number == 0 else f"{whole}, group {number}" for number in range(len(groups))]


def _scheduler_name(index: int, scheduler: LRScheduler) -> str:
    return f"scheduler {index} ({type(scheduler).__name__})"


def _scheduler_settings(name: str, scheduler: LRScheduler) -> Settings:
    public = {key: value for key, value in vars(scheduler).items() if not key.startswith("_")}
    own = {key: value for key, value in public.items() if key not in _PROGRESS | _DERIVED}
    if hasattr(scheduler, "_milestones"):
        own["milestones"] = scheduler._milestones
    settings = {name: _plain_items(own.items())}
    for number, part in enumerate(getattr(scheduler, "_schedulers", ())):
        settings |= _scheduler_settings(f"{name}, part {number} ({type(part).__name__})", part)
    return settings


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}


def _subset(settings: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}


def _plain_items(items: Iterator[tuple[str, Any]] | Any) -> dict[str, Any]:
    plain = {name: _plain(value) for name, value in items}
    return {name: value for name, value in plain.items() if value is not _OMITTED}


def _plain(value: Any) -> Any:
    """Return a setting as plain data; a function as its source or its name; `_OMITTED` for anything else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else _OMITTED
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, Mapping):
        value = sorted(value.items())
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return _OMITTED if any(item is _OMITTED for item in items) else items
    return _function_text(value) if callable(value) else _OMITTED


def _function_text(function: Callable[..., Any]) -> str:
    """Return the source of a lambda, or the name of any other function, with the values that it closes over."""
    if isinstance(function, functools.partial):
        arguments = [*map(repr, function.args), *(f"{name}={value!r}" for name, value in function.keywords.items())]
        return f"partial({', '.join((_function_text(function.func), *arguments))})"
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    if not isinstance(function, FunctionType):
        return name
    if name.endswith("<lambda>"):
        try:
            name = ast.unparse(find_source(function.__code__).function)
        except UnreadableError:
            name = "lambda"
    known = inspect.getclosurevars(function).nonlocals
    closed = ", ".join(f"{key}={_plain(value)!r}" for key, value in known.items() if _plain(value) is not _OMITTED)
    return f"{name}, {closed}" if closed else name
