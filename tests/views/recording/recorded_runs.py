"""Recorded runs, and functions that read their folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fsmtrain import TrainingModule


class NumberedBatches:
    """So many batches, each with its own index in it."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.tensor([[float(i)]]) for i in range(self.n))


class LoggingModel(TrainingModule):
    """A model whose loss and metrics follow from the index of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def loss_of(self, batch: torch.Tensor) -> Any:
        """A loss with a known value: the batch's number."""
        return batch.sum() + 0 * self.layer(batch).sum()

    def training_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
        return {"loss": self.loss_of(batch), "log": {"twice": 2.0 * batch_nb}}

    def validation_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
        return {"val_loss": batch.sum()}

    def test_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
        return {"test_loss": batch.sum()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def refuse_constant(name: str) -> Any:
    """A function for ``json.loads`` that refuses what strict JSON does not have."""
    raise AssertionError(f"{name} is no JSON")


def strict_json(text: str) -> Any:
    """What a text of strict JSON holds."""
    return json.loads(text, parse_constant=refuse_constant)


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return strict_json(path.read_text(encoding="utf-8"))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n") or not text
    return [strict_json(line) for line in text.splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names of its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
