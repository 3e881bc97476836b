"""Where what the machine adds goes: its pieces one at a time, in the place of the plainest code that does the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn, optim
from torch.nn.functional import mse_loss

from benchmarks import by_hand
from benchmarks.models import Regression
from benchmarks.ours import BARE, BARE_NAME, trains
from benchmarks.turns import Contestant, Train
from fsmtrain import Machine, Options, State, build

Action = Callable[[], None]
FETCH, FORWARD, BACKWARD, STEP = State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.STEP


class Held:
    """What one call leaves to the next, under the names that a machine's memory has for it."""

    __slots__ = ("loss", "splits")

    def __init__(self) -> None:
        self.splits: list[Any] = []
        self.loss: Any = None


def plainest(model: Regression, optimizer: optim.Optimizer, loader: Any, held: Any) -> dict[State, Action]:
    """The lines of the loop by hand as four functions that hand on the batch and the loss."""
    batches = iter(loader)

    def fetch() -> None:
        held.splits = [next(batches)]

    def forward() -> None:
        [(x, y)] = held.splits
        held.loss = mse_loss(model.layer(x), y)

    def backward() -> None:
        held.loss.backward()
        held.loss = None

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return {FETCH: fetch, FORWARD: forward, BACKWARD: backward, STEP: step}


def in_calls(loader: Any) -> nn.Module:
    """The loop by hand, each of its lines a call."""
    model = Regression()
    model.train()
    acts = plainest(model, model.configure_optimizers(), loader, Held())
    fetch, forward, backward, step = (acts[state] for state in (FETCH, FORWARD, BACKWARD, STEP))
    try:
        while True:
            fetch()
            forward()
            backward()
            step()
    except StopIteration:
        return model


def with_own(*states: State) -> Train:
    """A machine that does its own work in these states, and the plainest in the others."""

    def train(loader: Any) -> nn.Module:
        machine: Machine = build(Options(**BARE), Regression(), train_dataloader=loader)
        model = machine.model
        assert isinstance(model, Regression)
        for state, act in plainest(model, machine.optimizers[0], loader, machine._run).items():
            if state not in states:
                machine._dispatcher._nodes[state].action = act
        machine.run()
        return model

    return train


def contestants() -> list[Contestant]:
    """The loop by hand on its way to a machine."""
    return [
        Contestant("without zero_grad", by_hand.without_zero_grad),
        Contestant("its lines as four calls", in_calls),
        Contestant("... called by the machine", with_own()),
        Contestant("... with its own fetch", with_own(FETCH)),
        Contestant("... its own forward", with_own(FORWARD)),
        Contestant("... its own backward", with_own(BACKWARD)),
        Contestant("... its own step", with_own(STEP)),
        Contestant(BARE_NAME, trains()),
    ]
