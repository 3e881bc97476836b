"""Runs through a loader that is saved at every place and continued by a new loader, and their comparison."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from attrs import define, field
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Sampler

from fsmtrain.runtime.data.loaders import SizedBatches, StreamedBatches, make_resumable
from fsmtrain.runtime.rng import get_global_states, seed_all, set_global_states, to_plain

Make = Callable[[], Any]  # a new loader, as a new process would make it
ITEMS, EPOCHS = 11, 2


class RecordedItems(Dataset[Any]):
    """Items that say which they are, and write down that they were loaded."""

    def __init__(self, n: int = ITEMS) -> None:
        self.n = n
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        self.loaded.append(index)
        return torch.tensor([float(index)], dtype=torch.float64)


def random_draws() -> list[float]:
    """A number from each process-wide generator."""
    return [torch.rand(()).item(), random.random(), float(np.random.rand())]


class RandomItems(RecordedItems):
    """Items that draw from every process-wide generator: all of them, or only some."""

    def __init__(self, n: int = ITEMS, every: int = 1) -> None:
        super().__init__(n)
        self.every = every

    def __getitem__(self, index: int) -> Any:
        self.loaded.append(index)
        return torch.tensor([index, *(random_draws() if index % self.every == 0 else [0.0] * 3)], dtype=torch.float64)


class ItemStream(IterableDataset[Any]):
    """The same items as a stream, of which each worker gives a part."""

    def __init__(self, items: RecordedItems) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (self.items[i] for i in range(first, len(self.items), step))


class EagerSampler(Sampler[int]):
    """A sampler that has drawn before it is asked for an index."""

    def __init__(self, n: int = ITEMS) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.n).tolist())


class DrawingSampler(EagerSampler):
    """A sampler that draws each index when it is asked for it, from the generator that training draws from."""

    def __iter__(self) -> Iterator[int]:
        return (int(torch.randint(self.n, ())) for _ in range(self.n))


class OwnGeneratorsSampler(EagerSampler):
    """A sampler with generators of its own that are not torch's."""

    def __init__(self, n: int = ITEMS) -> None:
        super().__init__(n)
        self.python, self.numpy = random.Random(1), np.random.default_rng(1)

    def __iter__(self) -> Iterator[int]:
        order = self.numpy.permutation(self.n).tolist()
        self.python.shuffle(order)
        return iter(order)


class PairBatchSampler(Sampler[list[int]]):
    """A batch sampler of the user's own."""

    def __init__(self, n: int = ITEMS) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n // 2

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.n).tolist()
        return (order[2 * i : 2 * i + 2] for i in range(len(self)))


class ShuffledIterable:
    """An iterable that is none of torch's, in an order of its own."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Any]:
        return iter(torch.randperm(5).unsqueeze(1))


class EndlessIterator:
    """An iterator with a length, which goes on from one epoch to the next."""

    def __init__(self) -> None:
        self.next = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> EndlessIterator:
        return self

    def __next__(self) -> Tensor:
        self.next += 1
        return torch.tensor([self.next])


def collate_with_draws(items: list[Tensor]) -> Tensor:
    """A ``collate_fn`` that draws."""
    return torch.stack([torch.cat([item, torch.tensor(random_draws(), dtype=torch.float64)]) for item in items])


@define
class LoaderRun:
    """The result of a run: its batches, its saves, and the states of the global generators at its end."""

    batches: list[Any] = field(factory=list)
    saves: list[bytes] = field(factory=list)  # the first before the first epoch, then after each batch and each epoch
    end: Any = None


def serialized(value: Any) -> bytes:
    """A value as a checkpoint would hold it; anything that is not plain data is refused."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True)
    return buffer.getvalue()


def unserialized(value: bytes) -> Any:
    """Return a value that was serialized."""
    return torch.load(io.BytesIO(value), weights_only=True)


def run_loader(make: Make, start: bytes | None = None, *, saves: bool = False, share: int | None = None) -> LoaderRun:
    """Go through `EPOCHS` epochs, with draws between the batches as a training step makes them.

    Args:
        make: Makes the loader.
        start: A save of another run, from which this one continues; None for the beginning.
        saves: Whether this run is saved after each batch and each epoch.
        share: The batches taken from an epoch; None for all.
    """
    seed_all(7)
    loader = make()
    cursor, run, epoch = make_resumable(loader, "train_dataloader"), LoaderRun(), 0
    if start is not None:
        random_draws()
        position = unserialized(start)
        set_global_states(position["generators"])
        before = to_plain(get_global_states())
        cursor.load_state_dict(position["cursor"])
        epoch = position["epoch"]
        assert same_bytes(to_plain(get_global_states()), before)

    def save() -> None:
        if saves:
            run.saves.append(
                serialized({"cursor": cursor.state_dict(), "generators": to_plain(get_global_states()), "epoch": epoch})
            )

    if start is None:
        save()
    while epoch < EPOCHS:
        if not cursor.is_under_way:
            cursor.set_epoch(epoch)
        length = cursor.length
        batches = StreamedBatches(cursor) if length is None else SizedBatches(cursor)

        def is_over(batches: SizedBatches | StreamedBatches = batches, last: int | None = share or length) -> bool:
            return cursor.yielded > 0 and batches.has_ended if isinstance(batches, StreamedBatches) else cursor.yielded == last

        while not is_over():
            run.batches.append(batches.next())
            random_draws()
            save()
        batches.finish()
        epoch += 1
        save()
    run.end = to_plain(get_global_states())
    return run


def same_bytes(first: Any, second: Any) -> bool:
    """Whether two nested values are equal to the bit."""
    return serialized(first) == serialized(second)


def assert_resumes_exactly(make: Make, share: int | None = None, every: int = 1) -> LoaderRun:
    """Assert that from every save of a run a new loader yields the same batches and draws the same numbers."""
    whole = run_loader(make, saves=True, share=share)
    bare = run_loader(make, share=share)
    assert same_bytes((whole.batches, whole.end), (bare.batches, bare.end))  # to be saved changes nothing
    for i in range(every > 1, len(whole.saves), every):  # every third of 15 places: one is between two epochs
        rest = run_loader(make, whole.saves[i], share=share)
        assert same_bytes(rest.batches, whole.batches[len(whole.batches) - len(rest.batches) :]), f"saved at place {i}"
        assert same_bytes(rest.end, whole.end), f"saved at place {i}"
    return whole
