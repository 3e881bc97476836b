"""Every optimizer and scheduler of torch: a run resumed from a checkpoint trains the same bits."""

from __future__ import annotations

import functools
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler as lr
from torch.optim.optimizer import Optimizer
from torch.optim.swa_utils import AveragedModel

from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from tests.models import same_bits, weights
from tests.resuming.torch_optimizers_and_schedulers import OPTIMIZERS, SCHEDULERS
from tests.runtime.checkpoint_files.sample_states import differences


class Run:
    """A model, its optimizer and perhaps a scheduler, trained step by step."""

    def __init__(self, optimizer: str = "SGD", scheduler: str | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        if optimizer == "SparseAdam":
            self.model = nn.Sequential(nn.Embedding(5, 4, sparse=True))
        self.optimizer = OPTIMIZERS[optimizer](list(self.model.parameters()))
        self.scheduler = SCHEDULERS[scheduler](self.optimizer) if scheduler else None
        self.rates: list[float] = []

    def train(self, first: int, last: int) -> None:
        """Steps of these numbers, each on data of its own."""
        for number in range(first, last):
            data = torch.Generator().manual_seed(number)
            self.optimizer.step(functools.partial(self.loss, data, data.get_state()))
            if isinstance(self.scheduler, lr.ReduceLROnPlateau):
                self.scheduler.step(1.0)
            elif self.scheduler:
                self.scheduler.step()
            self.rates.append(float(self.optimizer.param_groups[0]["lr"]))

    def loss(self, data: torch.Generator, beginning: Tensor) -> float:
        """The closure of a step."""
        data.set_state(beginning)
        self.optimizer.zero_grad()
        if isinstance(self.model[0], nn.Embedding):
            batch: Tensor = torch.randint(5, (2,), generator=data)
        else:
            batch = torch.randn(6, 3, generator=data)
        loss: Any = self.model(batch).pow(2).mean()
        loss.backward()
        return float(loss)

    def state(self) -> dict[str, Any]:
        """All of it."""
        scheduler = self.scheduler.state_dict() if self.scheduler else None
        return {"model": self.model.state_dict(), "optimizers": [self.optimizer.state_dict()], "schedulers": [scheduler]}

    def load(self, state: Any) -> None:
        """Go on from there."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizers"][0])
        if self.scheduler:
            self.scheduler.load_state_dict(state["schedulers"][0])


def check(tmp_path: Path, **names: Any) -> None:
    """Seven steps at once, and seven with a checkpoint after the third, give the same bits and rates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of the schedulers' order
        whole, first, second = Run(**names), Run(**names), Run(**names)
        whole.train(0, 7)
        first.train(0, 3)
        store = Store(tmp_path)
        loaded = store.load(store.save(first.state(), {}))
        assert list(differences(first.state(), loaded.tree)) == []
        second.load(loaded.tree)
        second.train(3, 7)
    assert same_bits(weights(second.model), weights(whole.model))
    assert second.rates == whole.rates[3:]
    assert list(differences(whole.state(), second.state())) == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_is_restored_to_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    check(tmp_path, optimizer=optimizer)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_is_restored_to_the_same_rates(tmp_path: Path, scheduler: str) -> None:
    check(tmp_path, scheduler=scheduler)


def test_no_optimizer_and_no_scheduler_of_torch_is_left_out() -> None:
    optimizers = {name for name, kind in vars(optim).items() if inspect.isclass(kind) and issubclass(kind, Optimizer)}
    assert optimizers - {"Optimizer"} == OPTIMIZERS.keys()
    schedulers = {
        name
        for name, kind in vars(lr).items()
        if inspect.isclass(kind) and issubclass(kind, lr.LRScheduler) and not name.startswith("_")
    }
    assert schedulers - {"LRScheduler"} == SCHEDULERS.keys() - {"SWALR"}


def test_a_gradient_scaler_and_averaged_weights_are_restored(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    loss: Any = scaler.scale(torch.ones(1, requires_grad=True).sum())
    loss.backward()
    average = AveragedModel(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    tree = {"scaler": scaler.state_dict(), "average": average.state_dict(), "model": average.module.state_dict()}
    loaded = Store(tmp_path).load(Store(tmp_path).save(tree, {})).tree
    assert list(differences(tree, loaded)) == []
    scaler.load_state_dict(loaded["scaler"])
