"""A training loop written by hand over a `Loop`: its steps are those of the machine, with any guard, a stream, or splits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD

import fsmtrain
from fsmtrain import Guards, Loop, Options, Sizes, State, Visit, build, every_n_batches
from tests.models import Linear, batches, twins, weights

DATA = list(batches(9, 1))


def train_by_hand(model: Linear, loop: Loop) -> None:
    optimizer = model.configure_optimizers()
    for visit in loop:
        match visit.state:
            case State.FETCH:
                visit.signals.stream_ended = visit.batch_nb + 1 == len(DATA)
            case State.TRAIN_BATCH:
                loss = model.loss(DATA[visit.batch_nb])
            case State.BACKWARD:
                (loss * visit.loss_scale).backward()
            case State.STEP:
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.grad.mul_(visit.gradient_scale)
                optimizer.step()
                optimizer.zero_grad()


GUARDED = Guards(step={0: every_n_batches(2)})


@pytest.mark.parametrize(
    ("train", "length", "guards", "note"),
    [
        (9, 1, Guards(), ""),
        (9, 4, Guards(), ""),
        (None, 1, Guards(), ""),
        (None, 4, Guards(), "a stream"),
        (9, 4, GUARDED, "Guards(step={0: ...})"),
        (None, 4, GUARDED, "Guards(step={0: ...}) and a stream"),
    ],
)
def test_a_loop_by_hand_trains_on_the_mean_as_a_machine_does_and_check_notes_where_gradients_need_rescaling(
    train: int | None, length: int, guards: Guards, note: str
) -> None:
    first, second = twins(lambda: Linear(lambda parameters: SGD(parameters, lr=0.1)))
    options = Options(max_nb_epochs=2, accumulate_grad_batches=length, runs_dir=None, quiet=True)
    loop = Loop(options, Sizes(train=train), guards=guards)
    train_by_hand(first, loop)
    machine = build(options, second, train_dataloader=DATA if train else Stream(DATA), guards=guards)
    machine.run()
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(weights(first), weights(second), strict=True))
    assert bool(note) == any("visit.gradient_scale" in line for line in loop.check().notes)
    assert note in str(loop.check())
    assert machine.check().notes == machine.loop.check().notes == ()


class Stream:
    """A loader without a length."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return iter(self.data)


def test_visit_is_public() -> None:
    assert fsmtrain.Visit is Visit
    assert isinstance(next(iter(Loop(Options(max_nb_epochs=1), Sizes(train=1)))), Visit)
