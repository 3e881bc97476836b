"""The models, loaders and callbacks of the runs that are killed at random moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adam
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, SubsetRandomSampler, WeightedRandomSampler

from fsmtrain import Callback, SeededDataLoader
from tests.models import Adversaries, Configure, Recurrent, Samples, Stream, Validated, weights
from tests.resuming.resume_scenarios import NoisySamples, adam_of

BATCHES, BATCH_SIZE = 40, 4
N = BATCHES * BATCH_SIZE  # samples
FORKED: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"}

# ---- models


class Trained(Validated):
    """Two layers with dropout, which log metrics of several kinds; one of them appears late."""

    def __init__(self, configure: Configure = adam_of) -> None:
        super().__init__(configure)
        self.layer = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)
        if self.global_step > BATCHES // 2:
            self.log("late", loss.detach() * 2)
        return {"loss": loss, "progress_bar": {"nb": batch_nb}, "log": {"square": loss.detach() ** 2}}


class MatricesOnly(Trained):
    """The same without vectors, for optimizers of matrices."""

    def __init__(self, configure: Configure) -> None:
        super().__init__(configure)
        self.layer = nn.Sequential(nn.Linear(3, 16, bias=False), nn.ReLU(), nn.Linear(16, 1, bias=False))


class SparseGradients(Validated):
    """An embedding with sparse gradients."""

    def __init__(self, configure: Configure) -> None:
        super().__init__(configure)
        self.embedding = nn.Embedding(9, 4, sparse=True)
        self.layer = self.embedding

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return F.mse_loss(self.embedding(x[:, 0].mul(7).long() % 9).mean(1, keepdim=True), y)


class OtherLayers(Trained):
    """The same with other layers."""

    def __init__(self, *layers: nn.Module, configure: Configure = adam_of) -> None:
        super().__init__(configure)
        self.layer = nn.Sequential(*layers)


class TiedWeights(Trained):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        second.weight = first.weight
        self.layer = nn.Sequential(first, nn.Tanh(), second, nn.Linear(3, 1))


class ChannelsLast(Trained):
    """A convolution whose weights lie in memory with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        convolution: Any = nn.Conv2d(3, 4, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.layer = nn.Sequential(nn.Unflatten(1, (3, 1, 1)), convolution, nn.Flatten(), nn.Linear(4, 1))


class ComplexWeights(Trained):
    """A parameter of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.rotation = nn.Parameter(torch.randn(3, dtype=torch.complex64))

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return super().loss((torch.view_as_real(x * self.rotation).sum(-1), y))


class ExtraState(Trained):
    """A module with state that is no tensor, on which the loss depends."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)
        scale = 1 + 0.01 * len(self.losses) / (1 + sum(self.losses))
        self.losses.append(float(loss.detach()))
        return loss * scale

    def get_extra_state(self) -> Any:
        return {"losses": list(self.losses)}

    def set_extra_state(self, state: Any) -> None:
        self.losses = list(state["losses"])


class OwnSteps(Adversaries):
    """Two optimizers, whose steps the model makes itself: the second one's at every other batch."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if optimizer_i == 0 or batch_nb % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()


class LoggedInHooks(Trained):
    """Metrics that are logged in the hooks between batches, and by a validation's end."""

    def on_batch_end(self) -> None:
        """Log what no step knows."""
        self.log("norm", sum(parameter.detach().square().sum() for parameter in self.parameters()) ** 0.5)

    def on_epoch_end(self) -> None:
        """Log once an epoch."""
        self.log("epochs", float(self.current_epoch + 1))

    def validation_end(self, outputs: Any) -> Any:
        """Return a metric beside the averages."""
        self.log("checked", float(len(outputs)))
        return {"best_batch": min(float(output["val_loss"]) for output in outputs)}


class DroppedRecurrence(Recurrent):
    """Truncated BPTT with dropout between the layers of an LSTM, and a validation."""

    def __init__(self) -> None:
        super().__init__(adam_of)
        self.lstm = nn.LSTM(2, 4, num_layers=2, dropout=0.3, batch_first=True)

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"val_loss": self.loss(batch, None)[0]}


def weight_norm() -> Trained:
    """A layer whose weight is a parametrization of two others."""
    return OtherLayers(parametrizations.weight_norm(nn.Linear(3, 8)), nn.Tanh(), nn.Linear(8, 1))


def spectral_norm() -> Trained:
    """A layer that updates buffers at each forward in train mode."""
    return OtherLayers(parametrizations.spectral_norm(nn.Linear(3, 8)), nn.Tanh(), nn.Linear(8, 1))


def frozen_backbone() -> Trained:
    """A first part that is frozen and in eval mode."""
    backbone = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8)).eval().requires_grad_(False)
    head = nn.Sequential(nn.Dropout(0.2), nn.BatchNorm1d(8), nn.Linear(8, 1))
    return OtherLayers(backbone, head, configure=lambda parameters: Adam([p for p in parameters if p.requires_grad]))


def two_groups(parameters: Any) -> Any:
    """SGD with two groups of other rates."""
    first, *others = parameters
    return SGD([{"params": [first], "lr": 0.01}, {"params": others}], lr=0.05, momentum=0.9, weight_decay=0.01)


# ---- loaders


def shuffled(samples: type[Samples] = Samples, **more: Any) -> Any:
    """A plain loader in random order."""
    return DataLoader(samples(N), batch_size=BATCH_SIZE, shuffle=True, **more)


def seeded(**more: Any) -> Any:
    """A `SeededDataLoader` with random augmentation."""
    return SeededDataLoader(NoisySamples(N), batch_size=BATCH_SIZE, shuffle=True, seed=1, **more)


def sampled(sampler: Any, **more: Any) -> Any:
    """A loader with this sampler."""
    return DataLoader(Samples(N), batch_size=BATCH_SIZE, sampler=sampler, **more)


def streamed(samples: type[Samples] = Samples, **more: Any) -> Any:
    """A stream of the same samples, without a length."""
    return DataLoader(Stream(samples(N), N // 2), batch_size=BATCH_SIZE, **more)


class EpochSampler(Sampler[int]):
    """An order that depends on the epoch alone, as that of `DistributedSampler`."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(N, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class BucketSampler(Sampler[list[int]]):
    """Batches of neighbours, in an order and of a size that are drawn anew."""

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[list[int]]:
        for first in torch.randperm(BATCHES).tolist():
            size = int(torch.randint(1, BATCH_SIZE + 1, ()))
            yield list(range(first * BATCH_SIZE, first * BATCH_SIZE + size))


class StatefulLoader:
    """A loader with a ``state_dict`` of its own, which draws each batch from a generator of its own."""

    def __init__(self) -> None:
        self.generator, self.position = torch.Generator().manual_seed(4), 0

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[Any]:
        while self.position < BATCHES:
            self.position += 1
            x = torch.randn(BATCH_SIZE, 3, generator=self.generator)
            yield x, x.sum(1, keepdim=True)
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and the state of the generator."""
        return {"position": self.position, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.position = state["position"]
        self.generator.set_state(state["generator"])


def with_replacement() -> Any:
    """A sampler that draws with replacement from a generator of its own."""
    generator = torch.Generator().manual_seed(3)
    return sampled(RandomSampler(range(N), replacement=True, num_samples=N, generator=generator))


def weighted() -> Any:
    """A sampler with weights."""
    return sampled(WeightedRandomSampler([1.0 + i % 3 for i in range(N)], N))


def subset() -> Any:
    """A sampler of a part, and a last batch that is dropped."""
    return sampled(SubsetRandomSampler(range(1, N, 2)), drop_last=True)


def own_generator() -> Any:
    """A generator of its own, which shuffles."""
    return shuffled(generator=torch.Generator().manual_seed(2))


def nested_batch_sampler() -> Any:
    """A loader without automatic batching, whose sampler yields batches."""
    return DataLoader(Samples(N), batch_size=None, sampler=BatchSampler(RandomSampler(range(N)), BATCH_SIZE, drop_last=False))


def two_val_loaders() -> Any:
    """Two val loaders of other sizes; the second one is shuffled."""
    return [DataLoader(Samples(10), batch_size=4), DataLoader(Samples(13), batch_size=4, shuffle=True)]


def list_of_batches() -> Any:
    """A list of batches."""
    return [
        (x, x.sum(1, keepdim=True)) for x in torch.randn(BATCHES, BATCH_SIZE, 3, generator=torch.Generator().manual_seed(9))
    ]


# ---- callbacks


class MovingAverage(Callback):
    """An exponential moving average of the weights, which validations use in place of the weights."""

    def __init__(self) -> None:
        self.means: list[Tensor] = []
        self.weights: list[Tensor] = []  # while a validation runs

    def on_batch_end(self, machine: Any) -> None:
        current = weights(machine.model)
        self.means = [mean.lerp(weight, 0.1) for mean, weight in zip(self.means or current, current, strict=True)]

    def on_validation_start(self, machine: Any) -> None:
        self.weights = weights(machine.model)
        self._put(self.means, machine)

    def on_validation_end(self, machine: Any, metrics: dict[str, Any]) -> None:
        self._put(self.weights, machine)

    def state_dict(self) -> dict[str, Any]:
        """Return the means."""
        return {"means": self.means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.means = state["means"]

    @staticmethod
    def _put(values: list[Tensor], machine: Any) -> None:
        with torch.no_grad():
            for parameter, value in zip(machine.model.parameters(), values, strict=True):
                parameter.copy_(value)
