"""Small trainings of every kind, to be run by either engine, and everything that may differ after two runs of one.

Each is made anew from a model of its own. Nothing here knows which engine will run it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from attrs import frozen
from torch import nn
from torch.optim import LBFGS, SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau, StepLR

from fsmtrain import Callback, EarlyStopping, Guards, Machine, after_steps, every_n_batches
from fsmtrain.core.interval_guards import every_n_steps_of
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.runtime.hooks.callback import HOOKS
from tests.models import (
    Adversaries,
    Linear,
    Perceptron,
    Plain,
    Recurrent,
    Validated,
    batches,
    flags,
    machine_of,
    sequences,
    stream,
    weights,
)

# ---- models that do what the shared ones do not


def sgd_with_schedulers(parameters: Any) -> Any:
    """Return an optimizer with a scheduler of each kind: per epoch, per step, and one that monitors a metric."""
    optimizer = SGD(parameters, lr=0.1, momentum=0.9)
    return [optimizer], [
        StepLR(optimizer, 1, gamma=0.9),
        {"scheduler": LambdaLR(optimizer, lambda steps: 1 / (1 + steps)), "interval": "step", "frequency": 2},
        {"scheduler": ReduceLROnPlateau(optimizer, patience=0, threshold=1.0), "monitor": "val_loss"},
    ]


def adam_and_scheduler_in_a_dict(parameters: Any) -> Any:
    """Return an optimizer and its scheduler as a dict."""
    optimizer = Adam(parameters, lr=0.05)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": ExponentialLR(optimizer, 0.8), "frequency": 2}}


class WeightedLosses(Linear):
    """Weights each batch by its number of samples."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.loss(batch), "weight": len(batch[0])}


class InfiniteLosses(Linear):
    """Has some infinite losses, so that steps are skipped or the run is rolled back."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.calls += 1
        return self.loss(batch) * (float("inf") if self.calls in (2, 3, 6) else 1e-3)


class SteppingInItsHook(Adversaries):
    """Steps each optimizer in its hook at its own interval, and keeps gradients in between, as in the documented example."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if batch_nb % (2 + 2 * optimizer_i) == 0:
            optimizer.step()
            optimizer.zero_grad()


class StopAfterTransitions(Callback):
    """Requests a stop in `on_transition`, after this many transitions."""

    def __init__(self, after: int) -> None:
        self.after, self.seen = after, 0

    def on_transition(self, machine: Any, transition: Any) -> None:
        self.seen += 1
        if self.seen == self.after:
            machine.stop()


class StopAtFifthBatch(Callback):
    """Requests a stop at the fifth batch."""

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        if machine.counters.batches_begun == 4:
            machine.stop()


class HookRecorder(Callback):
    """Records each call of a hook with the state and counters; raises in call number `raises_at`, counted from 1."""

    def __init__(self, *, raises_at: int | None = None) -> None:
        self.calls: list[Any] = []
        self.raises_at = raises_at
        for name in HOOKS:
            setattr(self, name, functools.partial(self._record, name))

    def _record(self, hook: str, machine: Machine, *_: object) -> None:
        self.calls.append((hook, machine.state, machine.counters.copy()))
        if len(self.calls) == self.raises_at:
            raise ZeroDivisionError(hook)


# ---- the trainings


@frozen
class Training:
    """How to build a model, how to build a machine from it, and why its run ends."""

    model: Callable[[], nn.Module]
    make: Callable[..., Machine]
    ends: StopReason = StopReason.MAX_EPOCHS


def fitting_with(*data: Any, **given: Any) -> Callable[..., Machine]:
    """Return a function that builds a machine that trains; `data` are functions that build the loaders."""

    def make(model: nn.Module, callbacks: Iterable[object] = ()) -> Machine:
        own = [make_callback() for make_callback in given.get("own", ())]
        more = {name: value for name, value in given.items() if name != "own"}
        return machine_of(model, *[loader() for loader in data], callbacks=[*callbacks, *own], **more)

    return make


def machine_that_tests(model: nn.Module, callbacks: Iterable[object] = ()) -> Machine:
    """Return a machine that only tests."""
    loaders = Loaders(test=[batches(5), stream(3)])
    return Machine(flags(), model, loaders, runs="test", callbacks=callbacks)


def loader_of(make: Callable[..., Any], *args: Any, **more: Any) -> Callable[[], Any]:
    """Return a function that builds a loader, for each run anew."""
    return functools.partial(make, *args, **more)


def no_loader() -> None:
    """Stand for a missing loader."""


def two_val_loaders() -> list[Any]:
    """Return loaders of different sizes."""
    return [batches(6), batches(4)]


def val_with_a_stream() -> list[Any]:
    """Return loaders, one of them without a length."""
    return [batches(3), stream(5)]


TRAININGS: dict[str, Training] = {
    "plain": Training(Linear, fitting_with(loader_of(batches, 14, shuffle=True), max_nb_epochs=3)),
    "a plain module": Training(Plain, fitting_with(loader_of(batches, 6), loader_of(batches, 2), max_nb_epochs=2)),
    "windows of four, the last one shorter": Training(
        Validated, fitting_with(loader_of(batches, 18), loader_of(batches, 4), accumulate_grad_batches=4, max_nb_epochs=2)
    ),
    "windows that change with the epochs": Training(
        Linear, fitting_with(loader_of(batches, 9), accumulate_grad_batches={1: 2, 2: 3}, max_nb_epochs=4)
    ),
    "weighted batches, clipped gradients": Training(
        WeightedLosses, fitting_with(loader_of(batches, 9), accumulate_grad_batches=2, gradient_clip_val=0.1, max_nb_epochs=2)
    ),
    "modes and randomness, before and between validations": Training(
        Perceptron,
        fitting_with(loader_of(batches, 12, shuffle=True), two_val_loaders, val_check_interval=0.34, max_nb_epochs=2),
    ),
    "two optimizers, one with a guard of its own": Training(
        Adversaries, fitting_with(loader_of(batches, 14), guards=Guards(step={1: every_n_batches(3)}), max_nb_epochs=2)
    ),
    "an optimizer that follows another": Training(
        Adversaries,
        fitting_with(
            loader_of(batches, 14), guards=Guards(step={0: every_n_batches(2), 1: every_n_steps_of(0, 2)}), max_nb_epochs=2
        ),
    ),
    "a hook that keeps gradients": Training(SteppingInItsHook, fitting_with(loader_of(batches, 10), max_nb_epochs=2)),
    "truncated BPTT": Training(
        Recurrent,
        fitting_with(loader_of(sequences, 6, 2, 7), truncated_bptt_steps=3, accumulate_grad_batches=2, max_nb_epochs=2),
    ),
    "a stream": Training(Linear, fitting_with(loader_of(stream, 9), accumulate_grad_batches=2, max_nb_epochs=2)),
    "streams to train on, to validate and to test": Training(
        Validated,
        fitting_with(loader_of(stream, 9), val_with_a_stream, loader_of(stream, 5), val_check_interval=2, max_nb_epochs=2),
    ),
    "schedulers of every kind": Training(
        functools.partial(Validated, sgd_with_schedulers),
        fitting_with(loader_of(batches, 8), loader_of(batches, 4), max_nb_epochs=4),
    ),
    "a scheduler in a dict": Training(
        functools.partial(Linear, adam_and_scheduler_in_a_dict), fitting_with(loader_of(batches, 4), max_nb_epochs=5)
    ),
    "an optimizer with a closure": Training(
        functools.partial(Validated, functools.partial(LBFGS, max_iter=3)),
        fitting_with(loader_of(batches, 8), loader_of(batches, 4), gradient_clip_val=1.0, max_nb_epochs=2),
    ),
    "bf16": Training(Perceptron, fitting_with(loader_of(batches, 8), loader_of(batches, 4), precision="bf16", max_nb_epochs=2)),
    "fp16 with steps that are skipped": Training(
        InfiniteLosses, fitting_with(loader_of(batches, 8), precision="16", max_nb_epochs=2)
    ),
    "windows that are dropped": Training(
        InfiniteLosses, fitting_with(loader_of(batches, 8), accumulate_grad_batches=2, on_nonfinite="skip", max_nb_epochs=2)
    ),
    "three rollbacks": Training(
        InfiniteLosses,
        fitting_with(loader_of(batches, 8), on_nonfinite="rollback", guards=Guards(save=every_n_batches(1)), max_nb_epochs=2),
    ),
    "checkpoints": Training(
        Validated,
        fitting_with(loader_of(batches, 8), loader_of(batches, 4), guards=Guards(save=every_n_batches(3)), max_nb_epochs=2),
    ),
    "several validations an epoch, early stopping at its end": Training(
        Perceptron,
        fitting_with(
            loader_of(batches, 20, shuffle=True),
            two_val_loaders,
            val_check_interval=0.25,
            early_stop_callback=EarlyStopping(min_delta=100.0, patience=6),
            max_nb_epochs=5,
        ),
        StopReason.EARLY_STOPPING,
    ),
    "early stopping within an epoch, once the window is closed, then a test": Training(
        Validated,
        fitting_with(
            loader_of(batches, 20),
            loader_of(batches, 4),
            loader_of(batches, 3),
            accumulate_grad_batches=3,
            val_check_interval=1,
            early_stop_callback=EarlyStopping(min_delta=100.0, patience=3),
            min_nb_epochs=0,
            max_nb_epochs=5,
        ),
        StopReason.EARLY_STOPPING,
    ),
    "a guard that stops within an epoch": Training(
        Linear,
        fitting_with(loader_of(batches, 14), guards=Guards(stop=after_steps(4)), min_nb_epochs=0, max_nb_epochs=5),
        StopReason.STOP_GUARD,
    ),
    "a stop request": Training(
        Linear, fitting_with(loader_of(batches, 14), own=[StopAtFifthBatch], max_nb_epochs=3), StopReason.REQUESTED
    ),
    "a test at the end": Training(
        Validated, fitting_with(loader_of(batches, 8), loader_of(batches, 6), two_val_loaders, max_nb_epochs=2)
    ),
    "no epoch": Training(
        Perceptron, fitting_with(no_loader, loader_of(batches, 6), loader_of(batches, 3), max_nb_epochs=0), StopReason.NO_EPOCHS
    ),
    "a test alone": Training(Perceptron, machine_that_tests, StopReason.TESTED),
}


# ---- what may differ


def outcome(machine: Machine) -> dict[str, Any]:
    """Return everything that a run leaves behind, except times."""
    parameters = list(machine.model.parameters())
    return {
        "weights": weights(machine.model),
        "gradients": [None if p.grad is None else p.grad.clone() for p in parameters],
        "requires_grad": [p.requires_grad for p in parameters],
        "modes": [module.training for module in machine.model.modules()],
        "grad mode": torch.is_grad_enabled(),
        "optimizers": [optimizer.state_dict() for optimizer in machine.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in machine.lr_schedulers],
        "metrics": machine.metrics,
        "counters": machine.counters.values(),
        "signals": machine.signals.copy(),
        "state": machine.state,
        "reason": machine.stop_reason,
        "trace": [str(transition) for transition in machine.trace],
        "visits": {state: timing.count for state, timing in machine.times.items()},
        "rng": torch.get_rng_state(),
    }


def run_with_both_engines(machine: Machine, turns: Iterator[bool]) -> None:
    """Run a machine to its end. `turns` chooses the engine of each transition: True for ``transitions``."""
    run = machine.as_transitions().model
    for theirs in turns:
        if machine.state.is_final:
            return
        if theirs:
            run.advance()
        else:
            machine.advance()
