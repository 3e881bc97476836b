"""Real runs whose surroundings change: a model, loaders, hooks and guards that follow a `Surroundings` object.

The configurations are small, so that a run meets its beginning and its end often. Nothing here knows what a test expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from fsmtrain import Callback, EarlyStopping, Guards, Machine, TrainingModule, every_n_batches
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.runtime.hooks.callback import HOOKS
from tests.models import flags

# ---- what can be changed from outside


class PlannedFailure(Exception):
    """The error that a hook or a forward raises."""


@define
class Surroundings:
    """Everything around a run that may change during the run."""

    improves: bool = True  # whether the next check finds a better metric
    overflows: bool = False  # whether losses are infinite
    stream: int = 3  # batches of a train stream, from its next epoch on
    fails_in: str | None = None  # the next hook, or "forward", that raises
    switches: list[bool] = field(factory=lambda: [True, False, False, True])  # what the guards answer

    def fail_if_due(self, where: str) -> None:
        """Raise once, if the failure is planned for this place."""
        if self.fails_in in (where, "any hook") and (self.fails_in == where or where in HOOKS):
            self.fails_in = None
            raise PlannedFailure(where)


class SwitchGuard:
    """A guard whose return value is an attribute of another object."""

    def __init__(self, outside: Surroundings, index: int) -> None:
        self.outside, self.index = outside, index

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        return self.outside.switches[self.index]


def closure_guard(outside: Surroundings, index: int) -> Guard:
    """Return a guard whose return value is in a variable that it closes over: its source looks like a constant."""
    switches = outside.switches

    def guard(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb >= 0 and switches[index]

    return guard


def patience_guard(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """A guard with readable source that follows a signal."""
    return signals.patience_exhausted and counters.batch_nb >= 1


class ScriptedModel(TrainingModule):
    """A model with any number of optimizers that follows its surroundings."""

    def __init__(self, outside: Surroundings, optimizers: int = 1) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.1), nn.Linear(2, 1)) for _ in range(optimizers))
        self.outside, self.validations = outside, 0

    def loss(self, batch: Any, part: int) -> Tensor:
        """The mean squared error of one part."""
        self.outside.fail_if_due("forward")
        x, y = batch  # (batch, time, 3), (batch, time, 1)
        factor = float("inf") if self.outside.overflows else 1e-3
        return F.mse_loss(self.parts[part](x), y) * factor

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int = 0, hiddens: Any = None) -> Any:
        assert self.training
        assert torch.is_grad_enabled()
        loss = self.loss(batch, optimizer_i)
        return {"loss": loss, "hiddens": loss.detach()}

    def evaluate(self, batch: Any) -> Tensor:
        """Return the loss of one batch of a validation or test."""
        assert not self.training
        assert not torch.is_grad_enabled()
        return self.loss(batch, 0)

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.evaluate(batch)}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        return {"test_loss": self.evaluate(batch)}

    def validation_end(self, outputs: Any) -> Any:
        self.validations += 1
        return {"val_loss": -float(self.validations) if self.outside.improves else float(self.validations)}

    def configure_optimizers(self) -> Any:
        return [SGD(part.parameters(), lr=0.01) for part in self.parts]


class FailingCallback(Callback):
    """Raises in its hooks if a failure is planned."""

    def __init__(self, outside: Surroundings) -> None:
        for name in HOOKS:
            setattr(self, name, lambda *_, name=name: outside.fail_if_due(name))


class ChangingStream:
    """A train stream whose length is set when an epoch begins."""

    def __init__(self, outside: Surroundings) -> None:
        self.outside = outside

    def __iter__(self) -> Iterator[Any]:
        return iter(sequence_batches(self.outside.stream))


def sequence_batches(n: int) -> list[Any]:
    """Batches of two sequences of three time steps."""
    generator = torch.Generator().manual_seed(n)
    return [(torch.randn(2, 3, 3, generator=generator), torch.randn(2, 3, 1, generator=generator)) for _ in range(n)]


# ---- configurations, small ones, so that a run meets its beginning and its end often


@frozen
class Configuration:
    """The flags, the loaders and the guards of a run."""

    flags: dict[str, Any]
    loaders: Callable[[Surroundings], Loaders] = lambda outside: Loaders(train=sequence_batches(3), val=[], test=[])
    guards: Callable[[Surroundings], Guards] = lambda outside: Guards()
    optimizers: int = 1
    runs: Any = "fit"

    def machine(self, outside: Surroundings) -> Machine:
        """Return a machine that has not run."""
        given = {"max_nb_epochs": 1, "nb_sanity_val_steps": 0, **self.flags}
        model, guards = ScriptedModel(outside, self.optimizers), self.guards(outside)
        return Machine(
            flags(**given), model, self.loaders(outside), runs=self.runs, guards=guards, callbacks=[FailingCallback(outside)]
        )


def all_loaders(outside: Surroundings) -> Loaders:
    """Return loaders for all loops."""
    return Loaders(train=sequence_batches(3), val=[sequence_batches(2)], test=[sequence_batches(2)])


STOPPING = {"early_stop_callback": EarlyStopping(patience=1), "min_nb_epochs": 0}

CONFIGURATIONS = {
    "everything": Configuration(
        {**STOPPING, "accumulate_grad_batches": 2, "val_check_interval": 1, "nb_sanity_val_steps": 2, "max_nb_epochs": 2},
        all_loaders,
        lambda outside: Guards(save=SwitchGuard(outside, 0), stop=closure_guard(outside, 1)),
    ),
    "guards for two optimizers and for validations": Configuration(
        {"max_nb_epochs": 1, "accumulate_grad_batches": 2, "nb_sanity_val_steps": 1},
        lambda outside: Loaders(train=sequence_batches(2), val=[sequence_batches(1)], test=[]),
        lambda outside: Guards(
            step={0: closure_guard(outside, 2), 1: every_n_batches(2)},
            validate=SwitchGuard(outside, 3),
            save=every_n_batches(2),
        ),
        optimizers=2,
    ),
    "a stream in splits": Configuration(
        {**STOPPING, "truncated_bptt_steps": 2, "accumulate_grad_batches": 3, "val_check_interval": 2, "max_nb_epochs": 2},
        lambda outside: Loaders(train=ChangingStream(outside), val=[sequence_batches(1)], test=[sequence_batches(1)]),
        lambda outside: Guards(stop=patience_guard),
    ),
    "fp16": Configuration(
        {"precision": "16", "accumulate_grad_batches": 2}, guards=lambda outside: Guards(save=every_n_batches(1))
    ),
    "every second epoch": Configuration(
        {"max_nb_epochs": 2, "check_val_every_n_epoch": 2, "val_check_interval": 1.0, "early_stop_callback": True},
        lambda outside: Loaders(train=sequence_batches(2), val=[sequence_batches(1)], test=[sequence_batches(1)]),
        lambda outside: Guards(save=closure_guard(outside, 0)),
    ),
    "no epoch": Configuration({"max_nb_epochs": 0, "nb_sanity_val_steps": 2}, all_loaders),
    "a test alone": Configuration({}, lambda outside: Loaders(test=[sequence_batches(2)]), runs="test"),
}
