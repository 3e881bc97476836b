"""Items loaded with generators that are seeded for each of them, so that what they draw follows from (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch.utils.data import Dataset, Subset, get_worker_info

from fsmtrain.errors import DataError
from fsmtrain.runtime.data.permutation import mixed
from fsmtrain.runtime.rng import GLOBAL_GENERATORS

# What is to be loaded: the epoch's key, and the indices of a batch, or one index where there are no batches.
FetchRequest: TypeAlias = tuple[int, list[int] | int]


class SeededFetcher(Dataset[Any]):
    """A dataset of whole batches: given a ticket, it loads the items and collates them.

    The generators that the dataset draws from are seeded before each item; in the main process they are put back after each
    batch. ``collate_fn`` goes on drawing where the last item stopped.

    Args:
        dataset: The user's, map-style.
        collate_fn: What makes a batch of a list of items, or converts the one item.
        draws_from: The names of the process-wide generators that are seeded.

    A dataset with a ``__getitems__``, which loads a batch at once, is seeded once for each batch, by its first index.
    """

    def __init__(self, dataset: Any, collate_fn: Callable[[Any], Any], draws_from: Sequence[str]) -> None:
        self.dataset, self.collate_fn, self.draws_from = dataset, collate_fn, tuple(draws_from)

    def __getitem__(self, ticket: FetchRequest) -> Any:
        seeded = {name: GLOBAL_GENERATORS[name] for name in self.draws_from}
        others = {name: generator for name, generator in GLOBAL_GENERATORS.items() if name not in seeded}
        kept = {} if get_worker_info() else {name: generator.get_state() for name, generator in seeded.items()}
        before = {name: generator.get_state() for name, generator in others.items()}
        try:
            batch = self._load(*ticket)
        finally:
            for name, state in kept.items():
                seeded[name].set_state(state)
        for name, generator in others.items():
            if not generator.states_are_equal(before[name], generator.get_state()):
                raise DataError(
                    f"SeededDataLoader: draws_from={self.draws_from!r}, but {type(self.dataset).__name__} drew from the "
                    f"generator of {name!r}, which is not seeded for each item then. Name it in draws_from, or leave it out."
                )
        return batch

    def _load(self, key: int, wanted: list[int] | int) -> Any:
        dataset, seeds = self.dataset, [GLOBAL_GENERATORS[name].seed for name in self.draws_from]

        def seeded(index: int) -> int:
            word = mixed(key, index)
            for seed in seeds:
                seed(word)
            return index

        if isinstance(wanted, int):
            items = dataset[seeded(wanted)]
        elif _loads_batches(dataset):
            seeded(wanted[0])
            items = dataset.__getitems__(wanted)
        else:
            items = [dataset[seeded(index)] for index in wanted]
        return self.collate_fn(items)


def _loads_batches(dataset: Any) -> bool:
    """Whether a dataset has a way of its own to load a batch. A subset has one only if what it is a subset of does."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return callable(getattr(dataset, "__getitems__", None))
