"""Where the added microseconds go: pieces of the machine replace the plainest code that does the same, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn, optim
from torch.nn.functional import mse_loss

from benchmarks.harness.compare import Contestant, Train
from benchmarks.trainings import by_hand
from benchmarks.trainings.models import Regression
from benchmarks.trainings.with_fsmtrain import BARE, BARE_NAME, train_bare
from fsmtrain import Machine, Options, State, build

Action = Callable[[], None]
FETCH, FORWARD, BACKWARD, STEP = State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.STEP


class PlainState:
    """What one call hands to the next, under the names that a machine's run state has for it."""

    __slots__ = ("loss", "splits")

    def __init__(self) -> None:
        self.splits: list[Any] = []
        self.loss: Any = None


def plain_actions(model: Regression, optimizer: optim.Optimizer, loader: Any, held: Any) -> dict[State, Action]:
    """Return the lines of the loop by hand as four functions that hand on the batch and the loss."""
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


def loop_of_calls(loader: Any) -> nn.Module:
    """Train by hand, with each line as a call."""
    model = Regression()
    model.train()
    actions = plain_actions(model, model.configure_optimizers(), loader, PlainState())
    fetch, forward, backward, step = (actions[state] for state in (FETCH, FORWARD, BACKWARD, STEP))
    try:
        while True:
            fetch()
            forward()
            backward()
            step()
    except StopIteration:
        return model


def machine_with_own(*states: State) -> Train:
    """Return a training by a machine that does its own work in these states, and the plainest in all others."""

    def train(loader: Any) -> nn.Module:
        machine: Machine = build(Options(**BARE), Regression(), train_dataloader=loader)
        model = machine.model
        assert isinstance(model, Regression)
        for state, action in plain_actions(model, machine.optimizers[0], loader, machine._run).items():
            if state not in states:
                node = machine._dispatcher._nodes[state]
                node.action = action
                if node.later is not None:
                    node.later.action = action
        machine.run()
        return model

    return train


def contestants() -> list[Contestant]:
    """Return contestants that lead from the loop by hand to a machine."""
    return [
        Contestant("... without zero_grad", by_hand.without_zero_grad),
        Contestant("... as four calls", loop_of_calls),
        Contestant("... called by the machine", machine_with_own()),
        Contestant("... with its own fetch", machine_with_own(FETCH)),
        Contestant("... its own forward", machine_with_own(FORWARD)),
        Contestant("... its own backward", machine_with_own(BACKWARD)),
        Contestant("... its own step", machine_with_own(STEP)),
        Contestant(BARE_NAME, train_bare()),
    ]
