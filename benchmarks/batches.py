"""The batches of a benchmark, the same for every contestant, and the clock that is read while they are handed out.

The loader itself reads the clock: when its batch `first` is asked for, and when its batch `last` is. Between the two lies the
loop of `last - first` batches and nothing else, whoever asks: no set-up, no first batches, no end of an epoch or a run. So
nothing has to be subtracted, and a trainer that fetches one batch ahead does so at both readings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = tuple[Tensor, Tensor]

DIFFERENT = 64  # batches, which come again and again
BATCH_SIZE, FEATURES = 4, 8


@frozen
class Spent:
    """Seconds between two moments: on the clock, and of the processor, all threads of this process together."""

    wall: float
    cpu: float

    def each(self, count: int) -> Spent:
        """Microseconds for each of so many."""
        return Spent(self.wall / count * 1e6, self.cpu / count * 1e6)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)


def now() -> Spent:
    """This moment."""
    return Spent(time.perf_counter(), time.process_time())


@define
class Stretch:
    """The batches that are measured of an epoch: those from `first` up to and without `last`."""

    first: int
    last: int
    readings: list[Spent] = field(factory=list)

    def read(self) -> None:
        """Read the clock."""
        self.readings.append(now())

    @property
    def spent(self) -> Spent:
        """Microseconds a batch.

        Raises:
            RuntimeError: The clock was not read twice: the trainer did not ask for the batches once each, in their order.
        """
        if len(self.readings) != 2:
            raise RuntimeError(f"the clock was read {len(self.readings)} times in an epoch, and not twice")
        begun, ended = self.readings
        return (ended - begun).each(self.last - self.first)


class InMemory:
    """A loader whose batches are there already. Asking for one costs next to nothing."""

    def __init__(self, batches: Sequence[Any], stretch: Stretch) -> None:
        self._batches, self.stretch = list(batches), stretch

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        batches, stretch = iter(self._batches), self.stretch
        yield from islice(batches, stretch.first)
        stretch.read()
        yield from islice(batches, stretch.last - stretch.first)
        stretch.read()
        yield from batches


class Samples(Dataset[Batch]):
    """The samples of batches, one by one, for a `DataLoader` to put together again."""

    def __init__(self, batches: Sequence[Batch], stretch: Stretch) -> None:
        self.x, self.y = (torch.cat([batch[side] for batch in batches[:DIFFERENT]]) for side in (0, 1))
        self._length, self.stretch = len(batches) * BATCH_SIZE, stretch
        self._readings = (stretch.first * BATCH_SIZE, stretch.last * BATCH_SIZE)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        if index in self._readings:
            self.stretch.read()
        index %= DIFFERENT * BATCH_SIZE
        return self.x[index], self.y[index]


def batches_of(count: int, *, seed: int = 0, shape: tuple[int, ...] = (FEATURES,)) -> list[Batch]:
    """So many batches of `DIFFERENT` ones: samples of this shape, and a number for each to be learned."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(DIFFERENT, BATCH_SIZE, *shape, generator=generator)
    y = x.sum(-1, keepdim=True)
    return [(x[i % DIFFERENT], y[i % DIFFERENT]) for i in range(count)]


def in_memory(batches: Sequence[Any], stretch: Stretch) -> Any:
    """The batches as they are."""
    return InMemory(batches, stretch)


def data_loader(batches: Sequence[Batch], stretch: Stretch) -> Any:
    """A real `DataLoader` in the main process, which puts each batch together from its samples."""
    return DataLoader(Samples(batches, stretch), batch_size=BATCH_SIZE)


class Checks:
    """The val batches of a check: a loader without a clock."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = list(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


def val_batches() -> Checks:
    """The two val batches of each check."""
    return Checks(batches_of(2, seed=1))
