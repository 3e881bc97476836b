"""Training with fsmtrain: bare, and with its defaults."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.harness.compare import Contestant, Train
from benchmarks.trainings.models import Regression
from fsmtrain import Options, build

BARE: dict[str, Any] = {"max_nb_epochs": 1, "device": "cpu", "quiet": True, "runs_dir": None, "nb_sanity_val_steps": 0}
BARE_NAME, DEFAULT_NAME = "fsmtrain, bare", "fsmtrain, defaults"
LOGGING_NAME = "fsmtrain, defaults, self.log"


def train_bare(model: Callable[[], nn.Module] = Regression, *, callbacks: Any = (), val: Any = (), **flags: Any) -> Train:
    """Return a training with these flags and nothing else."""

    def train(loader: Any) -> nn.Module:
        options = Options(**{**BARE, **flags})
        machine = build(options, model(), train_dataloader=loader, val_dataloaders=val, callbacks=callbacks)
        machine.run()
        return machine.model

    return train


def train_with_defaults(model: Callable[[], nn.Module] = Regression, *, val: Any = (), **flags: Any) -> Train:
    """Return a training with everything that is on by default: bar, start summary, final table, run folder."""

    def train(loader: Any) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            return train_bare(model, val=val, quiet=False, runs_dir=folder, **flags)(loader)

    return train


def bare_and_defaults(model: Callable[[], nn.Module] = Regression, **flags: Any) -> list[Contestant]:
    """Return two contestants: bare, and with all defaults."""
    return [
        Contestant(BARE_NAME, train_bare(model, **flags)),
        Contestant(DEFAULT_NAME, train_with_defaults(model, **flags), draws=True),
    ]
