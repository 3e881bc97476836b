"""Train on a stream without a length: a model adds handwritten digits, sees only the sums, and learns to read digits.

    python examples/stream.py [--short]

The stream yields two random digits and their sum, and ends somewhere. Without a length there is no fraction of an epoch, so the
validation interval is a number of batches: ``val_check_interval=100``. Four batches make a step. The last window is shorter,
and its gradient is the mean over its own batches.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from digits_data import digits
from torch import Tensor, nn
from torch.nn.functional import nll_loss, one_hot
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fsmtrain import Machine, Options, State, TrainingModule, build

Sum = tuple[Tensor, Tensor, int]

SUMS = one_hot(torch.arange(10)[:, None] + torch.arange(10), 19).float()  # (10, 10, 19): 1 if two digits have this sum


class Sums(IterableDataset[Sum]):
    """Yields two random images and the sum of their digits, without end."""

    def __init__(self, data: TensorDataset, seed: int) -> None:
        self.data, self.seed = data, seed

    def __iter__(self) -> Iterator[Sum]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            (left, a), (right, b) = (self.data[i] for i in torch.randint(len(self.data), (2,), generator=generator).tolist())
            yield left, right, int(a + b)


class FirstSamples(IterableDataset[Sum]):
    """The first n samples of a stream; it has no length."""

    def __init__(self, stream: IterableDataset[Sum], n: int) -> None:
        self.stream, self.n = stream, n

    def __iter__(self) -> Iterator[Sum]:
        return islice(self.stream, self.n)


class Adder(TrainingModule):
    """Classifies both images, and adds the digits."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1))
        self.val_accuracies: list[float] = []

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the probability of each sum (batch, 19) of two batches of images (batch, 64)."""
        return torch.einsum("ni,nj,ijs->ns", self.read(left), self.read(right), SUMS)

    def training_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Any]:
        """Return the loss of the sums, weighted by the batch size: the last batch is smaller."""
        left, right, total = batch
        return {"loss": nll_loss((self(left, right) + 1e-9).log(), total), "weight": len(total)}

    def validation_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the accuracy of sums of unseen images."""
        left, right, total = batch
        return {"val_acc": (self(left, right).argmax(dim=1) == total).float().mean()}

    def on_validation_end(self, metrics: dict[str, Any]) -> None:
        """Record and print the accuracy."""
        self.val_accuracies.append(float(metrics["val_acc"]))
        print(f"after {self.global_step:4} steps {self.val_accuracies[-1]:6.1%} of the sums correct")

    def test_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the accuracy of single digits."""
        images, labels = batch
        return {"test_acc": (self.read(images).argmax(dim=1) == labels).float().mean()}

    def configure_optimizers(self) -> torch.optim.Adam:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def run_and_record_windows(machine: Machine) -> list[int]:
    """Run a machine one transition at a time; return the number of batches in the window of each step."""
    lengths, gathered = [], 0
    for transition in machine:
        if transition.source is State.BACKWARD:
            gathered += 1
        elif transition.source is State.STEP:
            lengths.append(gathered)
            gathered = 0
    return lengths


def main(short: bool = False) -> tuple[list[float], float, list[int]]:
    """Train and test; return the accuracies of the sums, that of single digits, and the lengths of the windows."""
    data, val_data, test_data = digits()
    n = 3_818 if short else 15_978  # the last batch and the last window are smaller
    torch.manual_seed(0)
    adder = Adder()
    machine = build(
        Options(max_nb_epochs=1, accumulate_grad_batches=4, val_check_interval=100, device="cpu", progress_bar=False),
        adder,
        train_dataloader=DataLoader(FirstSamples(Sums(data, seed=1), n), batch_size=16),
        val_dataloaders=DataLoader(FirstSamples(Sums(val_data, seed=2), 1_000), batch_size=100),
        test_dataloaders=DataLoader(test_data, batch_size=300),
    )
    lengths = run_and_record_windows(machine)
    print("\nwindows: " + ", ".join(f"{n} of {length} batches" for length, n in Counter(lengths).items()))
    accuracy = machine.result.metrics["test_acc"]
    print(f"trained without labels of single digits, it recognizes {accuracy:.1%} of {len(test_data)} new ones")
    return adder.val_accuracies, accuracy, lengths


if __name__ == "__main__":
    main(short="--short" in sys.argv)
