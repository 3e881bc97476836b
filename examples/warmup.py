"""Learning-rate warm-up: the documented override of ``optimizer_step``, and its effect.

    python examples/warmup.py [--short]

The same model is trained twice at a high learning rate, with and without warm-up. The override reads the machine's count of
steps, ``self.trainer.global_step``, and the model's hyperparameters, ``self.hparams``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from digits_data import digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader

from fsmtrain import Options, TrainingModule, build


class Digits(TrainingModule):
    """Six hidden layers on 8 x 8 images: deep enough that a large first step does lasting harm."""

    def __init__(self, learning_rate: float, warmup_steps: int) -> None:
        super().__init__()
        self.save_hyperparameters(learning_rate=learning_rate, warmup_steps=warmup_steps)
        hidden = [layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.ReLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(64, 10))
        self.rates: list[float] = []
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_nb: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = cross_entropy(self.net(images), labels)
        self.losses.append(loss.item())
        return loss

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Optimizer, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        """Warm up, then step."""
        if self.trainer.global_step < self.hparams.warmup_steps:
            lr_scale = min(1.0, float(self.trainer.global_step + 1) / self.hparams.warmup_steps)
            for pg in optimizer.param_groups:
                pg["lr"] = lr_scale * self.hparams.learning_rate
        self.rates.append(optimizer.param_groups[0]["lr"])

        optimizer.step()
        optimizer.zero_grad()

    def test_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the accuracy."""
        images, labels = batch
        return {"test_acc": (self.net(images).argmax(dim=1) == labels).float().mean()}

    def configure_optimizers(self) -> Adam:
        """Return Adam."""
        return Adam(self.parameters(), lr=self.hparams.learning_rate)


def train(learning_rate: float, warmup_steps: int, max_nb_epochs: int) -> tuple[Digits, float]:
    """Train and test once; return the model and its accuracy on the test set."""
    data, _, test_data = digits()
    torch.manual_seed(0)
    model = Digits(learning_rate, warmup_steps)
    machine = build(
        Options(max_nb_epochs=max_nb_epochs, seed=0, device="cpu", progress_bar=False),
        model,
        train_dataloader=DataLoader(data, batch_size=32, shuffle=True),
        test_dataloaders=DataLoader(test_data, batch_size=len(test_data)),
    )
    return model, machine.run().metrics["test_acc"]


def main(short: bool = False) -> tuple[list[float], float, float]:
    """Train with and without warm-up; return the learning rates with warm-up, and both accuracies."""
    epochs, steps = (6, 100) if short else (16, 300)
    warm, warm_accuracy = train(learning_rate=0.02, warmup_steps=steps, max_nb_epochs=epochs)
    cold, cold_accuracy = train(learning_rate=0.02, warmup_steps=0, max_nb_epochs=epochs)

    print(f"step   learning rate{'':24} loss, with warm-up and without")
    for step in range(0, len(warm.rates), len(warm.rates) // 15):
        bar = "█" * round(1500 * warm.rates[step])
        print(f"{step:4}   {warm.rates[step]:.5f} {bar:<30} {warm.losses[step]:6.3f} {cold.losses[step]:6.3f}")
    print(f"\ntest accuracy with a warm-up over {steps} steps: {warm_accuracy:.3f}; without: {cold_accuracy:.3f}")
    return warm.rates, warm_accuracy, cold_accuracy


if __name__ == "__main__":
    main(short="--short" in sys.argv)
