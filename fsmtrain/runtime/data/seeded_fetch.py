"""Load the items of a `SeededDataLoader`: seed the generators before each item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch.utils.data import Dataset, Subset, get_worker_info

from fsmtrain.errors import DataError
from fsmtrain.runtime.data.permutation import hash_words
from fsmtrain.runtime.rng import GLOBAL_GENERATORS

# What to load: the epoch's key, and the indices of a batch, or one index if there are no batches.
FetchRequest: TypeAlias = tuple[int, list[int] | int]


class SeededFetcher(Dataset[Any]):
    """A dataset of whole batches: takes a request, loads the items and collates them.

    The generators that the dataset draws from are seeded before each item. In the main process they are restored after each
    batch. ``collate_fn`` draws on from where the last item stopped.

    A dataset with ``__getitems__``, which loads a batch at once, is seeded once per batch, by the first index.

    Args:
        dataset: The user's map-style dataset.
        collate_fn: Makes a batch of a list of items, or converts a single item.
        draws_from: The names of the global generators that are seeded.
    """

    def __init__(self, dataset: Any, collate_fn: Callable[[Any], Any], draws_from: Sequence[str]) -> None:
        self.dataset, self.collate_fn, self.draws_from = dataset, collate_fn, tuple(draws_from)

    def __getitem__(self, request: FetchRequest) -> Any:
        seeded = {name: GLOBAL_GENERATORS[name] for name in self.draws_from}
        others = {name: generator for name, generator in GLOBAL_GENERATORS.items() if name not in seeded}
        to_restore = {} if get_worker_info() else {name: generator.get_state() for name, generator in seeded.items()}
        before = {name: generator.get_state() for name, generator in others.items()}
        try:
            batch = self._load(*request)
        finally:
            for name, state in to_restore.items():
                seeded[name].set_state(state)
        for name, generator in others.items():
            if not generator.states_are_equal(before[name], generator.get_state()):
                raise DataError(
                    f"SeededDataLoader: draws_from={self.draws_from!r}, but {type(self.dataset).__name__} drew from the "
                    f"generator {name!r}, which is not seeded for each item. Add it to draws_from, or omit draws_from."
                )
        return batch

    def _load(self, key: int, indices: list[int] | int) -> Any:
        dataset, seed_functions = self.dataset, [GLOBAL_GENERATORS[name].seed for name in self.draws_from]

        def seed_for(index: int) -> int:
            word = hash_words(key, index)
            for seed in seed_functions:
                seed(word)
            return index

        if isinstance(indices, int):
            items = dataset[seed_for(indices)]
        elif _loads_batches(dataset):
            seed_for(indices[0])
            items = dataset.__getitems__(indices)
        else:
            items = [dataset[seed_for(index)] for index in indices]
        return self.collate_fn(items)


def _loads_batches(dataset: Any) -> bool:
    """Return whether a dataset loads whole batches.

    A subset always has the method, and passes it on to its dataset.
    """
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return callable(getattr(dataset, "__getitems__", None))
