"""`training_step` returns None: this optimizer's forward of this batch is left out. Compared with loops written by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from attrs import frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam

from fsmtrain import Guards, Loop, Machine, Options, Sizes, State, TrainingModule, build, every_n_batches
from fsmtrain.errors import ModelError, UsageError
from tests.models import batches

TOLERANCE = 1e-12


class Model(TrainingModule):
    """Two parts, each with its optimizer, or one; `none` says for each forward whether it is left out."""

    def __init__(self, optimizers: int, none: Sequence[bool], weight: Callable[[int], Any] | None, splits: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleList([nn.Linear(3, 1).double() for _ in range(optimizers)])
        self.none, self.weight, self.splits, self.forwards = none, weight, splits, 0
        self.seen: list[Any] = []

    def loss(self, batch: Any, i: int, memory: Any) -> Any:
        x, y = batch
        parts: Any = self.parts
        out = sum((part(x) for part in parts), torch.zeros(()))
        return (out - y).square().mean() + 0.1 * parts[i].bias.sum() * (0 if memory is None else memory)

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int = 0, hiddens: Any = None) -> Any:
        self.forwards += 1
        self.seen.append(None if hiddens is None else float(hiddens))
        if self.none[(self.forwards - 1) % len(self.none)]:
            return None
        output = {"loss": self.loss(batch, optimizer_i, hiddens), "hiddens": torch.tensor(float(self.forwards))}
        if self.weight is not None:
            output["weight"] = self.weight(self.forwards)
        return output

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        return [batch] * self.splits

    def configure_optimizers(self) -> Any:
        return [(SGD if i else Adam)(part.parameters(), lr=0.05) for i, part in enumerate(self.parts)]


@frozen(kw_only=True)
class Setup:
    """What is varied."""

    batches: int
    length: int
    optimizers: int
    none: tuple[bool, ...]
    is_stream: bool = False
    splits: int = 0  # 0: no truncated BPTT
    every: int = 0  # the interval of a guard for the last optimizer; 0: none
    weights: tuple[int, ...] = ()

    def weight(self, forward: int) -> int:
        return self.weights[forward % len(self.weights)]

    def model(self) -> Model:
        return Model(self.optimizers, self.none, self.weight if self.weights else None, self.splits)


class Stream:
    """A loader without a length."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return iter(self.data)


EPOCHS = 2


def train_by_hand(setup: Setup) -> tuple[Model, list[int], int]:
    """Train with plain loops: collect the losses of a window, and step on their weighted mean."""
    model = setup.model()
    optimizers = model.configure_optimizers()
    steps, rounds = [0 for _ in optimizers], 0
    data = list(batches(setup.batches, 1, dtype=torch.float64))
    for _epoch in range(EPOCHS):
        windows: list[list[tuple[float, list[Any]]]] = [[] for _ in optimizers]
        for batch_nb, batch in enumerate(data):
            hiddens: list[Any] = [None for _ in optimizers]
            for split in range(setup.splits or 1):
                has_stepped = False
                for i, optimizer in enumerate(optimizers):
                    output = model.training_step(batch, batch_nb, i, hiddens[i])
                    window, parameters = windows[i], list(model.parts[i].parameters())
                    if output is not None:
                        hiddens[i] = output["hiddens"] if setup.splits else None
                        gradients = torch.autograd.grad(output["loss"], parameters)
                        window.append((output.get("weight", 1), list(gradients)))
                    is_end = batch_nb == len(data) - 1 and split == (setup.splits or 1) - 1
                    if setup.every and i == len(optimizers) - 1:
                        is_due = (batch_nb + 1) % setup.every == 0 and split == (setup.splits or 1) - 1
                    else:
                        is_due = len(window) == setup.length
                    if window and (is_due or is_end):
                        total = sum(weight for weight, _ in window) or 1
                        for k, parameter in enumerate(parameters):
                            parameter.grad = sum((w * g[k] for w, g in window), torch.zeros_like(parameter)) / total
                        optimizer.step()
                        window.clear()
                        steps[i] += 1
                        has_stepped = True
                rounds += has_stepped
    return model, steps, rounds


def train_by_machine(setup: Setup) -> tuple[Model, Machine]:
    model = setup.model()
    data = list(batches(setup.batches, 1, dtype=torch.float64))
    guards = Guards(step={setup.optimizers - 1: every_n_batches(setup.every)}) if setup.every else Guards()
    machine = build(
        Options(
            max_nb_epochs=EPOCHS,
            accumulate_grad_batches=setup.length,
            truncated_bptt_steps=1 if setup.splits else None,
            runs_dir=None,
            quiet=True,
            device="cpu",
        ),
        model,
        train_dataloader=Stream(data) if setup.is_stream else data,
        guards=guards,
    )
    machine.run()
    return model, machine


def assert_same_training(setup: Setup) -> None:
    by_hand, steps, rounds = train_by_hand(setup)
    model, machine = train_by_machine(setup)
    assert machine.counters.optimizer_steps == steps
    assert machine.counters.global_step == rounds
    assert machine.counters.open_windows == 0
    assert model.seen == by_hand.seen  # the hiddens stay as they were
    for expected, found in zip(by_hand.parameters(), model.parameters(), strict=True):
        assert torch.allclose(expected, found, rtol=0, atol=TOLERANCE)
    assert all(parameter.requires_grad for parameter in model.parameters())


setups = st.builds(
    Setup,
    batches=st.integers(1, 6),
    length=st.integers(1, 4),
    optimizers=st.integers(1, 2),
    none=st.lists(st.booleans(), min_size=1, max_size=7).map(tuple),
    is_stream=st.booleans(),
    splits=st.sampled_from([0, 0, 1, 3]),
    every=st.sampled_from([0, 0, 1, 2, 3]),
    weights=st.sampled_from([(), (), (3, 0, 5), (0,), (1,)]),
)


@given(setups)
@example(
    Setup(batches=3, length=4, optimizers=1, none=(False, False, True))
)  # the last batch closes the window, without a forward
@example(Setup(batches=6, length=4, optimizers=2, none=(True, False, False)))
@example(Setup(batches=2, length=2, optimizers=1, none=(True, False, False), splits=3))
@settings(max_examples=150, deadline=None)
def test_a_run_whose_training_step_returns_none_trains_like_a_loop_by_hand(setup: Setup) -> None:
    """K, guards, streams, weights, several optimizers and truncated BPTT, with any pattern of None."""
    assert_same_training(setup)


@pytest.mark.parametrize("none", itertools.product((False, True), repeat=5))
@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_pattern_of_none_over_five_batches(length: int, none: tuple[bool, ...]) -> None:
    assert_same_training(Setup(batches=5, length=length, optimizers=1, none=none))


def visits_of(setup: Setup) -> list[str]:
    model = setup.model()
    options = Options(max_nb_epochs=1, accumulate_grad_batches=setup.length, runs_dir=None, quiet=True, device="cpu")
    machine = build(options, model, train_dataloader=list(batches(setup.batches, 1, dtype=torch.float64)))
    return [transition.source.value for transition in machine]


def test_a_forward_without_a_loss_goes_on_to_round_end_or_closes_the_open_window_at_the_end_of_an_epoch() -> None:
    states = visits_of(Setup(batches=3, length=4, optimizers=1, none=(False, True, True)))
    assert " ".join(states) == (
        "start fetch train_batch backward accumulate round_end fetch train_batch round_end fetch train_batch step round_end "
        "epoch_end early_stop"
    )
    assert "step" not in visits_of(Setup(batches=2, length=1, optimizers=1, none=(True,)))


def test_the_guard_of_an_optimizer_is_asked_after_a_forward_without_a_loss_too() -> None:
    asked: list[tuple[int, int]] = []

    def remember(limits: Any, counters: Any, signals: Any) -> bool:
        asked.append((counters.batch_nb, counters.gathered))
        return False

    model = Setup(batches=4, length=1, optimizers=1, none=(True, False, True, False)).model()
    options = Options(max_nb_epochs=1, runs_dir=None, quiet=True)
    data = list(batches(4, 1, dtype=torch.float64))
    machine = build(options, model, train_dataloader=data, guards=Guards(step={0: remember}))
    machine.run()
    assert asked == [(0, 0), (1, 1), (2, 1), (3, 2)]
    assert machine.counters.optimizer_steps == [1]


def test_a_loop_by_hand_says_that_a_forward_has_no_loss() -> None:
    sizes = Sizes(train=4, may_return_none=True)
    scales = []
    for visit in Loop(Options(max_nb_epochs=1, accumulate_grad_batches=4), sizes):
        visit.signals.loss_is_none = visit.state is State.TRAIN_BATCH and visit.batch_nb in (1, 3)
        if visit.state in (State.BACKWARD, State.STEP):
            scales.append((visit.batch_nb, visit.loss_scale, visit.gradient_scale))
    assert scales == [(0, 0.25, 1.0), (2, 0.25, 1.0), (3, 1.0, 2.0)]
    visits = iter(Loop(Options(max_nb_epochs=1), Sizes(train=4)))
    next(visits).signals.loss_is_none = True
    with pytest.raises(UsageError, match=r"Sizes\(..., may_return_none=True\)"):
        next(visits)


def test_what_is_logged_before_none_is_kept() -> None:
    class Logging(TrainingModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("seen", batch_nb)
            return None

        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=0.1)

    options = Options(max_nb_epochs=1, runs_dir=None, quiet=True)
    result = build(options, Logging(), train_dataloader=list(batches(3, 1))).run()
    assert result.metrics["seen"] == 2
    assert result.counters.global_step == 0


def test_a_dict_without_a_loss_is_refused_all_the_same() -> None:
    class Empty(TrainingModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return {"loss": None}

        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=0.1)

    with pytest.raises(ModelError, match="a dict without a loss tensor"):
        build(Options(max_nb_epochs=1, runs_dir=None, quiet=True), Empty(), train_dataloader=list(batches(3, 1))).run()
