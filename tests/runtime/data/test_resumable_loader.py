"""A run is saved at every place in a loader of every kind, and a new loader goes on from there to the same bits."""

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
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from fsmtrain import SeededDataLoader
from fsmtrain.errors import PositionError
from fsmtrain.runtime.data.loaders import EvaluationBatches, SizedBatches, StreamedBatches, resumable
from fsmtrain.runtime.generators import process_wide
from fsmtrain.runtime.rng import seed_all
from tests.runtime.data.loader_roundtrip import (
    ITEMS,
    Augmented,
    Eager,
    Endless,
    Items,
    Journey,
    Make,
    OwnPython,
    Pairs,
    Restless,
    Sequences,
    Streamed,
    assert_resumes_exactly,
    same,
    saved,
    torn,
    travel,
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
    "in order": lambda: Loader(Items()),
    "shuffled": lambda: Loader(Items(), shuffle=True),
    "shuffled, own generator": lambda: Loader(Items(), shuffle=True, generator=generator()),
    "augmented": lambda: Loader(Augmented(), shuffle=True),
    "augmented batches": lambda: Loader(Items(), collate_fn=torn),
    "single items": lambda: DataLoader(Augmented(), batch_size=None, shuffle=True),
    "replacement": lambda: Loader(Items(), sampler=RandomSampler(Items(), replacement=True, num_samples=70)),
    "replacement, own generator": lambda: Loader(
        Items(), sampler=RandomSampler(Items(), replacement=True, num_samples=70, generator=generator())
    ),
    "longer than the data": lambda: Loader(Items(), sampler=RandomSampler(Items(), num_samples=15, generator=generator())),
    "weighted": lambda: Loader(Items(), sampler=WeightedRandomSampler([1.0, 2.0, 3.0] * 3, 9)),
    "subset": lambda: Loader(Items(), sampler=SubsetRandomSampler(range(8)), drop_last=True),
    "one rank of two": lambda: Loader(Items(), sampler=DistributedSampler(Items(), 2, 1)),
    "sampler of one's own": lambda: Loader(Items(), sampler=Eager()),
    "sampler with generators that are not torch's": lambda: Loader(Items(), sampler=OwnPython()),
    "batch sampler of one's own": lambda: DataLoader(Augmented(), batch_sampler=Pairs()),
    "seeded": lambda: SeededDataLoader(Augmented(), 2, shuffle=True, seed=2),
    "torchdata's": lambda: Stateful(Items(), shuffle=True),
    "torchdata's, augmented": lambda: Stateful(Augmented(), shuffle=True),
    "torchdata's with torch's sampler": lambda: Stateful(Items(), sampler=RandomSampler(Items())),
    "torchdata's stream": lambda: Stateful(Streamed(Items())),
    "torchdata's augmented stream": lambda: Stateful(Streamed(Augmented())),
    "list": lambda: [torch.tensor([i]) for i in range(4)],
}
TOLD: dict[str, Make] = {
    "stream": lambda: Loader(Streamed(Items())),
    "iterable": Sequences,
    "iterator that goes on over epochs": Endless,
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torchdata 0.11 calls something that torch has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'set_vital'")
        yield


def told(run: Callable[[], object]) -> list[str]:
    """What warnings it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="'set_vital'")
        run()
    return sorted({str(warning.message) for warning in caught})


@pytest.mark.parametrize("share", [None, 3], ids=["whole epochs", "a part of each"])
@pytest.mark.parametrize("kind", list(SILENT))
def test_a_run_goes_on_to_the_same_bits_without_a_word(kind: str, share: int | None) -> None:
    if share is None or "stream" not in kind:
        assert told(lambda: assert_resumes_exactly(SILENT[kind], share)) == []


@pytest.mark.parametrize("kind", TOLD)
def test_a_loader_that_must_be_gone_through_again_says_what_that_costs(kind: str) -> None:
    messages = told(lambda: assert_resumes_exactly(TOLD[kind]))
    assert messages
    assert all("must be loaded again, which takes about" in message for message in messages)


# ---- workers


WORKERS: dict[str, tuple[Callable[..., Any], str]] = {
    "shuffled": (lambda **w: Loader(Items(), shuffle=True, generator=generator(), **w), ""),
    "tuples": (lambda **w: Loader(TensorDataset(torch.arange(9), torch.arange(9)), shuffle=True, **w), ""),
    "sampler of one's own": (lambda **w: Loader(Items(), sampler=Eager(), **w), ""),
    "seeded": (lambda **w: SeededDataLoader(Augmented(), 2, shuffle=True, seed=2, **w), ""),
    "torchdata's": (lambda **w: Stateful(Items(), shuffle=True, **w), ""),
    "torchdata's stream": (lambda **w: Stateful(Streamed(Items()), **w), ""),
    "augmented": (lambda **w: Loader(Augmented(), shuffle=True, **w), "its items draw random numbers in worker processes"),
    "sometimes augmented": (lambda **w: Loader(Augmented(every=5), **w), "its items draw random numbers in worker processes"),
    "augmented batches": (lambda **w: Loader(Items(), collate_fn=torn, **w), "its items draw random numbers in worker"),
    "augmented stream": (lambda **w: Loader(Streamed(Augmented()), **w), "must be loaded again"),
}


@pytest.mark.parametrize("kind", WORKERS)
def test_with_two_workers_a_run_goes_on_to_the_same_bits(kind: str) -> None:
    """Items that draw in the workers are found out as they draw, and then the workers load everything again."""
    make, message = WORKERS[kind]
    messages = told(lambda: assert_resumes_exactly(lambda: make(num_workers=2), every=3))
    assert any(message in m for m in messages) if message else messages == []


@pytest.mark.parametrize("kind", ["shuffled", "seeded", "torchdata's"])
def test_workers_that_live_on_between_epochs_are_no_obstacle(kind: str) -> None:
    make, _ = WORKERS[kind]
    messages = told(lambda: assert_resumes_exactly(lambda: make(num_workers=2, persistent_workers=True), every=3))
    assert messages == [] if kind != "shuffled" else "persistent_workers=True, and new workers do not know" in messages[0]


def test_another_number_of_workers_goes_on_in_the_same_order_and_says_what_that_rests_on() -> None:
    whole = travel(lambda: Loader(Items(), shuffle=True), saves=True)
    rests: list[Journey] = []
    messages = told(lambda: rests.append(travel(lambda: Loader(Items(), shuffle=True, num_workers=1), whole.saves[2])))
    assert "num_workers=1, but the position was saved with 0" in messages[0]
    assert same(rests[0].batches, whole.batches[2:])


# ---- skipping


def test_the_items_that_are_left_out_are_not_loaded() -> None:
    items: list[Items] = []

    def make() -> Any:
        items.append(Augmented())
        return Loader(items[-1], shuffle=True)

    whole = travel(make, saves=True)
    travel(make, whole.saves[4])
    assert items[-1].loaded == items[0].loaded[8:]


def test_a_loader_is_as_it_was_after_a_pass_was_begun_in_the_middle() -> None:
    whole = travel(lambda: Loader(Items(), num_workers=1), saves=True)
    loader: Any = Loader(Items(), num_workers=1)
    before = dict(vars(loader))
    travel(lambda: loader, whole.saves[2])
    assert {name: value for name, value in vars(loader).items() if before[name] is not value} == {}


@pytest.mark.parametrize("more", [{}, {"num_workers": 1, "persistent_workers": True}], ids=str)
def test_a_loader_that_has_been_used_is_brought_back_as_well(more: dict[str, Any]) -> None:
    loader = Loader(Items(), shuffle=True, **more)
    whole = travel(lambda: loader, saves=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rest = travel(lambda: loader, whole.saves[3])
    assert same((rest.batches, rest.end), (whole.batches[3:], whole.end))


def test_a_class_with_a_way_of_its_own_through_its_sampler_is_gone_through_again() -> None:
    class Own(DataLoader[Any]):
        def __iter__(self) -> Any:
            return iter(DataLoader(self.dataset, batch_size=self.batch_size, sampler=self.sampler))

    messages = told(lambda: assert_resumes_exactly(lambda: Own(Items(), batch_size=2, shuffle=True)))
    assert all("must be loaded again" in message for message in messages)
    assert messages


# ---- what cannot be exact


def test_a_sampler_that_shares_the_generator_of_the_training_is_told() -> None:
    whole = travel(lambda: Loader(Items(), sampler=Restless()), saves=True)
    messages = told(lambda: travel(lambda: Loader(Items(), sampler=Restless()), whole.saves[3]))
    assert "its sampler draws from a process-wide generator while the epoch goes on" in messages[0]


def test_a_stream_that_shares_the_generator_of_the_training_is_told() -> None:
    whole = travel(lambda: Loader(Streamed(Augmented())), saves=True)
    messages = told(lambda: travel(lambda: Loader(Streamed(Augmented())), whole.saves[3]))
    assert any("it draws from a process-wide generator while the epoch goes on" in message for message in messages)


def test_a_sampler_that_torchdata_begins_anew_is_told() -> None:
    whole = travel(lambda: Stateful(Items(), sampler=Eager()), saves=True)
    messages = told(lambda: travel(lambda: Stateful(Items(), sampler=Eager()), whole.saves[3]))
    assert "Eager has no state_dict and load_state_dict" in messages[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loader(Items(7)), "batches=4, but the position was saved with batches=6"),
        (lambda: Loader(Items(12)), "items=12, but the position was saved with items=11"),
        (lambda: DataLoader(Items(), batch_size=3), "batches=4, but"),
        (lambda: SeededDataLoader(Items(), 2), "by indices, and this SeededDataLoader by state"),
        (lambda: [1, 2], "by indices, and this list by replay"),
        (lambda: Loader(Items(), sampler=RandomSampler(Items(), generator=generator())), "a loader with 0 generators"),
    ],
)
def test_a_position_of_another_loader_is_refused(make: Make, message: str) -> None:
    whole = travel(lambda: Loader(Items()), saves=True)
    with pytest.raises(PositionError, match=message):
        travel(make, whole.saves[2])


def test_a_loader_that_ends_before_the_position_is_refused() -> None:
    class Shrunk(Eager):
        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

    for make, shorter in [
        (lambda: Loader(Items(), sampler=Eager()), lambda: Loader(Items(), sampler=Shrunk())),
        (lambda: Loader(Streamed(Items())), lambda: Loader(Streamed(Items(2)))),
    ]:
        whole = travel(make, saves=True)
        with pytest.raises(PositionError, match=r"the saved position is after 4 batches, but the \w+ ends after 1"):
            travel(shorter, whole.saves[4])


# ---- what is built on it


def test_the_position_of_a_stream_does_not_count_the_look_ahead() -> None:
    batches = StreamedBatches(Streamed(Items()), "train_dataloader")
    batches.next()
    assert batches.position()["given"] == batches.position()["taken"] == 1


def test_a_fresh_pass_draws_what_it_draws_in_a_for_statement() -> None:
    loader = Loader(Augmented(), shuffle=True)
    seed_all(1)
    expected = [*loader], process_wide()
    seed_all(1)
    batches = SizedBatches(loader, "train_dataloader", len(loader))
    taken = [batches.next() for _ in range(len(loader))]
    batches.finish()
    assert same((taken, process_wide()), expected)


def test_a_pass_over_several_loaders_goes_on_in_the_loader_and_at_the_batch_where_it_was() -> None:
    def begin() -> EvaluationBatches:
        loaders: list[Any] = [Loader(Items(), shuffle=True), Items(0), Loader(Streamed(Items(5))), SeededDataLoader(Items(), 4)]
        return EvaluationBatches([resumable(loader, "val") for loader in loaders], [3, 0, None, 2], "val_dataloader")

    torch.manual_seed(3)
    batches, given, positions = begin(), [], []
    positions.append((batches.position(), batches.ended))
    for item in batches:
        given.append(item)
        positions.append((batches.position(), batches.ended))
    assert [index for index, _, _ in given] == [0, 0, 0, 2, 2, 2, 3, 3]
    assert [batch_nb for _, batch_nb, _ in given] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [ended for _, ended in positions] == [False] * 8 + [True]
    for i, (position, _) in enumerate(positions):
        if i:  # before its first batch a pass is begun, not gone on with
            rest = begin()
            with warnings.catch_warnings(record=True):
                rest.load_state_dict(position)
            assert same([*rest], given[i:])


def test_a_pass_over_loaders_whose_last_pass_was_left_begins_anew() -> None:
    cursors = [resumable(Loader(Items()), "val")]
    next(EvaluationBatches(cursors, [2], "val_dataloader"))
    assert same([*EvaluationBatches(cursors, [2], "val_dataloader")], [*EvaluationBatches([Loader(Items())], [2], "val")])


SCRIPT = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
from tests.runtime.data.loader_roundtrip import travel, saved
from tests.runtime.data.test_resumable_loader import SILENT
kind, path = sys.argv[1:]
rest = travel(SILENT[kind], open(path, "rb").read())
open(path, "wb").write(saved((rest.batches, rest.end)))
"""


@pytest.mark.parametrize("kind", ["augmented", "seeded", "torchdata's"])
def test_a_new_process_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, path = travel(SILENT[kind], saves=True), tmp_path / "position"
    path.write_bytes(whole.saves[4])
    subprocess.run([sys.executable, "-c", SCRIPT, kind, str(path)], check=True, cwd=Path(__file__).parents[3])
    assert path.read_bytes() == saved((whole.batches[4:], whole.end))


def test_the_journeys_see_what_they_are_to_see() -> None:
    """Most of the kinds above would pass if every batch were the same and nothing were drawn."""
    whole = travel(SILENT["augmented"], saves=True)
    assert len({float(value) for batch in whole.batches for value in batch[:, 1:].flatten()}) == 2 * ITEMS * 3
    assert not same(whole.batches[:6], whole.batches[6:])
    assert len(whole.saves) == 1 + 2 * 6 + 2
