"""Runs that are killed and resumed: each small, with a part of its own that a checkpoint must not forget."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from fsmtrain import EarlyStopping, Guards, Machine, SeededDataLoader, after_batches, every_n_batches
from tests.models import Adversaries, Perceptron, Recurrent, Samples, Validated, batches, machine_of, sequences, stream

Preset = Callable[..., Machine]  # of callbacks, and flags beside its own
EVERY_TWO = Guards(save=every_n_batches(2))


class Noisy(Samples):
    """Samples with noise that is drawn from the process-wide generators each time one is loaded."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(3) + random.random() + float(np.random.rand()), y


class Scheduled(Perceptron):
    """Adam under schedules of three kinds: each step, each epoch, and each check's metric."""

    def configure_optimizers(self) -> Any:
        adam = Adam(self.parameters(), lr=0.01)
        by_step = {"scheduler": OneCycleLR(adam, max_lr=0.05, total_steps=40), "interval": "step"}
        return [adam], [by_step, MultiStepLR(adam, [1, 2]), ReduceLROnPlateau(adam, patience=0)]


class Weighed(Perceptron):
    """Batches whose losses have weights, and dropout."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.loss(batch), "weight": batch_nb + 1, "progress_bar": {"nb": batch_nb}}


class WithOutputs(Perceptron):
    """Validation whose outputs are gathered and looked at together, and a buffer that is in no ``state_dict``."""

    def __init__(self) -> None:
        super().__init__(adam)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen += 1
        return self.loss(batch) * (1 + self.seen / 100)

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        return {"at": dataloader_i, "losses": [self.loss(batch), batch_nb]}

    def validation_end(self, outputs: Any) -> Any:
        values = [output["losses"][0] * (1 + output["at"]) for one in outputs for output in one]
        return {"val_loss": torch.stack(values).sum(), "progress_bar": {"checks": float(len(values))}}


class Thawed(Perceptron):
    """The first layer is frozen, until the second epoch; the last one begins in eval mode."""

    def __init__(self) -> None:
        super().__init__(adam)
        layers: Any = self.layer
        layers[0].requires_grad_(False)

    def on_epoch_start(self) -> None:
        """Thaw it."""
        layers: Any = self.layer
        if self.current_epoch == 1:
            layers[0].requires_grad_(True)
            layers[3].eval()


class Stray(Perceptron):
    """A parameter that the optimizer has and the model does not."""

    def __init__(self) -> None:
        super().__init__(adam)
        self.outside = [torch.full((1,), 0.5, requires_grad=True)]

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch) * self.outside[0].square().sum()

    def configure_optimizers(self) -> Any:
        return adam([*self.parameters(), *self.outside])


class Half(nn.Module):
    """A model without hooks under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        x, y = batch
        return F.mse_loss(self.layers(x), y)

    def configure_optimizers(self) -> Any:
        """Adam."""
        return Adam(self.parameters(), lr=0.01)


class Spoiled(Perceptron):
    """The loss of the fourth batch of each epoch is infinite, though its gradients are not."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch) + (float("inf") if batch_nb == 3 else 0.0)


class Averaged:
    """A callback with a memory: the mean of the weights so far, which it puts into a metric-like number at the end."""

    def __init__(self) -> None:
        self.sum, self.count = torch.zeros(()), 0

    def on_batch_end(self, machine: Machine) -> None:
        """Add the weights, and change one by what there is so far."""
        first = next(machine.model.parameters())
        self.sum, self.count = self.sum + first.detach().sum(), self.count + 1
        with torch.no_grad():
            first.mul_(1 + 0.001 * self.sum / self.count)

    def state_dict(self) -> dict[str, Any]:
        """Its memory."""
        return {"sum": self.sum, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Its memory, back."""
        self.sum, self.count = state["sum"], state["count"]


def adam(parameters: Any) -> Any:
    """Adam."""
    return Adam(parameters, lr=0.01)


def _seeded(make: Callable[[], Any]) -> Any:
    torch.manual_seed(5)
    return make()


def preset(make: Callable[[], Any], train: Callable[[], Any], *loaders: Callable[[], Any], **flags: Any) -> Preset:
    """A run of a model that is made anew, with the same weights, each time."""
    own = flags.pop("callbacks", list)

    def machine(callbacks: Iterable[object] = (), **more: Any) -> Machine:
        given = {"max_nb_epochs": 2, "seed": 3, "guards": EVERY_TWO, **flags, **more}
        return machine_of(_seeded(make), train(), *(loader() for loader in loaders), callbacks=(*own(), *callbacks), **given)

    return machine


def shuffled(n: int, size: int = 2, **more: Any) -> Callable[[], Any]:
    """A loader in random order."""
    return lambda: batches(n, size, shuffle=True, **more)


def noisy(n: int, of: type[Noisy] = Noisy, **more: Any) -> Callable[[], Any]:
    """A plain loader of items that draw random numbers."""
    return lambda: DataLoader(of(n), batch_size=2, shuffle=True, **more)


def two(first: int, second: int) -> Callable[[], Any]:
    """Two validation loaders, the second one shuffled by a generator of its own."""
    return lambda: [batches(first), batches(second, shuffle=True, generator=torch.Generator().manual_seed(2))]


def with_momentum(parameters: Any) -> Any:
    """SGD with momentum."""
    return SGD(parameters, lr=0.05, momentum=0.9)


PRESETS: dict[str, Preset] = {
    "plain": preset(lambda: Perceptron(with_momentum), shuffled(10, drop_last=True)),
    "accumulation": preset(lambda: Perceptron(adam), shuffled(14), accumulate_grad_batches={0: 3, 1: 2}, gradient_clip_val=0.5),
    "weighted windows": preset(Weighed, shuffled(12), accumulate_grad_batches=5),
    "two optimizers": preset(
        Adversaries,
        shuffled(10),
        guards=Guards(save=every_n_batches(2), step={1: every_n_batches(3)}),
        accumulate_grad_batches=2,
    ),
    "truncated bptt": preset(
        lambda: Recurrent(adam), lambda: sequences(6, 2, 7), truncated_bptt_steps=3, accumulate_grad_batches=2
    ),
    "a stream": preset(
        lambda: Perceptron(adam),
        lambda: stream(10),
        lambda: stream(6),
        val_check_interval=2,
        guards=Guards(save=every_n_batches(1)),
    ),
    "several validation loaders": preset(
        WithOutputs, shuffled(10), two(6, 4), val_check_interval=0.4, nb_sanity_val_steps=2, accumulate_grad_batches=3
    ),
    "early stopping": preset(
        lambda: Perceptron(adam),
        shuffled(12),
        shuffled(4),
        shuffled(6),
        val_check_interval=2,
        min_nb_epochs=0,
        max_nb_epochs=9,
        early_stop_callback=EarlyStopping(min_delta=0.3, patience=2),
    ),
    "a stop in mid-epoch": preset(
        lambda: Perceptron(adam),
        shuffled(8),
        min_nb_epochs=0,
        guards=Guards(save=every_n_batches(2), stop=after_batches(6)),
    ),
    "schedulers": preset(Scheduled, shuffled(10), shuffled(4), max_nb_epochs=3),
    "bf16": preset(Half, shuffled(10), precision="bf16", accumulate_grad_batches=2),
    "fp16 with a scaler": preset(Half, shuffled(10), precision="16", accumulate_grad_batches=2),
    "random augmentation": preset(lambda: Perceptron(adam), noisy(12)),
    "a seeded loader": preset(lambda: Perceptron(adam), lambda: SeededDataLoader(Noisy(12), batch_size=2, seed=7)),
    "thawing": preset(Thawed, shuffled(8)),
    "a stray parameter": preset(Stray, shuffled(8)),
    "a callback with a memory": preset(lambda: Validated(with_momentum), shuffled(8), callbacks=lambda: [Averaged()]),
    "windows that are dropped": preset(lambda: Spoiled(adam), shuffled(16), accumulate_grad_batches=3, on_nonfinite="skip"),
    "rollbacks": preset(lambda: Spoiled(adam), shuffled(12), accumulate_grad_batches=2, on_nonfinite="rollback"),
    "two workers": preset(lambda: Perceptron(adam), noisy(8, num_workers=2, multiprocessing_context="fork")),
}
