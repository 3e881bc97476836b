"""A fixture that runs the command line in this process, and a module to train with it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from fsmtrain.cli.app import main

MODEL = """
import torch
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Guards, TrainingModule, every_n_batches


class Model(TrainingModule):
    def __init__(self, width=1, lr=0.1):
        super().__init__()
        self.layer, self.lr = torch.nn.Linear(2, width), lr

    def training_step(self, batch, batch_nb):
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_nb):
        return {"val_loss": self.layer(batch[0]).square().mean()}

    def test_step(self, batch, batch_nb):
        return {"test_sum": self.layer(batch[0]).sum()}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(9, 2)), batch_size=1)

    def val_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(3, 2)), batch_size=1)

    test_dataloader = val_dataloader


class Whole(Model):
    def __init__(self, hparams):
        super().__init__(lr=hparams.lr)
        self.hparams = hparams


class Raising(Model):
    def training_step(self, batch, batch_nb):
        return self.mistake()

    def mistake(self):
        raise RuntimeError("a mistake of the user's")


class Nan(Model):
    def validation_step(self, batch, batch_nb):
        return {"val_loss": float("nan")}


class NoLoss(Model):
    def training_step(self, batch, batch_nb):
        return "a loss"


class Unmakeable(Model):
    def __init__(self):
        raise TypeError("in the user's own code")


def made():
    return Model(width=3)


ready = Model()
every_third = Guards(step={0: every_n_batches(3)})
number = 3


def three():
    return 3
"""


@frozen
class Ran:
    """What a command line gave."""

    code: int
    out: str
    err: str


Run = Callable[[str], Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs what is typed behind ``fsmtrain``; the user's modules are imported anew each time, as by a process of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def typed(line: str) -> Ran:
        capsys.readouterr()
        try:
            code = main(shlex.split(line))
        finally:
            for name, module in [*sys.modules.items()]:
                if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
                    del sys.modules[name]
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return typed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module of the user's in it: ``mine.py``."""
    (tmp_path / "mine.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path
