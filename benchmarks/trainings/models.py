"""The models of the benchmarks: so small that what a trainer adds to a batch can be seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

from benchmarks.harness.timed_loaders import FEATURES
from fsmtrain import TrainingModule

LEARNING_RATE = 0.01  # of SGD
WIDTH = 400  # of the layers of `WideModel`


def layer() -> nn.Linear:
    """Return a linear layer from the features to a number, always with the same weights."""
    torch.manual_seed(0)
    return nn.Linear(FEATURES, 1)


class Regression(TrainingModule):
    """A linear layer that learns a number. The loops by hand train it too, and call only its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss."""
        x, y = batch
        return mse_loss(self.layer(x), y)

    def configure_optimizers(self) -> Any:
        """Return plain SGD."""
        return optim.SGD(self.parameters(), lr=LEARNING_RATE)


class LoggedLoss(Regression):
    """Logs its loss at each batch, also for the progress bar."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss."""
        x, y = batch
        loss = mse_loss(self.layer(x), y)
        self.log("loss", loss, prog_bar=True)
        return loss


class WeightedLoss(Regression):
    """Returns the number of samples as the weight of its loss."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss and its weight."""
        x, y = batch
        return {"loss": mse_loss(self.layer(x), y), "weight": len(x)}


class Validated(Regression):
    """Has a validation step."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss, to be averaged."""
        x, y = batch
        return {"val_loss": mse_loss(self.layer(x), y)}


class TwoLayers(TrainingModule):
    """Two layers, each with an optimizer of its own; each loss depends on both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 1)

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        """Return the loss."""
        x, y = batch
        return mse_loss(self.second(self.first(x)), y)

    def configure_optimizers(self) -> Any:
        """Return plain SGD for each layer."""
        return [optim.SGD(self.first.parameters(), lr=LEARNING_RATE), optim.SGD(self.second.parameters(), lr=LEARNING_RATE)]


SEQUENCE_LENGTH, SPLIT_LENGTH = 12, 4  # in time steps


class Recurrent(TrainingModule):
    """A recurrent network for truncated backpropagation through time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.RNN(FEATURES, FEATURES, batch_first=True)
        self.out = nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor, hiddens: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return predictions and hiddens, from x of shape (batch, time, features)."""
        output, hiddens = self.cell(x, hiddens)
        return self.out(output), hiddens

    def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
        """Return the loss of a split, and the hiddens for the next one."""
        x, y = batch
        prediction, hiddens = self(x, hiddens)
        return {"loss": mse_loss(prediction, y), "hiddens": hiddens}

    def configure_optimizers(self) -> Any:
        """Return plain SGD."""
        return optim.SGD(self.parameters(), lr=LEARNING_RATE)


class WideModel(TrainingModule):
    """2.5 million parameters, trained by Adam, so that there is something to save. A batch takes about 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(15):
            layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 10))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss."""
        return self.layers(batch).square().mean()

    def configure_optimizers(self) -> Any:
        """Return Adam."""
        return optim.Adam(self.parameters())
