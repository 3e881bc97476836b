"""A training loop of your own, driven by the state machine: it yields what is next, you do the work.

    python examples/own_loop.py

This uses nothing of fsmtrain's runtime: no base class, no trainer. The options are the documented ones, and the final weights
are the same, bit for bit, as those of a machine that trains this model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from digits_data import digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from fsmtrain import Loop, Options, Sizes, State, Visit


def train(max_nb_epochs: int = 3) -> tuple[nn.Module, float]:
    """Train on the digits; return the model and its last validation accuracy."""
    train_data, val_data, _ = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    train_loader = DataLoader(train_data, batch_size=16, shuffle=True)
    val_loader = DataLoader(val_data, batch_size=100)

    options = Options(max_nb_epochs=max_nb_epochs, accumulate_grad_batches=4, val_check_interval=0.5, nb_sanity_val_steps=0)
    batches: Iterator[Any] = iter(())
    loss, right = torch.zeros(()), 0

    for visit in Loop(options, Sizes(train=len(train_loader), val=[1])):  # here one visit runs a whole validation
        match visit.state:
            case State.FETCH:
                if visit.batch_nb == 0:
                    batches = iter(train_loader)
                x, y = next(batches)
            case State.TRAIN_BATCH:
                loss = cross_entropy(model(x), y)
            case State.BACKWARD:
                (loss * visit.loss_scale).backward()  # type: ignore[no-untyped-call]
            case State.STEP:
                rescale_gradients(model, visit)
                optimizer.step()
                optimizer.zero_grad()
            case State.VAL_CHECK:
                right = count_correct(model, val_loader)
            case State.EPOCH_END:
                print(f"epoch {visit.current_epoch}: {visit.global_step} steps, {right / len(val_data):.3f} correct")
    return model, right / len(val_data)


def rescale_gradients(model: nn.Module, visit: Visit) -> None:
    """Make the gradients the mean over their window, if its length was not known when it opened: with a guard, or a stream."""
    if visit.gradient_scale != 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(visit.gradient_scale)


def count_correct(model: nn.Module, loader: DataLoader[Any]) -> int:
    """Return how many images of a loader are classified correctly."""
    model.eval()
    with torch.no_grad():
        right = sum(int(_count_hits(model(x), y)) for x, y in loader)
    model.train()
    return right


def _count_hits(scores: Tensor, y: Tensor) -> Tensor:
    return (scores.argmax(1) == y).sum()


if __name__ == "__main__":
    train()
