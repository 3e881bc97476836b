"""Loaders that read the clock, with the same batches for every contestant.

A loader reads the clock when its batch `first` is requested and when its batch `last` is. In between lies the loop over
`last - first` batches and nothing else: no set-up, no first batches, no end of an epoch or run. So nothing has to be
subtracted, and a trainer that fetches one batch ahead does so at both readings.
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

DISTINCT_BATCHES = 64  # repeated as often as needed
BATCH_SIZE, FEATURES = 4, 8


@frozen
class Times:
    """Wall time, and processor time of all threads of this process, in seconds."""

    wall: float
    cpu: float

    def microseconds_each(self, count: int) -> Times:
        """Return microseconds for each of `count` things."""
        return Times(self.wall / count * 1e6, self.cpu / count * 1e6)

    def __sub__(self, other: Times) -> Times:
        return Times(self.wall - other.wall, self.cpu - other.cpu)


def read_clocks() -> Times:
    """Return both clocks' present values."""
    return Times(time.perf_counter(), time.process_time())


@define
class TimedRange:
    """The batches of an epoch that are measured: from `first` up to, but without, `last`, counted from 0."""

    first: int
    last: int
    readings: list[Times] = field(factory=list)

    def read(self) -> None:
        """Read the clocks."""
        self.readings.append(read_clocks())

    @property
    def per_batch(self) -> Times:
        """Microseconds a batch.

        Raises:
            RuntimeError: The clock was not read twice, so the trainer did not request each batch once, in order.
        """
        if len(self.readings) != 2:
            raise RuntimeError(f"the clock was read {len(self.readings)} times in an epoch instead of twice")
        start, end = self.readings
        return (end - start).microseconds_each(self.last - self.first)


class InMemoryLoader:
    """A loader over a list of batches. Fetching one costs next to nothing."""

    def __init__(self, batches: Sequence[Any], stretch: TimedRange) -> None:
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


class SampleDataset(Dataset[Batch]):
    """The single samples of batches, for a `DataLoader` to collate."""

    def __init__(self, batches: Sequence[Batch], stretch: TimedRange) -> None:
        self.x, self.y = (torch.cat([batch[side] for batch in batches[:DISTINCT_BATCHES]]) for side in (0, 1))
        self._length, self.stretch = len(batches) * BATCH_SIZE, stretch
        self._readings = (stretch.first * BATCH_SIZE, stretch.last * BATCH_SIZE)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        if index in self._readings:
            self.stretch.read()
        index %= DISTINCT_BATCHES * BATCH_SIZE
        return self.x[index], self.y[index]


def make_batches(count: int, *, seed: int = 0, shape: tuple[int, ...] = (FEATURES,)) -> list[Batch]:
    """Return `count` batches, of which `DISTINCT_BATCHES` differ: samples of this shape, and a number to learn for each."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(DISTINCT_BATCHES, BATCH_SIZE, *shape, generator=generator)
    y = x.sum(-1, keepdim=True)
    return [(x[i % DISTINCT_BATCHES], y[i % DISTINCT_BATCHES]) for i in range(count)]


def in_memory(batches: Sequence[Any], stretch: TimedRange) -> Any:
    """Return a loader over the batches."""
    return InMemoryLoader(batches, stretch)


def data_loader(batches: Sequence[Batch], stretch: TimedRange) -> Any:
    """Return a real `DataLoader` without workers, which collates each batch from its samples."""
    return DataLoader(SampleDataset(batches, stretch), batch_size=BATCH_SIZE)


class PlainLoader:
    """A loader that does not read the clock, such as for validation."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = list(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


def val_batches() -> PlainLoader:
    """Return a loader of the two val batches of each validation."""
    return PlainLoader(make_batches(2, seed=1))
