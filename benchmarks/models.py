"""The models of the benchmarks: as small as is sensible, so that what a trainer adds is not lost in what it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

from benchmarks.batches import FEATURES
from fsmtrain import TrainingModule

RATE = 0.01  # of plain descent
WIDTH = 400  # of the layers of `Wide`


def layer() -> nn.Linear:
    """A linear layer from the features to a number, with the same weights each time."""
    torch.manual_seed(0)
    return nn.Linear(FEATURES, 1)


class Regression(TrainingModule):
    """A linear layer that learns a number. Also what the loops by hand train, which call nothing but the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        x, y = batch
        return mse_loss(self.layer(x), y)

    def configure_optimizers(self) -> Any:
        """Plain descent."""
        return optim.SGD(self.parameters(), lr=RATE)


class Logging(Regression):
    """Logs its loss at each batch, for the bar too."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        x, y = batch
        loss = mse_loss(self.layer(x), y)
        self.log("loss", loss, prog_bar=True)
        return loss


class Weighted(Regression):
    """Says how many samples its loss is the mean of."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss and its weight."""
        x, y = batch
        return {"loss": mse_loss(self.layer(x), y), "weight": len(x)}


class Validated(Regression):
    """Is validated too."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss, to be averaged."""
        x, y = batch
        return {"val_loss": mse_loss(self.layer(x), y)}


class Pair(TrainingModule):
    """Two layers, each with an optimizer of its own; the loss of each goes through both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 1)

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        """The loss."""
        x, y = batch
        return mse_loss(self.second(self.first(x)), y)

    def configure_optimizers(self) -> Any:
        """Plain descent for each."""
        return [optim.SGD(self.first.parameters(), lr=RATE), optim.SGD(self.second.parameters(), lr=RATE)]


TIME, SPLIT = 12, 4  # time steps of a sequence, and of a split of it


class Recurrent(TrainingModule):
    """A recurrent cell over a sequence of numbers, cut into splits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.RNN(FEATURES, FEATURES, batch_first=True)
        self.out = nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor, hiddens: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predictions and hiddens, from x of (batch, time, features)."""
        found, hiddens = self.cell(x, hiddens)
        return self.out(found), hiddens

    def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
        """The loss of a split, and the hiddens for the next."""
        x, y = batch
        found, hiddens = self(x, hiddens)
        return {"loss": mse_loss(found, y), "hiddens": hiddens}

    def configure_optimizers(self) -> Any:
        """Plain descent."""
        return optim.SGD(self.parameters(), lr=RATE)


class Wide(TrainingModule):
    """2.5 million parameters, trained by Adam: a model of which there is something to save. Its batches take about 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(15):
            layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 10))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        return self.layers(batch).square().mean()

    def configure_optimizers(self) -> Any:
        """Adam."""
        return optim.Adam(self.parameters())
