"""A Lightning module for the command line."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from tests.adapters.lightning.programs import data


class ModuleWithoutLoaders(L.LightningModule):
    """A regression."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).square().mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


class Module(ModuleWithoutLoaders):
    """The same with loaders."""

    def train_dataloader(self) -> Any:
        return data(20)

    def val_dataloader(self) -> Any:
        return data(8)
