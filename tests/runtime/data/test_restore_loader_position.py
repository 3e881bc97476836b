"""A loader of every kind is saved at every place, and a new loader continues from there to the same bits."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from fsmtrain import SeededDataLoader
from fsmtrain.errors import PositionError
from fsmtrain.runtime.data.loaders import EvaluationBatches, SizedBatches, StreamedBatches, make_all_resumable, make_resumable
from fsmtrain.runtime.data.restore_loader_position import STRATEGIES, ResumableLoader
from fsmtrain.runtime.rng import get_global_states, seed_all, to_plain
from tests.runtime.data.loader_roundtrip import (
    ITEMS,
    DrawingSampler,
    EagerSampler,
    EndlessIterator,
    ItemStream,
    LoaderRun,
    Make,
    OwnGeneratorsSampler,
    PairBatchSampler,
    RandomItems,
    RecordedItems,
    ShuffledIterable,
    assert_resumes_exactly,
    collate_with_draws,
    run_loader,
    same_bytes,
    serialized,
    unserialized,
)

Loader = functools.partial(DataLoader[Any], batch_size=2)


def Stateful(dataset: Any, **more: Any) -> Any:
    """A loader of torchdata's; without torchdata, the test is skipped."""
    loader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    return loader(dataset, batch_size=2, **more)


def generator() -> torch.Generator:
    """A generator of a loader's own."""
    return torch.Generator().manual_seed(5)


SILENT: dict[str, Make] = {
    "in order": lambda: Loader(RecordedItems()),
    "shuffled": lambda: Loader(RecordedItems(), shuffle=True),
    "shuffled, own generator": lambda: Loader(RecordedItems(), shuffle=True, generator=generator()),
    "augmented": lambda: Loader(RandomItems(), shuffle=True),
    "augmented batches": lambda: Loader(RecordedItems(), collate_fn=collate_with_draws),
    "single items": lambda: DataLoader(RandomItems(), batch_size=None, shuffle=True),
    "replacement": lambda: Loader(RecordedItems(), sampler=RandomSampler(RecordedItems(), replacement=True, num_samples=70)),
    "replacement, own generator": lambda: Loader(
        RecordedItems(), sampler=RandomSampler(RecordedItems(), replacement=True, num_samples=70, generator=generator())
    ),
    "longer than the data": lambda: Loader(
        RecordedItems(), sampler=RandomSampler(RecordedItems(), num_samples=15, generator=generator())
    ),
    "weighted": lambda: Loader(RecordedItems(), sampler=WeightedRandomSampler([1.0, 2.0, 3.0] * 3, 9)),
    "subset": lambda: Loader(RecordedItems(), sampler=SubsetRandomSampler(range(8)), drop_last=True),
    "one rank of two": lambda: Loader(RecordedItems(), sampler=DistributedSampler(RecordedItems(), 2, 1)),
    "sampler of one's own": lambda: Loader(RecordedItems(), sampler=EagerSampler()),
    "sampler with generators that are not torch's": lambda: Loader(RecordedItems(), sampler=OwnGeneratorsSampler()),
    "batch sampler of one's own": lambda: DataLoader(RandomItems(), batch_sampler=PairBatchSampler()),
    "seeded": lambda: SeededDataLoader(RandomItems(), 2, shuffle=True, seed=2),
    "torchdata's": lambda: Stateful(RecordedItems(), shuffle=True),
    "torchdata's, augmented": lambda: Stateful(RandomItems(), shuffle=True),
    "torchdata's with torch's sampler": lambda: Stateful(RecordedItems(), sampler=RandomSampler(RecordedItems())),
    "torchdata's stream": lambda: Stateful(ItemStream(RecordedItems())),
    "torchdata's augmented stream": lambda: Stateful(ItemStream(RandomItems())),
    "list": lambda: [torch.tensor([i]) for i in range(4)],
}
REPLAYED: dict[str, Make] = {
    "stream": lambda: Loader(ItemStream(RecordedItems())),
    "iterable": ShuffledIterable,
    "iterator that goes on over epochs": EndlessIterator,
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torchdata 0.11 calls something that torch has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'set_vital'")
        yield


def warnings_of(run: Callable[[], object]) -> list[str]:
    """Return the messages of the warnings that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="'set_vital'")
        run()
    return sorted({str(warning.message) for warning in caught})


@pytest.mark.parametrize("share", [None, 3], ids=["whole epochs", "a part of each"])
@pytest.mark.parametrize("kind", list(SILENT))
def test_a_loader_resumes_to_the_same_bits_without_a_warning(kind: str, share: int | None) -> None:
    if share is None or "stream" not in kind:
        assert warnings_of(lambda: assert_resumes_exactly(SILENT[kind], share)) == []


@pytest.mark.parametrize("kind", REPLAYED)
def test_a_loader_that_must_be_replayed_warns_of_the_cost(kind: str) -> None:
    messages = warnings_of(lambda: assert_resumes_exactly(REPLAYED[kind]))
    assert messages
    assert all("must be loaded again, which takes" in message for message in messages)


# ---- workers


WORKERS: dict[str, tuple[Callable[..., Any], str]] = {
    "shuffled": (lambda **w: Loader(RecordedItems(), shuffle=True, generator=generator(), **w), ""),
    "tuples": (lambda **w: Loader(TensorDataset(torch.arange(9), torch.arange(9)), shuffle=True, **w), ""),
    "sampler of one's own": (lambda **w: Loader(RecordedItems(), sampler=EagerSampler(), **w), ""),
    "seeded": (lambda **w: SeededDataLoader(RandomItems(), 2, shuffle=True, seed=2, **w), ""),
    "torchdata's": (lambda **w: Stateful(RecordedItems(), shuffle=True, **w), ""),
    "torchdata's stream": (lambda **w: Stateful(ItemStream(RecordedItems()), **w), ""),
    "augmented": (lambda **w: Loader(RandomItems(), shuffle=True, **w), "its items draw random numbers in worker processes"),
    "sometimes augmented": (lambda **w: Loader(RandomItems(every=5), **w), "its items draw random numbers in worker processes"),
    "augmented batches": (
        lambda **w: Loader(RecordedItems(), collate_fn=collate_with_draws, **w),
        "its items draw random numbers in worker",
    ),
    "augmented stream": (lambda **w: Loader(ItemStream(RandomItems()), **w), "must be loaded again"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORKERS)
def test_a_loader_with_two_workers_resumes_to_the_same_bits(kind: str) -> None:
    """Items that draw in the workers are found out as they draw, and then the workers load everything again."""
    make, message = WORKERS[kind]
    messages = warnings_of(lambda: assert_resumes_exactly(lambda: make(num_workers=2), every=3))
    assert any(message in m for m in messages) if message else messages == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shuffled", "seeded", "torchdata's"])
def test_a_loader_with_persistent_workers_resumes_to_the_same_bits(kind: str) -> None:
    make, _ = WORKERS[kind]
    messages = warnings_of(lambda: assert_resumes_exactly(lambda: make(num_workers=2, persistent_workers=True), every=3))
    assert messages == [] if kind != "shuffled" else "persistent_workers=True, and new workers do not have" in messages[0]


def test_another_number_of_workers_keeps_the_order_and_warns_on_what_condition() -> None:
    whole = run_loader(lambda: Loader(RecordedItems(), shuffle=True), saves=True)
    rests: list[LoaderRun] = []
    messages = warnings_of(
        lambda: rests.append(run_loader(lambda: Loader(RecordedItems(), shuffle=True, num_workers=1), whole.saves[2]))
    )
    assert "num_workers=1, checkpoint has 0" in messages[0]
    assert same_bytes(rests[0].batches, whole.batches[2:])


# ---- skipping


def test_skipped_items_are_not_loaded() -> None:
    items: list[RecordedItems] = []

    def make() -> Any:
        items.append(RandomItems())
        return Loader(items[-1], shuffle=True)

    whole = run_loader(make, saves=True)
    run_loader(make, whole.saves[4])
    assert items[-1].loaded == items[0].loaded[8:]


def test_a_loader_has_its_own_attributes_after_a_pass_began_in_the_middle() -> None:
    whole = run_loader(lambda: Loader(RecordedItems(), num_workers=1), saves=True)
    loader: Any = Loader(RecordedItems(), num_workers=1)
    before = dict(vars(loader))
    run_loader(lambda: loader, whole.saves[2])
    assert {name: value for name, value in vars(loader).items() if before[name] is not value} == {}


@pytest.mark.parametrize("more", [{}, {"num_workers": 1, "persistent_workers": True}], ids=str)
def test_a_used_loader_can_be_resumed(more: dict[str, Any]) -> None:
    loader = Loader(RecordedItems(), shuffle=True, **more)
    whole = run_loader(lambda: loader, saves=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rest = run_loader(lambda: loader, whole.saves[3])
    assert same_bytes((rest.batches, rest.end), (whole.batches[3:], whole.end))


def test_a_subclass_that_does_not_use_its_sampler_is_replayed() -> None:
    class Own(DataLoader[Any]):
        def __iter__(self) -> Any:
            return iter(DataLoader(self.dataset, batch_size=self.batch_size, sampler=self.sampler))

    messages = warnings_of(lambda: assert_resumes_exactly(lambda: Own(RecordedItems(), batch_size=2, shuffle=True)))
    assert all("must be loaded again" in message for message in messages)
    assert messages


# ---- what cannot be exact


def test_a_warning_for_a_sampler_that_shares_the_generator_of_the_training() -> None:
    whole = run_loader(lambda: Loader(RecordedItems(), sampler=DrawingSampler()), saves=True)
    messages = warnings_of(lambda: run_loader(lambda: Loader(RecordedItems(), sampler=DrawingSampler()), whole.saves[3]))
    assert "its sampler draws from a global random generator during the epoch" in messages[0]


def test_a_warning_for_a_stream_that_shares_the_generator_of_the_training() -> None:
    whole = run_loader(lambda: Loader(ItemStream(RandomItems())), saves=True)
    messages = warnings_of(lambda: run_loader(lambda: Loader(ItemStream(RandomItems())), whole.saves[3]))
    assert any("the loader draws from a global random generator during the epoch" in message for message in messages)


def test_a_warning_for_a_sampler_that_torchdata_restarts() -> None:
    whole = run_loader(lambda: Stateful(RecordedItems(), sampler=EagerSampler()), saves=True)
    messages = warnings_of(lambda: run_loader(lambda: Stateful(RecordedItems(), sampler=EagerSampler()), whole.saves[3]))
    assert "EagerSampler has no state_dict and load_state_dict" in messages[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loader(RecordedItems(7)), "batches=4, checkpoint has 6"),
        (lambda: Loader(RecordedItems(12)), "items=12, checkpoint has 11"),
        (lambda: DataLoader(RecordedItems(), batch_size=3), "batches=4, checkpoint"),
        (
            lambda: SeededDataLoader(RecordedItems(), 2),
            "it is that of a torch DataLoader, and this is a loader with state_dict and load_state_dict .SeededDataLoader.",
        ),
        (lambda: [1, 2], "it is that of a torch DataLoader, and this is an iterable other than torch's DataLoader .list."),
        (
            lambda: Loader(RecordedItems(), sampler=RandomSampler(RecordedItems(), generator=generator())),
            "the loader has 1 generator",
        ),
    ],
)
def test_a_position_of_another_loader_is_an_error(make: Make, message: str) -> None:
    whole = run_loader(lambda: Loader(RecordedItems()), saves=True)
    with pytest.raises(PositionError, match=message):
        run_loader(make, whole.saves[2])


def test_a_loader_that_ends_before_the_position_is_an_error() -> None:
    class Shrunk(EagerSampler):
        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

    for make, shorter in [
        (lambda: Loader(RecordedItems(), sampler=EagerSampler()), lambda: Loader(RecordedItems(), sampler=Shrunk())),
        (lambda: Loader(ItemStream(RecordedItems())), lambda: Loader(ItemStream(RecordedItems(2)))),
    ]:
        whole = run_loader(make, saves=True)
        with pytest.raises(PositionError, match=r"the saved position is after 4 batches, but the \w+ ends after 1"):
            run_loader(shorter, whole.saves[4])


# ---- what is built on it


def test_the_position_of_a_stream_does_not_count_the_look_ahead() -> None:
    loader = make_resumable(ItemStream(RecordedItems()), "train_dataloader")
    StreamedBatches(loader).next()
    assert loader.state_dict()["yielded"] == loader.state_dict()["fetched"] == 1


def test_a_new_pass_draws_what_a_for_loop_draws() -> None:
    loader = Loader(RandomItems(), shuffle=True)
    seed_all(1)
    expected = [*loader], to_plain(get_global_states())
    seed_all(1)
    batches = SizedBatches(make_resumable(loader, "train_dataloader"))
    taken = [batches.next() for _ in range(len(loader))]
    batches.finish()
    assert same_bytes((taken, to_plain(get_global_states())), expected)


def test_a_pass_over_several_loaders_resumes_in_its_loader_at_its_batch() -> None:
    def new_loaders() -> list[ResumableLoader]:
        loaders: list[Any] = [
            Loader(RecordedItems(), shuffle=True),
            RecordedItems(0),
            Loader(ItemStream(RecordedItems(5))),
            SeededDataLoader(RecordedItems(), 4),
        ]
        return make_all_resumable(loaders, "val_dataloader")

    torch.manual_seed(3)
    limits, loaders, given = [3, 0, None, 2], new_loaders(), []
    batches = EvaluationBatches(loaders, limits)
    positions = [(batches.place, loaders[0].state_dict(), batches.has_ended)]
    for item in batches:
        given.append(item)
        positions.append((batches.place, loaders[batches.place[0]].state_dict(), batches.has_ended))
    assert [index for index, _, _ in given] == [0, 0, 0, 2, 2, 2, 3, 3]
    assert [batch_nb for _, batch_nb, _ in given] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [ended for _, _, ended in positions] == [False] * 8 + [True]
    for i, (place, position, _) in enumerate(positions):
        if i:  # before its first batch a pass is begun, not gone on with
            loaders = new_loaders()
            with warnings.catch_warnings(record=True):
                loaders[place[0]].load_state_dict(position)
            assert same_bytes([*EvaluationBatches(loaders, limits, 0, place)], given[i:])


def test_a_pass_after_an_unfinished_one_begins_at_the_first_batch() -> None:
    cursors = [make_resumable(Loader(RecordedItems()), "val")]
    next(EvaluationBatches(cursors, [2]))
    others = [make_resumable(Loader(RecordedItems()), "val")]
    assert same_bytes([*EvaluationBatches(cursors, [2])], [*EvaluationBatches(others, [2])])


SCRIPT = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
from tests.runtime.data.loader_roundtrip import run_loader, serialized
from tests.runtime.data.test_restore_loader_position import SILENT
kind, path = sys.argv[1:]
rest = run_loader(SILENT[kind], open(path, "rb").read())
open(path, "wb").write(serialized((rest.batches, rest.end)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["augmented", "seeded", "torchdata's"])
def test_a_new_process_resumes_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, path = run_loader(SILENT[kind], saves=True), tmp_path / "position"
    path.write_bytes(whole.saves[4])
    subprocess.run([sys.executable, "-c", SCRIPT, kind, str(path)], check=True, cwd=Path(__file__).parents[3])
    assert path.read_bytes() == serialized((whole.batches[4:], whole.end))


def test_the_batches_of_these_runs_differ() -> None:
    """Most of the kinds above would pass if every batch were the same and nothing were drawn."""
    whole = run_loader(SILENT["augmented"], saves=True)
    assert len({float(value) for batch in whole.batches for value in batch[:, 1:].flatten()}) == 2 * ITEMS * 3
    assert not same_bytes(whole.batches[:6], whole.batches[6:])
    assert len(whole.saves) == 1 + 2 * 6 + 2


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", [*SILENT, *REPLAYED])
def test_a_position_between_two_epochs_can_be_loaded_and_saved_again(kind: str, times: int) -> None:
    make = {**SILENT, **REPLAYED}[kind]
    whole = run_loader(make, saves=True)
    index = next(i for i, save in enumerate(whole.saves) if i and not unserialized(save)["cursor"]["is_under_way"])
    save = unserialized(whole.saves[index])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(times):
            loader = make_resumable(make(), "train_dataloader")
            loader.load_state_dict(save["cursor"])
            save = {**save, "cursor": loader.state_dict()}
        rest = run_loader(make, serialized(save))
    assert same_bytes((rest.batches, rest.end), (whole.batches[index - 1 :], whole.end))


def test_each_way_to_resume_has_its_own_name_and_the_last_one_supports_any_loader() -> None:
    kinds = [strategy.kind for strategy in STRATEGIES]
    assert len(set(kinds)) == len(kinds)
    assert STRATEGIES[-1].supports(object())
