"""`SeededDataLoader`: a loader whose order and augmentation are functions of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from attrs import define
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate, default_convert

from fsmtrain.errors import OptionsError, PositionError
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.data.permutation import Permutation, mixed
from fsmtrain.runtime.data.seeded_fetch import FetchRequest, SeededFetcher
from fsmtrain.runtime.rng import GLOBAL_GENERATORS

_BLOCK = 4096  # places that are looked up at once
_ORDER, _ITEMS, _WORKERS = range(3)  # what an epoch's keys are for


class SeededSampler(Sampler[int]):
    """The indices of an epoch, in an order that follows from the seed and the epoch.

    Attributes:
        epoch: The epoch of the next pass, from 0.
        place: Where in it the next pass begins, in items.
    """

    def __init__(self, dataset: Any, shuffle: bool, seed: int) -> None:
        self.dataset, self.shuffle, self.seed = dataset, shuffle, seed
        self.epoch = self.place = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return self.indices(self.epoch, self.place)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of this epoch, from its beginning."""
        self.epoch, self.place = epoch, 0

    def key(self, purpose: int, epoch: int) -> int:
        """64 bits for one purpose in one epoch."""
        return mixed(mixed(mixed(0, self.seed), purpose), epoch)

    def indices(self, epoch: int, place: int) -> Iterator[int]:
        """The indices of an epoch from a place on. To begin there costs nothing, wherever it is."""
        n = len(self.dataset)
        if not self.shuffle:
            yield from range(place, n)
            return
        permutation = Permutation(n, self.key(_ORDER, epoch))
        for start in range(place, n, _BLOCK):
            yield from permutation.between(start, min(start + _BLOCK, n))


class SeededDataLoader(DataLoader[Any]):
    """A ``DataLoader`` whose order and augmentation are functions of (seed, epoch, index), whatever process loads an item.

    To resume costs nothing: the batch at any position can be loaded without those before it, also with workers and with items
    that are augmented at random. The generators of the training process are left as they are.

    Args:
        dataset: A map-style dataset.
        batch_size: Items in a batch; None for single items that are not collated.
        shuffle: Whether each epoch has an order of its own; without it, the dataset's.
        seed: An int from 0 to 2**64 - 1.
        num_workers: As for a ``DataLoader``, and so are all below. The batches are the same for any number.
        collate_fn: Makes a batch of a list of items. It may draw random numbers too.
        pin_memory: Whether batches are put in pinned memory.
        drop_last: Whether a last batch that is not full is left out.
        timeout: Seconds to wait for a batch from a worker; 0 for ever.
        worker_init_fn: Called in each worker with its number.
        multiprocessing_context: How workers are started.
        prefetch_factor: Batches that each worker loads ahead.
        persistent_workers: Whether the workers live on between epochs.
        draws_from: The process-wide generators that items may draw from: ``"torch"`` (its CPU generator), ``"numpy"``,
            ``"python"``. These are seeded before each item. An item that draws from another one of them is an error.

    Each ``iter()`` is the next epoch, from 0, unless `set_epoch` or `load_state_dict` say otherwise.

    Raises:
        OptionsError: A stream as dataset, a seed that is none, an unknown generator.
        DataError: (while iterating) An item drew from a generator that `draws_from` leaves out.

    >>> loader = SeededDataLoader(range(7), batch_size=3, shuffle=True, seed=1)
    >>> [batch.tolist() for batch in loader], [batch.tolist() for batch in loader]
    ([[6, 5, 1], [4, 3, 0], [2]], [[1, 2, 0], [5, 6, 3], [4]])
    >>> loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 1})
    >>> [batch.tolist() for batch in loader]
    [[4, 3, 0], [2]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        draws_from: Sequence[str] = tuple(GLOBAL_GENERATORS),
    ) -> None:
        _check(dataset, seed, draws_from)
        order = SeededSampler(dataset, bool(shuffle), seed)
        collate_fn = collate_fn or (default_convert if batch_size is None else default_collate)
        workers: dict[str, Any] = {
            "num_workers": num_workers,
            "pin_memory": pin_memory,
            "timeout": timeout,
            "worker_init_fn": worker_init_fn,
            "multiprocessing_context": multiprocessing_context,
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
        }
        super().__init__(dataset, batch_size, sampler=order, collate_fn=collate_fn, drop_last=drop_last, **workers)
        self.seed, self.shuffle, self.order = seed, bool(shuffle), order
        self._tickets = _Tickets(order, batch_size, drop_last)
        self._seeds = torch.Generator()  # of the workers, so that none is drawn from the training's generator
        self._loading: DataLoader[Any] = DataLoader(
            SeededFetcher(dataset, collate_fn, draws_from),
            batch_size=None,
            sampler=self._tickets,
            collate_fn=_as_it_is,
            generator=self._seeds,
            **workers,
        )
        self._progress: _Progress | None = None  # of the pass that was begun last

    def __iter__(self) -> Any:
        order = self.order
        self._seeds.manual_seed(order.key(_WORKERS, order.epoch))
        self._progress = _Progress(order.epoch, order.place // (self.batch_size or 1))
        begun = _Pass(iter(self._loading), self._progress)
        order.set_epoch(order.epoch + 1)
        return begun

    def set_epoch(self, epoch: int) -> None:
        """Let the next ``iter()`` be that of this epoch, from its beginning."""
        self.order.set_epoch(epoch)
        self._progress = None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the epoch, the batches of it that were given, and what the loader must have in common."""
        progress = self._progress
        if progress is None or progress.has_ended:
            progress = _Progress(self.order.epoch, self.order.place // (self.batch_size or 1))
        return {"epoch": progress.epoch, "batch": progress.batch, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next ``iter()`` go on from where a loader stood.

        Raises:
            PositionError: That loader had another seed, length, batch size or order.
        """
        for name, own in self._identity().items():
            if state[name] != own:
                raise PositionError(
                    f"SeededDataLoader: {name}={own!r}, but the position was saved with {name}={state[name]!r}: the same batch "
                    f"would hold other items. Use what it was saved with, or begin anew."
                )
        if not 0 <= state["batch"] <= len(self):
            raise PositionError(f"SeededDataLoader: the position is batch {state['batch']}, and an epoch has {len(self)}.")
        self.order.set_epoch(state["epoch"])
        self.order.place = state["batch"] * (self.batch_size or 1)
        self._progress = None

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "length": len(self.order),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }


@define
class _Progress:
    """How far a pass has come."""

    epoch: int
    batch: int  # the batches given, from the epoch's beginning on
    has_ended: bool = False


class _Pass(Iterator[Any]):
    """A pass that writes down its progress. The loader does not hold it: dropped, it takes its workers with it."""

    def __init__(self, batches: Iterator[Any], progress: _Progress) -> None:
        self._batches, self._progress = batches, progress

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            self._progress.has_ended = True
            raise
        self._progress.batch += 1
        return batch


class _Tickets(Sampler[FetchRequest]):
    """What a pass loads, ticket by ticket."""

    def __init__(self, order: SeededSampler, batch_size: int | None, drop_last: bool) -> None:
        self._order, self._batch_size, self._drop_last = order, batch_size, drop_last

    def __iter__(self) -> Iterator[FetchRequest]:
        return self._from(self._order.epoch, self._order.place)

    def _from(self, epoch: int, place: int) -> Iterator[FetchRequest]:
        key, indices, size = self._order.key(_ITEMS, epoch), self._order.indices(epoch, place), self._batch_size
        if size is None:
            yield from ((key, index) for index in indices)
            return
        while (batch := list(islice(indices, size))) and (len(batch) == size or not self._drop_last):
            yield key, batch


def _as_it_is(batch: Any) -> Any:
    """A batch that has been collated already."""
    return batch


def _check(dataset: Any, seed: int, draws_from: Sequence[str]) -> None:
    """The rules on single arguments.

    Raises:
        OptionsError: One is broken.
    """
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise OptionsError(
            f"dataset={dataset!r}: SeededDataLoader needs a map-style dataset, with __getitem__ and __len__. A stream has no "
            f"index to look its items up by: use a DataLoader, or torchdata's StatefulDataLoader."
        )
    if not is_integer(seed) or not 0 <= seed < 1 << 64:
        raise OptionsError(f"seed={seed!r}: it must be an int from 0 to 2**64 - 1.")
    unknown = [name for name in draws_from if name not in GLOBAL_GENERATORS]
    if isinstance(draws_from, str) or unknown:
        raise OptionsError(
            f"draws_from={draws_from!r}: it must be a list of some of {', '.join(map(repr, GLOBAL_GENERATORS))}."
        )
