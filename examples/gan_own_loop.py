"""The GAN of ``gan.py`` in a training loop of your own: two optimizers that take turns, driven by the bare state machine.

    python examples/gan_own_loop.py [--short]

`Loop` says which of the two optimizers is to be trained and when it steps; all that touches a tensor is written out here. The
options and the guard are those of ``gan.py``, and so are the final weights, bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from digits_data import digits
from gan import Gan, as_text
from torch import Tensor
from torch.utils.data import DataLoader

from fsmtrain import Guards, Loop, Options, Sizes, State, every_n_batches


def train(max_nb_epochs: int) -> tuple[Gan, list[int]]:
    """Train; return the model, and how many steps each optimizer has made."""
    data, _, _ = digits()
    torch.manual_seed(0)
    gan = Gan()
    optimizers = gan.configure_optimizers()
    parts = (gan.discriminator, gan.generator)
    loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True)

    options = Options(max_nb_epochs=max_nb_epochs)
    guards = Guards(step={1: every_n_batches(2)})  # the generator steps at every second batch
    loop = Loop(options, Sizes(train=len(loader), optimizers=2), guards=guards)
    batches: Iterator[Any] = iter(())
    batch: list[Tensor] = []
    loss, steps = torch.zeros(()), [0, 0]

    torch.manual_seed(0)
    for visit in loop:
        i = visit.optimizer_i
        match visit.state:
            case State.FETCH:
                if visit.batch_nb == 0:
                    batches = iter(loader)
                batch = next(batches)
            case State.TRAIN_BATCH:
                for j, part in enumerate(parts):
                    part.requires_grad_(j == i)  # so that no gradient flows into the other one
                loss = gan.training_step(batch, visit.batch_nb, i)["loss"]
            case State.BACKWARD:
                (loss * visit.loss_scale).backward()  # type: ignore[no-untyped-call]
            case State.STEP:
                for parameter in parts[i].parameters():
                    if parameter.grad is not None and visit.gradient_scale != 1:
                        parameter.grad.mul_(visit.gradient_scale)  # the window's mean: its length was not known beforehand
                optimizers[i].step()
                optimizers[i].zero_grad()
                steps[i] += 1
    return gan.requires_grad_(True), steps


def main(short: bool = False) -> None:
    """Train, and draw some digits."""
    gan, (of_discriminator, of_generator) = train(20 if short else 100)
    gan.eval()
    with torch.no_grad():
        print(as_text(gan.draw(torch.arange(5))))
    print(f"\n{of_discriminator} steps of the discriminator, {of_generator} of the generator")


if __name__ == "__main__":
    main(short="--short" in sys.argv)
