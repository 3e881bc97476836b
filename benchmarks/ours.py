"""The contestants of fsmtrain: bare, as it is by default, and with each of its features."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.models import Regression
from benchmarks.turns import Contestant, Train
from fsmtrain import Options, build

BARE: dict[str, Any] = {"max_nb_epochs": 1, "device": "cpu", "quiet": True, "runs_dir": None, "nb_sanity_val_steps": 0}
BARE_NAME, DEFAULT_NAME = "fsmtrain, bare", "fsmtrain, its defaults"
LOGGING_NAME = "fsmtrain, its defaults, self.log"


def trains(model: Callable[[], nn.Module] = Regression, *, callbacks: Any = (), val: Any = (), **flags: Any) -> Train:
    """A machine with these flags and nothing else."""

    def train(loader: Any) -> nn.Module:
        options = Options(**{**BARE, **flags})
        machine = build(options, model(), train_dataloader=loader, val_dataloaders=val, callbacks=callbacks)
        machine.run()
        return machine.model

    return train


def trains_by_default(model: Callable[[], nn.Module] = Regression, *, val: Any = (), **flags: Any) -> Train:
    """The same with everything on that is on by default: the bar, the opening and the table, and the run's folder."""

    def train(loader: Any) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            return trains(model, val=val, quiet=False, runs_dir=folder, **flags)(loader)

    return train


def both(model: Callable[[], nn.Module] = Regression, **flags: Any) -> list[Contestant]:
    """Bare, and with all defaults."""
    return [
        Contestant(BARE_NAME, trains(model, **flags)),
        Contestant(DEFAULT_NAME, trains_by_default(model, **flags), draws=True),
    ]
