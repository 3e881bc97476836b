"""A small convolutional network for MNIST, with its training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from fsmtrain import TrainingModule


class Digits(TrainingModule):
    """Two convolutions and a linear layer."""

    def __init__(self, width: int = 16, lr: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()  # so that a checkpoint can build the model again
        self.net = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(2 * width * 7 * 7, 10)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (batch, 10) of images (batch, 1, 28, 28)."""
        scores: Tensor = self.net(images)
        return scores

    def training_step(self, batch: list[Tensor], batch_nb: int) -> Tensor:
        """Return the loss of a batch, and log its mean over the epoch."""
        images, labels = batch
        loss = cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return metrics of a batch, which are averaged over all images."""
        images, labels = batch
        scores = self(images)
        return {"val_loss": cross_entropy(scores, labels), "val_accuracy": (scores.argmax(1) == labels).float().mean()}

    def test_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return the accuracy."""
        images, labels = batch
        return {"test_accuracy": (self(images).argmax(1) == labels).float().mean()}

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a warm-up over a tenth of the run, then a cosine down to 0, both by steps."""
        adam = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        total = self.trainer.total_steps  # known here, from the loaders and the flags
        warm_up = total // 10
        schedulers = [LinearLR(adam, 0.01, total_iters=warm_up), CosineAnnealingLR(adam, total - warm_up)]
        schedule = SequentialLR(adam, schedulers, milestones=[warm_up])
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
