"""An optimizer with a closure: LBFGS finds the best linear classifier of handwritten digits in a few steps.

    python examples/lbfgs.py [--short]

All the training images are one batch, so an epoch is a step. LBFGS evaluates the loss several times in it, by the closure that
the machine passes to ``optimizer_step``; the first evaluation is the forward that has already run. The problem is convex, so
the result can be compared with the optimum, which scikit-learn finds.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from digits_data import digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Options, TrainingModule, build

DECAY = 1e-3  # of the weights, so that the loss has one minimum


class Linear(TrainingModule):
    """Multinomial logistic regression."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.evaluations = 0
        self.losses: list[float] = []

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy, plus weight decay."""
        return cross_entropy(self.layer(images), labels) + DECAY / 2 * self.layer.weight.square().sum()

    def training_step(self, batch: list[Tensor], batch_nb: int) -> Tensor:
        """Return the loss; called several times a step."""
        self.evaluations += 1
        return self.loss(*batch)

    def optimizer_step(
        self,
        current_epoch: int,
        batch_nb: int,
        optimizer: torch.optim.Optimizer,
        optimizer_i: int,
        second_order_closure: Any = None,
    ) -> None:
        """Step as by default, and record the loss before the step."""
        loss = optimizer.step(second_order_closure)
        optimizer.zero_grad()
        assert loss is not None
        self.losses.append(float(loss))

    def test_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the accuracy."""
        images, labels = batch
        return {"test_acc": (self.layer(images).argmax(dim=1) == labels).float().mean()}

    def configure_optimizers(self) -> torch.optim.LBFGS:
        """Return LBFGS with at most ten iterations a step, each with a line search."""
        return torch.optim.LBFGS(self.parameters(), max_iter=10, history_size=20, line_search_fn="strong_wolfe")


def minimum_loss(data: TensorDataset) -> float:
    """Return the smallest possible loss, found by scikit-learn."""
    images, labels = (tensor.double() for tensor in data.tensors)
    optimum = LogisticRegression(C=1 / (DECAY * len(images)), tol=1e-8, max_iter=10_000).fit(images.numpy(), labels.numpy())
    model = Linear().double()
    with torch.no_grad():
        model.layer.weight.copy_(torch.from_numpy(optimum.coef_))
        model.layer.bias.copy_(torch.from_numpy(optimum.intercept_))
        return float(model.loss(images, labels.long()))


def main(short: bool = False) -> tuple[list[float], float]:
    """Train and test; return the loss before each step and after the last, and the smallest possible loss."""
    data, _, test_data = digits()
    torch.manual_seed(0)
    model = Linear()
    machine = build(
        Options(max_nb_epochs=8 if short else 16, device="cpu", progress_bar=False),
        model,
        train_dataloader=DataLoader(data, batch_size=len(data)),
        test_dataloaders=DataLoader(test_data, batch_size=len(test_data)),
    )
    result = machine.run()
    with torch.no_grad():
        losses, best = [*model.losses, float(model.loss(*data.tensors))], minimum_loss(data)

    print(f"steps   loss       above the minimum, {best:.6f}, found by scikit-learn")
    for steps, loss in enumerate(losses):
        gap = max(loss - best, 1e-7)  # about the precision of 32 bits
        print(f"{steps:5}   {loss:.6f}   {'█' * round(5 * math.log10(gap / 1e-7))} {gap:.0e}")
    print(f"\n{model.evaluations} evaluations of the loss in {result.counters.global_step} steps")
    print(f"test accuracy {result.metrics['test_acc']:.3f}")
    return losses, best


if __name__ == "__main__":
    main(short="--short" in sys.argv)
