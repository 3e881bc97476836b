"""Scenarios for killing and resuming: small runs, each with one part that a checkpoint must restore."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Sampler

from fsmtrain import (
    DataModule,
    EarlyStopping,
    Guards,
    Machine,
    ModelCheckpoint,
    SeededDataLoader,
    after_batches,
    every_n_batches,
)
from tests.models import (
    Adversaries,
    GatheredMean,
    Perceptron,
    Recurrent,
    Samples,
    Validated,
    batches,
    machine_of,
    sequences,
    stream,
)

Scenario = Callable[..., Machine]  # of callbacks, and flags beside its own
EVERY_TWO = Guards(save=every_n_batches(2))


class NoisySamples(Samples):
    """Samples with noise that is drawn from the process-wide generators each time one is loaded."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(3) + random.random() + float(np.random.rand()), y


class ScheduledSteps(Perceptron):
    """Adam under schedules of three kinds: each step, each epoch, and each check's metric."""

    def configure_optimizers(self) -> Any:
        adam = Adam(self.parameters(), lr=0.01)
        by_step = {"scheduler": OneCycleLR(adam, max_lr=0.05, total_steps=40), "interval": "step"}
        return [adam], [by_step, MultiStepLR(adam, [1, 2]), ReduceLROnPlateau(adam, patience=0)]


class ManualSteps(Perceptron):
    """Two optimizers and a scheduler that ``training_step`` steps, in windows that it makes, and one more step in a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.offset = nn.Linear(3, 1)

    def configure_optimizers(self) -> Any:
        adam, sgd = Adam(self.layer.parameters(), lr=0.01), SGD(self.offset.parameters(), lr=0.1, momentum=0.9)
        return [adam, sgd], [MultiStepLR(adam, [2, 4])]

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        adam, sgd = self.optimizers()
        self.toggle_optimizer(adam)
        loss = self.loss(batch)
        self.manual_backward(loss / 3)
        if batch_nb % 3 == 2:
            adam.step()
            adam.zero_grad()
            self.lr_schedulers().step()
        self.toggle_optimizer(sgd)
        self.manual_backward((self.offset(batch[0]) - batch[1] + self.layer(batch[0])).square().mean())
        self.log("loss", loss)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_nb: int) -> None:
        """Step the other optimizer, with the gradients of the batch."""
        if batch_nb % 2:
            _, sgd = self.optimizers()
            sgd.step()
            sgd.zero_grad()


class WeightedLosses(Perceptron):
    """Batches whose losses have weights, and dropout."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.loss(batch), "weight": batch_nb + 1, "progress_bar": {"nb": batch_nb}}


class WeightedMetrics(Perceptron):
    """Metrics that are averaged: over samples or weights, in several dtypes, some of them logged, over ragged batches."""

    def __init__(self) -> None:
        super().__init__(adam_of)

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        loss = self.loss(batch)
        self.log("half", loss.bfloat16())
        weight = {"weight": torch.tensor(batch_nb % 3)} if dataloader_i else {}
        return {"val_loss": loss, "nb": batch_nb / 3, "log": {"rare": loss} if batch_nb == 1 else {}, **weight}


class EpochMetrics(Perceptron):
    """Metrics over the epoch: means and extremes, weighted, monitored, and metric objects in training and validation."""

    def __init__(self) -> None:
        super().__init__(self.with_plateau)
        self.of_training, self.of_validation = GatheredMean(), GatheredMean()

    @staticmethod
    def with_plateau(parameters: Any) -> Any:
        """Adam, and a scheduler that monitors the mean loss of training."""
        adam = adam_of(parameters)
        plateau = ReduceLROnPlateau(adam, patience=0, factor=0.5, threshold=0.5)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}}

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)
        self.log("mean", loss, on_epoch=True, prog_bar=True)
        self.log("largest", loss.bfloat16(), on_step=False, on_epoch=True, reduce="max", logger=False)
        self.log("counted", batch_nb / 3, on_step=False, on_epoch=True, batch_size=batch_nb)
        if batch_nb != 1:
            self.of_training(loss)
            self.log("gathered", self.of_training, on_epoch=batch_nb == 2, on_step=True)
        return {"loss": loss, "log": {"watched": loss / 7}}

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.of_validation.update(self.loss(batch))
        if batch_nb == 0:
            self.log("val_gathered", self.of_validation)
            self.log("val_most", batch_nb, reduce="max", logger=False)


class LeftOutBatches(Perceptron):
    """Some forwards have no loss, so that windows turn out shorter than foreseen."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return None if batch_nb in (1, 5) else self.loss(batch)


class GatheredOutputs(Perceptron):
    """Validation whose outputs are gathered and looked at together, and a buffer that is in no ``state_dict``."""

    def __init__(self) -> None:
        super().__init__(adam_of)
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


class MonitoredBesideAnEndHook(Perceptron):
    """Early stopping looks its metric up in the averages of what the steps return."""

    def __init__(self) -> None:
        super().__init__(adam_of)

    def validation_end(self, outputs: Any) -> Any:
        return {"batches": len(outputs)}


class LayerUnfrozenLater(Perceptron):
    """The first layer is frozen, until the second epoch; the last one begins in eval mode."""

    def __init__(self) -> None:
        super().__init__(adam_of)
        layers: Any = self.layer
        layers[0].requires_grad_(False)

    def on_epoch_start(self) -> None:
        """Thaw it."""
        layers: Any = self.layer
        if self.current_epoch == 1:
            layers[0].requires_grad_(True)
            layers[3].eval()


class LayerOptimizedLater(Perceptron):
    """The last layer is not optimized in the first epoch: its parameter group is added in the second one."""

    def configure_optimizers(self) -> Any:
        layers: Any = self.layer
        self.adam = adam_of(layers[0].parameters())
        return self.adam

    def on_epoch_start(self) -> None:
        """Add it."""
        layers: Any = self.layer
        if self.current_epoch == 1:
            self.adam.add_param_group({"params": layers[4].parameters(), "lr": 0.02})


class ParameterOutsideTheModel(Perceptron):
    """A parameter that the optimizer has and the model does not."""

    def __init__(self) -> None:
        super().__init__(adam_of)
        self.outside = [torch.full((1,), 0.5, requires_grad=True)]

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch) * self.outside[0].square().sum()

    def configure_optimizers(self) -> Any:
        return adam_of([*self.parameters(), *self.outside])


class AutocastModule(nn.Module):
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


class InfiniteLosses(Perceptron):
    """The loss of the fourth batch of each epoch is infinite, though its gradients are not."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch) + (float("inf") if batch_nb == 3 else 0.0)


class WeightAverage:
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


class DriftingData(DataModule):
    """A data module with a memory: each batch, of training or validation, is larger than the one before."""

    def __init__(self) -> None:
        self.scale = torch.ones(())

    def train_dataloader(self) -> Any:
        return batches(8, shuffle=True)

    def val_dataloader(self) -> Any:
        return batches(5)

    def transfer_batch_to_device(self, batch: Any, device: torch.device) -> Any:
        self.scale = self.scale * 1.01
        return [tensor.to(device) * self.scale for tensor in batch]

    def state_dict(self) -> dict[str, Any]:
        """Its memory."""
        return {"scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Its memory, back."""
        self.scale = state["scale"]


class AroundValidations:
    """A callback for which a validation that was stopped begins again."""

    def on_validation_start(self, machine: Machine) -> None:
        """Do nothing."""


class KeptByHooks(Recurrent):
    """Two optimizers under truncated BPTT, whose loss depends on what hooks were given of earlier batches."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0.0

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:  # type: ignore[override]
        loss, hiddens = self.loss(batch, hiddens)
        return {"loss": loss * (1 + self.kept), "hiddens": hiddens, "own": loss}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_nb: int) -> None:
        """Keep something of the outputs of both optimizers, and of the batch before it was split."""
        first, second = (0.0 if output is None else output["own"] for output in outputs)  # None: the batch was left out
        self.kept += 0.1 * float(first - 2 * second + batch[0].mean())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save it."""
        checkpoint["kept"] = self.kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.kept = checkpoint["kept"]

    def configure_optimizers(self) -> Any:
        return [adam_of(self.lstm.parameters()), adam_of(self.head.parameters())]


class ChangingEpochs(Sampler[list[int]]):
    """Batches of two in random order, and in each epoch another number of them; the numbers begin anew after the last."""

    def __init__(self, *lengths: int) -> None:
        self.lengths, self.epoch = lengths, 0

    def set_epoch(self, epoch: int) -> None:
        """Take the epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.lengths[self.epoch % len(self.lengths)]

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(2 * max(self.lengths)).tolist()
        return (order[2 * number : 2 * number + 2] for number in range(len(self)))


def epochs_of(*lengths: int) -> Callable[[], Any]:
    """A loader whose epochs have these lengths, in batches of two."""
    return lambda: DataLoader(Samples(2 * max(lengths)), batch_sampler=ChangingEpochs(*lengths))


def adam_of(parameters: Any) -> Any:
    """Adam."""
    return Adam(parameters, lr=0.01)


def _seeded(make: Callable[[], Any]) -> Any:
    torch.manual_seed(5)
    return make()


def scenario(make: Callable[[], Any], train: Callable[[], Any], *loaders: Callable[[], Any], **flags: Any) -> Scenario:
    """A run of a model that is made anew, with the same weights, each time."""
    own, data = flags.pop("callbacks", list), flags.pop("datamodule", lambda: None)

    def machine(callbacks: Iterable[object] = (), **more: Any) -> Machine:
        given = {"max_nb_epochs": 2, "seed": 3, "guards": EVERY_TWO, "datamodule": data(), **flags, **more}
        return machine_of(_seeded(make), train(), *(loader() for loader in loaders), callbacks=(*own(), *callbacks), **given)

    return machine


def shuffled_loader(n: int, size: int = 2, **more: Any) -> Callable[[], Any]:
    """A loader in random order."""
    return lambda: batches(n, size, shuffle=True, **more)


def noisy_loader(n: int, of: type[NoisySamples] = NoisySamples, **more: Any) -> Callable[[], Any]:
    """A plain loader of items that draw random numbers."""
    return lambda: DataLoader(of(n), batch_size=2, shuffle=True, **more)


def two_val_loaders(first: int, second: int) -> Callable[[], Any]:
    """Two validation loaders, the second one shuffled by a generator of its own."""
    return lambda: [batches(first), batches(second, shuffle=True, generator=torch.Generator().manual_seed(2))]


def sgd_with_momentum(parameters: Any) -> Any:
    """SGD with momentum."""
    return SGD(parameters, lr=0.05, momentum=0.9)


def several_rules() -> list[object]:
    """Three rules for checkpoints, two of which rank."""
    return [
        ModelCheckpoint(monitor="val_loss"),
        ModelCheckpoint(monitor="half", mode="max", save_top_k=2),
        ModelCheckpoint(every_n_steps=3, save_top_k=2),
    ]


SCENARIOS: dict[str, Scenario] = {
    "plain": scenario(lambda: Perceptron(sgd_with_momentum), shuffled_loader(10, drop_last=True)),
    "manual optimization": scenario(ManualSteps, shuffled_loader(14), shuffled_loader(4), val_check_interval=3),
    "accumulation": scenario(
        lambda: Perceptron(adam_of), shuffled_loader(14), accumulate_grad_batches={0: 3, 1: 2}, gradient_clip_val=0.5
    ),
    "weighted windows": scenario(WeightedLosses, shuffled_loader(12), accumulate_grad_batches=5),
    "forwards without a loss": scenario(LeftOutBatches, shuffled_loader(12), accumulate_grad_batches=3),
    "two optimizers": scenario(
        Adversaries,
        shuffled_loader(10),
        guards=Guards(save=every_n_batches(2), step={1: every_n_batches(3)}),
        accumulate_grad_batches=2,
    ),
    "truncated bptt": scenario(
        lambda: Recurrent(adam_of), lambda: sequences(6, 2, 7), truncated_bptt_steps=3, accumulate_grad_batches=2
    ),
    "a stream": scenario(
        lambda: Perceptron(adam_of),
        lambda: stream(10),
        lambda: stream(6),
        val_check_interval=2,
        guards=Guards(save=every_n_batches(1)),
    ),
    "several validation loaders": scenario(
        GatheredOutputs,
        shuffled_loader(10),
        two_val_loaders(6, 4),
        val_check_interval=0.4,
        nb_sanity_val_steps=2,
        accumulate_grad_batches=3,
    ),
    "averages of several loaders": scenario(
        WeightedMetrics,
        shuffled_loader(10),
        two_val_loaders(7, 5),
        val_check_interval=0.4,
        early_stop_callback=EarlyStopping("val_loss/1", patience=9),
    ),
    "metrics of an epoch": scenario(
        EpochMetrics,
        shuffled_loader(11, 3),
        shuffled_loader(5),
        val_check_interval=2,
        max_nb_epochs=4,
        early_stop_callback=EarlyStopping("watched", patience=1, min_delta=0.01),
    ),
    "a metric beside an end hook": scenario(
        MonitoredBesideAnEndHook,
        shuffled_loader(10),
        shuffled_loader(5),
        val_check_interval=0.4,
        early_stop_callback=EarlyStopping("val_loss", patience=9),
    ),
    "several rules for checkpoints": scenario(
        WeightedMetrics, shuffled_loader(10), shuffled_loader(5), val_check_interval=2, guards=Guards(), callbacks=several_rules
    ),
    "early stopping": scenario(
        lambda: Perceptron(adam_of),
        shuffled_loader(12),
        shuffled_loader(4),
        shuffled_loader(6),
        val_check_interval=2,
        min_nb_epochs=0,
        max_nb_epochs=9,
        early_stop_callback=EarlyStopping(min_delta=0.3, patience=2),
    ),
    "a stop in mid-epoch": scenario(
        lambda: Perceptron(adam_of),
        shuffled_loader(8),
        min_nb_epochs=0,
        guards=Guards(save=every_n_batches(2), stop=after_batches(6)),
    ),
    "a stop that waits for windows": scenario(
        Adversaries,
        shuffled_loader(18),
        min_nb_epochs=0,
        guards=Guards(
            save=every_n_batches(2), step={0: every_n_batches(2), 1: every_n_batches(2, first=0)}, stop=every_n_batches(3)
        ),
    ),
    "a limit of steps": scenario(
        lambda: Perceptron(adam_of),
        shuffled_loader(10),
        shuffled_loader(4),
        max_nb_epochs=None,
        max_steps=5,
        min_steps=2,
        accumulate_grad_batches=2,
        limit_train_batches=4,
        guards=Guards(save=every_n_batches(3), save_at_end=True),
    ),
    "saved where it ends": scenario(
        ScheduledSteps,
        shuffled_loader(8),
        shuffled_loader(4),
        shuffled_loader(4),
        min_nb_epochs=1,
        val_check_interval=3,
        guards=Guards(save=every_n_batches(3), stop=after_batches(6), save_at_end=True),
    ),
    "schedulers": scenario(ScheduledSteps, shuffled_loader(10), shuffled_loader(4), max_nb_epochs=3),
    "bf16": scenario(AutocastModule, shuffled_loader(10), precision="bf16", accumulate_grad_batches=2),
    "fp16 with a scaler": scenario(AutocastModule, shuffled_loader(10), precision="16", accumulate_grad_batches=2),
    "random augmentation": scenario(lambda: Perceptron(adam_of), noisy_loader(12)),
    "a seeded loader": scenario(lambda: Perceptron(adam_of), lambda: SeededDataLoader(NoisySamples(12), batch_size=2, seed=7)),
    "thawing": scenario(LayerUnfrozenLater, shuffled_loader(8)),
    "a later parameter group": scenario(LayerOptimizedLater, shuffled_loader(8)),
    "a stray parameter": scenario(ParameterOutsideTheModel, shuffled_loader(8)),
    "a callback with a memory": scenario(
        lambda: Validated(sgd_with_momentum), shuffled_loader(8), callbacks=lambda: [WeightAverage()]
    ),
    "a data module with a memory": scenario(
        lambda: Validated(sgd_with_momentum), lambda: None, datamodule=DriftingData, callbacks=lambda: [AroundValidations()]
    ),
    "what hooks keep": scenario(KeptByHooks, lambda: sequences(4, 2, 5), truncated_bptt_steps=3),
    "windows that are dropped": scenario(
        lambda: InfiniteLosses(adam_of), shuffled_loader(16), accumulate_grad_batches=3, on_nonfinite="skip"
    ),
    "rollbacks": scenario(
        lambda: InfiniteLosses(adam_of), shuffled_loader(12), accumulate_grad_batches=2, on_nonfinite="rollback"
    ),
    "epochs of other lengths": scenario(
        lambda: Perceptron(adam_of), epochs_of(5, 3, 6), shuffled_loader(4), val_check_interval=0.6, max_nb_epochs=3
    ),
    "two workers": scenario(lambda: Perceptron(adam_of), noisy_loader(8, num_workers=2, multiprocessing_context="fork")),
}
