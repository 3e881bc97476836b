"""Small models, data and functions that run them, shared by all tests."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fsmtrain import Callback, Guards, LightningModule, Machine, Options, State, TrainingModule, build

M = TypeVar("M", bound=nn.Module)
Loader = DataLoader[Any]
Configure = Callable[[Any], Any]

slow_descent = functools.partial(SGD, lr=0.1)


# ---- data


class Samples(Dataset[Any]):
    """Features and targets that follow from the index alone."""

    def __init__(self, n: int, features: int = 3, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(n)
        self.x = torch.randn(n, features, generator=generator, dtype=torch.float64).to(dtype)
        self.y = torch.randn(n, 1, generator=generator, dtype=torch.float64).to(dtype)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class Stream(IterableDataset[Any]):
    """The same samples without a length."""

    def __init__(self, samples: Dataset[Any], n: int) -> None:
        self.samples, self.n = samples, n

    def __iter__(self) -> Iterator[Any]:
        return (self.samples[i] for i in range(self.n))


def batches(n: int, size: int = 2, *, dtype: torch.dtype = torch.float32, **more: Any) -> Loader:
    """A loader of `n` samples in batches of `size`; the last one may be smaller."""
    return DataLoader(Samples(n, dtype=dtype), batch_size=size, **more)


def stream(n: int, size: int = 2) -> Loader:
    """The same batches from a loader without a length."""
    return DataLoader(Stream(Samples(n), n), batch_size=size)


def sequences(n: int, size: int, steps: int) -> Loader:
    """A loader of `n` sequences of `steps` time steps: features ``(batch, steps, 2)`` and targets ``(batch, steps, 1)``."""
    generator = torch.Generator().manual_seed(n)
    x, y = torch.randn(n, steps, 2, generator=generator), torch.randn(n, steps, 1, generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=size)


# ---- metrics


class GatheredMean(nn.Module):
    """The mean of all values, with the protocol of torchmetrics' ``Metric``, of which this is a stand-in.

    Its state is in no ``state_dict``, and calling it returns the value of the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._defaults = {"total": torch.zeros((), dtype=torch.float64), "counts": []}
        self._update_count = 0
        self._computed: Tensor | None = None
        self._forward_cache: Tensor | None = None
        self.total: Tensor
        self.counts: list[Tensor]
        self.reset()

    @property
    def metric_state(self) -> dict[str, Any]:
        """What has been gathered."""
        return {name: getattr(self, name) for name in self._defaults}

    def update(self, values: Tensor) -> None:
        """Add the values of a batch."""
        self._computed, self._update_count = None, self._update_count + 1
        self.total = self.total + values.detach().double().sum()
        self.counts.append(torch.tensor(float(values.numel())))

    def compute(self) -> Tensor:
        """Return the mean, and keep it until the next update."""
        mean = self.total / torch.stack(self.counts).sum() if self._computed is None else self._computed
        self._computed = mean
        return mean

    def reset(self) -> None:
        """Forget all values."""
        self._update_count, self._computed, self._forward_cache = 0, None, None
        self.total, self.counts = torch.zeros((), dtype=torch.float64), []

    def forward(self, values: Tensor) -> Tensor:
        """Add the values of a batch, and return their mean."""
        self.update(values)
        self._forward_cache = mean = values.detach().double().mean()
        return mean


# ---- models


class Linear(TrainingModule):
    """Linear regression. `configure` makes what ``configure_optimizers`` returns from the parameters."""

    def __init__(self, configure: Configure = slow_descent) -> None:
        super().__init__()
        self.layer: nn.Module = nn.Linear(3, 1)
        self.configure = configure

    def loss(self, batch: Any) -> Any:
        """The mean squared error."""
        x, y = batch
        return F.mse_loss(self.layer(x), y)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return self.configure(self.parameters())


class Validated(Linear):
    """Linear regression with a validation and a test step."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"val_loss": self.loss(batch)}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        return {"test_loss": self.loss(batch)}


class Perceptron(Validated):
    """Two layers with batch normalisation and dropout between them, which depend on the mode."""

    def __init__(self, configure: Configure = slow_descent) -> None:
        super().__init__(configure)
        self.layer = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))


class Smooth(Linear):
    """Two layers in which a sample's loss depends on no other sample and on no random number."""

    def __init__(self, configure: Configure = slow_descent) -> None:
        super().__init__(configure)
        self.layer = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


class Recurrent(TrainingModule):
    """An LSTM that predicts at each time step."""

    def __init__(self, configure: Configure = slow_descent) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 4, batch_first=True)
        self.head = nn.Linear(4, 1)
        self.configure = configure

    def loss(self, batch: Any, hiddens: Any) -> tuple[Any, Any]:
        """Return the mean squared error of a split, and the hidden state for the next one."""
        x, y = batch
        out, hiddens = self.lstm(x, hiddens)
        return F.mse_loss(self.head(out), y), hiddens

    def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
        loss, hiddens = self.loss(batch, hiddens)
        return {"loss": loss, "hiddens": hiddens}

    def configure_optimizers(self) -> Any:
        return self.configure(self.parameters())


class Adversaries(LightningModule):
    """A generator and a discriminator, each with an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
        self.discriminator = nn.Sequential(nn.Linear(1, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))

    def generator_loss(self, batch: Any) -> Any:
        """Return the generator's loss: how well the discriminator recognises its samples."""
        x, _ = batch
        judged = self.discriminator(self.generator(x))
        return F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))

    def discriminator_loss(self, batch: Any) -> Any:
        """Return the discriminator's loss."""
        x, y = batch
        real, fake = self.discriminator(y), self.discriminator(self.generator(x))
        as_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        return as_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        return self.generator_loss(batch) if optimizer_i == 0 else self.discriminator_loss(batch)

    def configure_optimizers(self) -> Any:
        return Adam(self.generator.parameters(), lr=0.02), SGD(self.discriminator.parameters(), lr=0.1, momentum=0.9)


class Plain(nn.Module):
    """Linear regression as a plain ``nn.Module`` with the step methods."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        x, y = batch
        return F.mse_loss(self.layer(x), y)

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"val_loss": self.training_step(batch, batch_nb)}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        return {"test_loss": self.training_step(batch, batch_nb)}

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1)


# ---- running


class TransitionRecorder(Callback):
    """Records every transition."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_transition(self, machine: Any, transition: Any) -> None:
        self.seen.append(transition)

    @property
    def states(self) -> list[State]:
        """Return the visited states, in order."""
        return [transition.source for transition in self.seen]

    def batches_of(self, state: State) -> list[int]:
        """Return ``batch_nb`` at each visit to a state."""
        return [transition.batch_nb for transition in self.seen if transition.source is state]


class StartCounts(Callback):
    """Counts the epochs and validations that have begun; the counts are saved in checkpoints."""

    def __init__(self) -> None:
        self.epochs = self.checks = 0

    def on_epoch_start(self, machine: Any) -> None:
        self.epochs += 1

    def on_validation_start(self, machine: Any) -> None:
        self.checks += 1

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def flags(**given: Any) -> Options:
    """Return options for a run on the CPU that shows and records nothing."""
    return Options(**{"quiet": True, "runs_dir": None, "device": "cpu", **given})


def machine_of(
    model: nn.Module,
    train: Any = None,
    val: Any = None,
    test: Any = None,
    *,
    datamodule: Any = None,
    guards: Guards | None = None,
    callbacks: Iterable[object] = (),
    **given: Any,
) -> Machine:
    """Return a machine that has not run yet."""
    loaders = {"train_dataloader": train, "val_dataloaders": val, "test_dataloaders": test, "datamodule": datamodule}
    return build(flags(**given), model, **loaders, guards=guards, callbacks=callbacks)


def trained(model: nn.Module, train: Any = None, val: Any = None, test: Any = None, **given: Any) -> Machine:
    """Return a machine that has run to its end."""
    machine = machine_of(model, train, val, test, **given)
    machine.run()
    return machine


def twins(make: Callable[[], M]) -> tuple[M, M]:
    """Return two models with equal weights that share nothing; seeds torch for what follows."""
    torch.manual_seed(1)
    model = make()
    torch.manual_seed(0)
    return model, copy.deepcopy(model)


def weights(model: nn.Module) -> list[Tensor]:
    """Return copies of the parameters and buffers."""
    return [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]


def state_notes(error: BaseException) -> list[str]:
    """Return the notes of an error with the state of each run that it ended, without the recent transitions."""
    return [note for note in getattr(error, "__notes__", []) if note.startswith("in state ")]


def same_bits(left: Any, right: Any) -> bool:
    """Return whether two nested values are equal, their tensors bit for bit."""
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        both = isinstance(left, Tensor) and isinstance(right, Tensor)
        return both and (left.dtype, left.shape) == (right.dtype, right.shape) and bits_of(left) == bits_of(right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_bits(left[key], right[key]) for key in left)
    if isinstance(left, Sequence) and isinstance(right, Sequence) and not isinstance(left, str):
        return len(left) == len(right) and all(same_bits(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right) or (left != left and right != right)  # NaN


def bits_of(tensor: Tensor) -> bytes:
    """Return a tensor's elements as bytes, in index order: NaN equals NaN, and 0 differs from -0."""
    values = tensor.detach().resolve_conj().resolve_neg()
    copy = torch.empty(values.shape, dtype=values.dtype).copy_(values).reshape(-1)
    return copy.view(torch.uint8).numpy().tobytes() if copy.numel() else b""
