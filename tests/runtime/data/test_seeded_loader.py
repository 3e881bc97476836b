"""`SeededDataLoader`: order and augmentation follow from (seed, epoch, index), and from nothing else."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

from fsmtrain import SeededDataLoader
from fsmtrain.errors import DataError, OptionsError, PositionError
from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.data.permutation import Permutation, hash_words
from fsmtrain.runtime.rng import get_global_states, seed_all, to_plain
from tests.models import Perceptron, Samples, trained
from tests.runtime.data.loader_roundtrip import (
    ITEMS,
    ItemStream,
    RandomItems,
    RecordedItems,
    collate_with_draws,
    random_draws,
    same_bytes,
)

words = st.integers(0, 2**64 - 1)


def loader(dataset: Any = None, **more: Any) -> SeededDataLoader:
    """Random items, three in a batch."""
    given: dict[str, Any] = {"batch_size": 3, "shuffle": True, "seed": 4, **more}
    return SeededDataLoader(RandomItems() if dataset is None else dataset, **given)


# ---- the order


@given(n=st.integers(0, 5000), key=words)
@example(n=1, key=0)
@example(n=2, key=0)
def test_a_permutation_has_each_number_exactly_once(n: int, key: int) -> None:
    assert sorted(Permutation(n, key).between(0, n)) == list(range(n))


@given(n=st.integers(1, 300), key=words, data=st.data())
def test_a_part_of_a_permutation_equals_that_part_of_the_whole(n: int, key: int, data: Any) -> None:
    start, stop = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    assert Permutation(n, key).between(start, stop) == Permutation(n, key).between(0, n)[start:stop]


@given(seed=words, epoch=st.integers(0, 1000))
def test_epochs_and_seeds_have_different_orders(seed: int, epoch: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        made = SeededDataLoader(range(40), shuffle=True, seed=seed)
        made.set_epoch(epoch)
        return list(made.sampler)

    assert order(seed, epoch) == order(seed, epoch)
    assert order(seed, epoch) != order(seed, epoch + 1)
    assert order(seed, epoch) != order((seed + 1) % 2**64, epoch)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 5])
def test_no_order_of_a_few_items_is_more_likely_than_another(n: int) -> None:
    """Chi-squared over all orders: 3 standard deviations above its mean would come up once in a few hundred sets of keys."""
    keys = 4000
    counts = Counter(tuple(Permutation(n, hash_words(1, i)).between(0, n)) for i in range(keys))
    orders = [1, 1, 2, 6, 24, 120][n]
    chance = keys / orders
    chi = sum((counts[order] - chance) ** 2 / chance for order in counts) + (orders - len(counts)) * chance
    assert chi < orders - 1 + 3 * (2 * (orders - 1)) ** 0.5


def test_neighbours_in_a_permutation_are_independent() -> None:
    n = 100_000
    order = Permutation(n, 5).between(0, n)
    steps = np.array([(after - before) % n for before, after in pairwise(order)])
    tenths = np.bincount(steps * 10 // n, minlength=10) / n
    assert np.abs(tenths - 0.1).max() < 0.004
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(order, range(n))[0, 1]) < 0.01


def test_the_order_of_a_seed_never_changes() -> None:
    """A run that was saved with one version is gone on with by the next."""
    made = SeededDataLoader(range(10), batch_size=10, shuffle=True, seed=3)
    assert [batch.tolist() for batch in made] == [[6, 2, 8, 7, 4, 1, 5, 9, 3, 0]]
    assert next(iter(loader()))[0].tolist() == [1.0, 0.8350318670272827, 0.7478200987552942, 0.8708169051234337]


# ---- what is drawn


KINDS: list[dict[str, Any]] = [
    {"num_workers": 1},
    {"num_workers": 2},
    {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 1},
    {"num_workers": 1, "multiprocessing_context": "spawn"},
    {"num_workers": 2, "multiprocessing_context": "forkserver"},
]


@pytest.mark.slow
@pytest.mark.parametrize("more", KINDS, ids=str)
def test_the_batches_do_not_depend_on_the_process_that_loads_them(more: dict[str, Any]) -> None:
    """Collated by a function that draws as well."""
    collate_fn = (
        None if "multiprocessing_context" in more else collate_with_draws
    )  # the tests' own modules are slow to import again
    alone, shared = loader(collate_fn=collate_fn), loader(collate_fn=collate_fn, **more)
    for _ in range(2):
        assert same_bytes([*alone], [*shared])


def test_an_item_draws_the_same_numbers_at_any_position_of_the_epoch() -> None:
    def items(**more: Any) -> list[Any]:
        return sorted(torch.cat([*loader(**more)]).tolist())

    assert items() == items(shuffle=False) == items(batch_size=4) == items(batch_size=1)
    single = torch.stack([*loader(batch_size=None)]).tolist()
    assert sorted(single) == items()


def test_items_epochs_and_seeds_draw_different_numbers() -> None:
    made, other = loader(), loader(seed=5)
    drawn = [float(x) for batches in (made, made, other) for batch in batches for x in batch[:, 1:].flatten()]
    assert len(set(drawn)) == 3 * ITEMS * 3


@pytest.mark.parametrize("more", [{}, {"num_workers": 1}])
def test_the_global_generators_are_not_changed(more: dict[str, Any]) -> None:
    random_draws()
    np.random.randn()  # leaves half of a pair behind, which is a part of the state
    random.gauss(0, 1)
    before = to_plain(get_global_states())
    for i, _ in enumerate(loader(**more)):
        assert same_bytes(to_plain(get_global_states()), before)
        if i == 2:
            break
    assert same_bytes(to_plain(get_global_states()), before)


def test_the_global_generators_are_restored_after_an_item_that_fails() -> None:
    class Failing(RandomItems):
        def __getitem__(self, index: int) -> Any:
            random_draws()
            raise KeyError(index)

    before = to_plain(get_global_states())
    with pytest.raises(KeyError):
        next(iter(loader(Failing())))
    assert same_bytes(to_plain(get_global_states()), before)


class Batched(RandomItems):
    """A dataset that loads a batch at once."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        offset = random_draws()
        return [torch.tensor([index, *offset]) for index in indices]


def test_a_dataset_with_getitems_loads_whole_batches() -> None:
    batches = [*loader(Batched())]
    assert all(len({tuple(item[1:].tolist()) for item in batch}) == 1 for batch in batches)
    assert len({tuple(batch[0, 1:].tolist()) for batch in batches}) == len(batches)
    assert same_bytes(batches, [*loader(Batched(), num_workers=1)])


def test_a_subset_loads_whole_batches_only_if_its_dataset_does() -> None:
    assert same_bytes([*loader(Subset(RandomItems(), range(ITEMS)))], [*loader()])
    assert same_bytes([*loader(Subset(Subset(Batched(), range(ITEMS)), range(ITEMS)))], [*loader(Batched())])


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"num_workers": 1}])
@pytest.mark.parametrize("left_out", ["torch", "numpy", "python"])
def test_a_draw_from_a_generator_that_is_not_seeded_is_an_error(left_out: str, more: dict[str, Any]) -> None:
    named = [name for name in ("torch", "numpy", "python") if name != left_out]
    with pytest.raises(DataError, match=f"RandomItems drew from the generator '{left_out}'"):
        next(iter(loader(draws_from=named, **more)))
    assert same_bytes([*loader(RecordedItems(), draws_from=())], [*loader(RecordedItems())])


# ---- positions


def test_resuming_far_inside_an_epoch_loads_nothing_before_it() -> None:
    items = RecordedItems(10**9)
    made = loader(items, batch_size=32)
    made.load_state_dict({**made.state_dict(), "epoch": 7, "batch": 10_000_000})
    next(iter(made))
    assert len(items.loaded) == 32


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_any_batch_of_any_epoch_can_be_the_next(batch_size: int | None, drop_last: bool) -> None:
    more = {"batch_size": batch_size, "drop_last": drop_last and batch_size is not None}
    made = loader(**more)
    whole: list[Any] = []
    states = [made.state_dict()]
    for _ in range(2):
        for batch in made:
            whole.append(batch)
            states.append(made.state_dict())
    assert len(whole) == 2 * len(made)
    for i, state in enumerate(states):
        other = loader(**more)
        other.load_state_dict(state)
        assert other.state_dict() == state
        rest = [*other] + ([*other] if state["epoch"] == 0 else [])
        assert same_bytes(rest, whole[i:])


def test_each_pass_is_the_next_epoch_also_after_an_unfinished_one() -> None:
    made = loader()
    first = [*made]
    next(iter(made))
    assert [made.state_dict()[key] for key in ("epoch", "batch")] == [1, 1]
    iter(made)
    assert made.state_dict()["epoch"] == 2
    made.set_epoch(0)
    assert made.state_dict()["epoch"] == 0
    assert same_bytes([*made], first)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seed": 5}, "seed=5, checkpoint has 4"),
        ({"dataset": RandomItems(12)}, "length=12, checkpoint has 11"),
        ({"batch_size": 2}, "batch_size=2, checkpoint has 3"),
        ({"shuffle": False}, "shuffle=False, checkpoint"),
        ({"drop_last": True}, "drop_last=True, checkpoint"),
    ],
)
def test_the_error_for_a_position_of_another_loader_has_both_values(more: dict[str, Any], message: str) -> None:
    with pytest.raises(PositionError, match=message):
        loader(**more).load_state_dict(loader().state_dict())


def test_a_position_beyond_the_epoch_is_an_error() -> None:
    with pytest.raises(PositionError, match="the saved position is batch 5, an epoch has 4"):
        loader().load_state_dict({**loader().state_dict(), "batch": 5})


# ---- a loader like any other


def test_a_seeded_data_loader_is_a_data_loader() -> None:
    items = RandomItems()
    made = loader(items, drop_last=True)
    assert isinstance(made, DataLoader)
    assert (made.dataset, made.batch_size, made.drop_last, len(made)) == (items, 3, True, 3)
    assert len([*made]) == 3
    assert (made.seed, made.shuffle) == (4, True)


def test_training_is_the_same_with_and_without_workers_also_if_the_model_draws() -> None:
    models = Perceptron(), Perceptron()
    models[1].load_state_dict(models[0].state_dict())
    for model, workers in zip(models, (0, 2), strict=True):
        seed_all(1)
        data = SeededDataLoader(Samples(8), 2, shuffle=True, num_workers=workers)
        trained(model, data, SeededDataLoader(Samples(4), 2), max_nb_epochs=2)
    first, second = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(first, second)


def test_the_sanity_pass_uses_up_no_epoch() -> None:
    made = loader()
    before = get_loader_rng_state(made)
    next(iter(made))
    set_loader_rng_state(made, before, "made")
    assert same_bytes([*made], [*loader()])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": ItemStream(RecordedItems())}, "needs a map-style dataset"),
        ({"dataset": iter([1])}, "needs a map-style dataset"),
        ({"seed": -1}, "seed=-1: it must be an int from 0"),
        ({"seed": 2**64}, "it must be an int from 0"),
        ({"seed": True}, "seed=True"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"draws_from": ["cuda"]}, r"draws_from=\['cuda'\]: it must be a list of some of 'torch', 'numpy', 'python'"),
        ({"draws_from": "torch"}, "draws_from='torch'"),
    ],
)
def test_bad_arguments_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        loader(**more)


def test_arguments_that_a_data_loader_rejects_are_rejected() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        loader(batch_size=0)
    with pytest.raises(TypeError, match="sampler"):
        loader(sampler=range(3))
