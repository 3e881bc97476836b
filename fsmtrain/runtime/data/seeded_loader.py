"""`SeededDataLoader`: seeded order and augmentation, so that resuming is exact and costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from attrs import define
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate, default_convert

from fsmtrain.errors import OptionsError, PositionError
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.data.permutation import Permutation, hash_words
from fsmtrain.runtime.data.seeded_fetch import FetchRequest, SeededFetcher
from fsmtrain.runtime.rng import GLOBAL_GENERATORS
from fsmtrain.unknown_arguments import explain_unknown_arguments

_BLOCK_ITEMS = 4096  # positions that are looked up at once
_ORDER_KEY, _ITEMS_KEY, _WORKERS_KEY = range(3)  # what the keys of an epoch are for


class SeededSampler(Sampler[int]):
    """The indices of an epoch, in an order that follows from the seed and the epoch.

    Attributes:
        epoch: The epoch of the next pass, from 0.
        position: Where in the epoch the next pass begins, in items.
    """

    def __init__(self, dataset: Any, shuffle: bool, seed: int) -> None:
        self.dataset, self.shuffle, self.seed = dataset, shuffle, seed
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return self.indices(self.epoch, self.position)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, from its beginning."""
        self.epoch, self.position = epoch, 0

    def key(self, purpose: int, epoch: int) -> int:
        """Return 64 bits for one purpose in one epoch."""
        return hash_words(hash_words(hash_words(0, self.seed), purpose), epoch)

    def indices(self, epoch: int, position: int) -> Iterator[int]:
        """Yield the indices of an epoch from a position on. It costs nothing to begin far inside."""
        n = len(self.dataset)
        if not self.shuffle:
            yield from range(position, n)
            return
        permutation = Permutation(n, self.key(_ORDER_KEY, epoch))
        for start in range(position, n, _BLOCK_ITEMS):
            yield from permutation.between(start, min(start + _BLOCK_ITEMS, n))


@explain_unknown_arguments()
class SeededDataLoader(DataLoader[Any]):
    """A ``DataLoader`` whose order and augmentation are functions of (seed, epoch, index).

    Resuming costs nothing: the batch at any position loads without those before it, also with workers and with random
    augmentation. The generators of the training process are not changed.

    Args:
        dataset: A map-style dataset.
        batch_size: Items per batch; None for single items that are not collated.
        shuffle: If true, each epoch has its own random order; if false, the dataset's order.
        seed: An int from 0 to 2**64 - 1.
        num_workers: As for a ``DataLoader``, like all arguments below. The batches are the same for any number.
        collate_fn: Makes a batch of a list of items. It may draw random numbers too.
        pin_memory: If true, batches are copied to pinned memory.
        drop_last: If true, a last batch that is not full is left out.
        timeout: Seconds to wait for a batch from a worker; 0 waits forever.
        worker_init_fn: Called in each worker with its number, from 0.
        multiprocessing_context: How workers are started.
        prefetch_factor: Batches that each worker loads ahead.
        persistent_workers: If true, the workers live on between epochs.
        draws_from: The global generators that items may draw from: ``"torch"`` (its CPU generator), ``"numpy"``,
            ``"python"``. These are seeded before each item. If an item draws from one that is not listed, that is an error.

    Each ``iter()`` is the next epoch, from 0, except after `set_epoch` or `load_state_dict`.

    Raises:
        OptionsError: A stream as dataset, an invalid seed, an unknown generator.
        DataError: (while iterating) An item drew from a generator that is not in `draws_from`.

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
        _validate(dataset, seed, draws_from)
        order = SeededSampler(dataset, bool(shuffle), seed)
        collate_fn = collate_fn or (default_convert if batch_size is None else default_collate)
        worker_options: dict[str, Any] = {
            "num_workers": num_workers,
            "pin_memory": pin_memory,
            "timeout": timeout,
            "worker_init_fn": worker_init_fn,
            "multiprocessing_context": multiprocessing_context,
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent_workers,
        }
        super().__init__(dataset, batch_size, sampler=order, collate_fn=collate_fn, drop_last=drop_last, **worker_options)
        self.seed, self.shuffle, self.order = seed, bool(shuffle), order
        self._worker_seeds = torch.Generator()  # of the workers, so that none is drawn from the training's generator
        self._inner: DataLoader[Any] = DataLoader(
            SeededFetcher(dataset, collate_fn, draws_from),
            batch_size=None,
            sampler=_Requests(order, batch_size, drop_last),
            collate_fn=_identity,
            generator=self._worker_seeds,
            **worker_options,
        )
        self._progress: _Progress | None = None  # of the pass that was begun last

    def __iter__(self) -> Any:
        order = self.order
        self._worker_seeds.manual_seed(order.key(_WORKERS_KEY, order.epoch))
        self._progress = self._next_progress()
        batches = _Pass(iter(self._inner), self._progress)
        order.set_epoch(order.epoch + 1)
        return batches

    def set_epoch(self, epoch: int) -> None:
        """Let the next ``iter()`` be this epoch, from its beginning."""
        self.order.set_epoch(epoch)
        self._progress = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position, as epoch and batch, and what a loader must have in common to resume there."""
        progress = self._progress
        if progress is None or progress.has_ended:
            progress = self._next_progress()
        return {"epoch": progress.epoch, "batch": progress.batch, **self._signature()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next ``iter()`` continue from a saved position.

        Raises:
            PositionError: The saved loader had another seed, length, batch size or order.
        """
        for name, own in self._signature().items():
            if state[name] != own:
                raise PositionError(
                    f"SeededDataLoader: cannot resume: {name}={own!r}, checkpoint has {state[name]!r}: the same batch would "
                    f"have other items. Use the saved value, or start a new run."
                )
        if not 0 <= state["batch"] <= len(self):
            raise PositionError(
                f"SeededDataLoader: cannot resume: the saved position is batch {state['batch']}, an epoch has {len(self)}."
            )
        self.order.set_epoch(state["epoch"])
        self.order.position = state["batch"] * (self.batch_size or 1)
        self._progress = None

    def _next_progress(self) -> _Progress:
        """Return the progress with which the next pass begins."""
        return _Progress(self.order.epoch, self.order.position // (self.batch_size or 1))

    def _signature(self) -> dict[str, Any]:
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
    batch: int  # batches yielded, from the beginning of the epoch
    has_ended: bool = False


class _Pass(Iterator[Any]):
    """A pass that counts its batches. The loader does not refer to it: if it is dropped, its workers end."""

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


class _Requests(Sampler[FetchRequest]):
    """What a pass loads: one request per batch."""

    def __init__(self, order: SeededSampler, batch_size: int | None, drop_last: bool) -> None:
        self._order, self._batch_size, self._drop_last = order, batch_size, drop_last

    def __iter__(self) -> Iterator[FetchRequest]:
        return self._requests(self._order.epoch, self._order.position)

    def _requests(self, epoch: int, position: int) -> Iterator[FetchRequest]:
        key, indices, size = self._order.key(_ITEMS_KEY, epoch), self._order.indices(epoch, position), self._batch_size
        if size is None:
            yield from ((key, index) for index in indices)
            return
        while (batch := list(islice(indices, size))) and (len(batch) == size or not self._drop_last):
            yield key, batch


def _identity(batch: Any) -> Any:
    """Return a batch unchanged: it has been collated already."""
    return batch


def _validate(dataset: Any, seed: int, draws_from: Sequence[str]) -> None:
    """Raise an `OptionsError` for the first argument that breaks a rule."""
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise OptionsError(
            f"dataset={dataset!r}: SeededDataLoader needs a map-style dataset, with __getitem__ and __len__. A stream has no "
            f"indices to seed its items by: use a DataLoader, or torchdata's StatefulDataLoader."
        )
    if not is_integer(seed) or not 0 <= seed < 1 << 64:
        raise OptionsError(f"seed={seed!r}: it must be an int from 0 to 2**64 - 1.")
    unknown = [name for name in draws_from if name not in GLOBAL_GENERATORS]
    if isinstance(draws_from, str) or unknown:
        names = ", ".join(map(repr, GLOBAL_GENERATORS))
        raise OptionsError(f"draws_from={draws_from!r}: it must be a list of some of {names}.")
