"""Recognize handwritten digits: the whole loop on real data, its diagram and its report.

    python examples/digits.py

Gradient accumulation, four validations an epoch, early stopping, a learning-rate schedule, then the test set: the run visits
all eight documented states. It ends with the time in each state, the accuracy on the test set, the machine's diagram, and
a report of the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from digits_data import digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from fsmtrain import EarlyStopping, Options, TrainingModule, build


class Digits(TrainingModule):
    """Two small convolutions and a linear layer on 8 x 8 images."""

    def __init__(self, max_nb_epochs: int = 30) -> None:
        super().__init__()
        self.max_nb_epochs = max_nb_epochs
        self.train_data, self.val_data, self.test_data = digits()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (batch, 10) of images (batch, 64)."""
        scores: Tensor = self.net(x)
        return scores

    def training_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Any]:
        """Return the loss of a batch, weighted by its size: the last batch of an epoch is smaller."""
        x, y = batch
        loss = cross_entropy(self(x), y)
        return {"loss": loss, "weight": len(y), "progress_bar": {"loss": loss}}

    def validation_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the metric that early stopping monitors, and the accuracy."""
        x, y = batch
        scores = self(x)
        return {"val_loss": cross_entropy(scores, y), "val_acc": (scores.argmax(1) == y).float().mean()}

    def test_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the accuracy."""
        x, y = batch
        return {"test_acc": (self(x).argmax(1) == y).float().mean()}

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[CosineAnnealingLR]]:
        """Return Adam with a cosine schedule."""
        adam = torch.optim.Adam(self.parameters(), lr=4e-3)
        return [adam], [CosineAnnealingLR(adam, T_max=self.max_nb_epochs)]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return 75 batches of 16 images, the last one smaller."""
        return DataLoader(self.train_data, batch_size=16, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return 3 batches of 100 images."""
        return DataLoader(self.val_data, batch_size=100)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return 3 batches of 100 images."""
        return DataLoader(self.test_data, batch_size=100)


def main() -> float:
    """Train, test, and write diagram and report; return the accuracy on the test set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder for diagram and report (default: out)")
    args = parser.parse_args()

    torch.set_num_threads(1)  # faster than several for batches this small
    epochs = 30
    options = Options(
        max_nb_epochs=epochs,
        accumulate_grad_batches=2,
        val_check_interval=0.25,
        early_stop_callback=EarlyStopping(monitor="val_loss", patience=12),
        gradient_clip_val=1.0,
        seed=1,
    )
    torch.manual_seed(1)  # for the initial weights
    machine = build(options, Digits(epochs))
    result = machine.run()

    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("digits.mmd", "digits.dot"):
        machine.draw(args.out / name)
    machine.report(args.out / "report.html")
    print()
    print(f"test accuracy {result.metrics['test_acc']:.3f} after {result.counters.global_step} steps")
    print(f"the machine's diagram: {args.out / 'digits.mmd'}, {args.out / 'digits.dot'}")
    print(f"the run's report: {args.out / 'report.html'}")
    return result.metrics["test_acc"]


if __name__ == "__main__":
    main()
