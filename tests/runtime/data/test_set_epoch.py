"""`set_epoch` is called before each pass: on which objects, how often, and with which epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, IterableDataset, Sampler, Subset
from torch.utils.data.distributed import DistributedSampler

from fsmtrain import ModelCheckpoint, SeededDataLoader
from fsmtrain.runtime.data.set_epoch import EpochSetter
from tests.models import Linear, Samples, Validated, batches, machine_of, trained

Calls = list[Any]


class Noting:
    """Writes its calls of ``set_epoch`` into a list that others share."""

    def __init__(self, calls: Calls, name: str) -> None:
        self.calls, self.name, self.epoch = calls, name, -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.calls.append((self.name, epoch))


class NotingSampler(Noting, Sampler[int]):
    """The indices in order; notes each pass."""

    def __init__(self, calls: Calls, n: int, name: str = "sampler") -> None:
        super().__init__(calls, name)
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        self.calls.append((f"iter {self.name}", self.epoch))
        return iter(range(self.n))


class NotingBatchSampler(Noting, BatchSampler):
    """Batches of a sampler."""

    def __init__(self, calls: Calls, sampler: Sampler[int], size: int) -> None:
        Noting.__init__(self, calls, "batch_sampler")
        BatchSampler.__init__(self, sampler, size, drop_last=False)


class NotingSamples(Noting, Samples):
    """Samples that depend on the epoch."""

    def __init__(self, calls: Calls, n: int) -> None:
        Noting.__init__(self, calls, "dataset")
        Samples.__init__(self, n)


class NotingLoader(Noting, DataLoader[Any]):
    """A loader that wants to know the epoch."""

    def __init__(self, calls: Calls, *args: Any, **kwargs: Any) -> None:
        Noting.__init__(self, calls, "loader")
        DataLoader.__init__(self, *args, **kwargs)


PARTS = ("loader", "sampler", "batch_sampler", "dataset")


def loader_with(calls: Calls, parts: set[str], n: int = 4, name: str = "sampler") -> DataLoader[Any]:
    """Return a loader of `n` samples whose named parts note their epochs."""
    dataset = NotingSamples(calls, n) if "dataset" in parts else Samples(n)
    sampler: Any = NotingSampler(calls, n, name) if "sampler" in parts else torch.utils.data.SequentialSampler(dataset)
    make: Any = (lambda *args, **kwargs: NotingLoader(calls, *args, **kwargs)) if "loader" in parts else DataLoader
    if "batch_sampler" in parts:
        return make(dataset, batch_sampler=NotingBatchSampler(calls, sampler, 2))  # type: ignore[no-any-return]
    return make(dataset, batch_size=2, sampler=sampler)  # type: ignore[no-any-return]


@given(st.sets(st.sampled_from(PARTS)), st.integers(0, 5))
def test_each_part_is_called_once_before_a_pass(parts: set[str], epoch: int) -> None:
    calls: Calls = []
    EpochSetter(loader_with(calls, parts), "train_dataloader").set_epoch(epoch)
    assert sorted(calls) == sorted((part, epoch) for part in parts)


def test_an_object_that_is_reached_twice_is_called_once() -> None:
    calls: Calls = []
    samples = NotingSamples(calls, 4)
    loader: Any = DataLoader(ConcatDataset([samples, Subset(samples, [0, 1]), Samples(2)]), batch_size=2)
    loader.set_epoch = samples.set_epoch
    EpochSetter(loader, "train_dataloader").set_epoch(3)
    assert calls == [("dataset", 3)] * 2  # once as the loader's own method, once as the dataset


def test_train_val_and_test_get_the_epoch_and_the_sanity_pass_epoch_0() -> None:
    calls: Calls = []
    train, val, test = (loader_with(calls, {"sampler"}, 4, name) for name in ("train", "val", "test"))
    trained(Validated(), train, val, test, max_nb_epochs=3, val_check_interval=0.5, nb_sanity_val_steps=1)
    assert [epoch for name, epoch in calls if name == "train"] == [0, 1, 2]
    assert [epoch for name, epoch in calls if name == "val"] == [0, 0, 0, 1, 1, 2, 2]
    assert [epoch for name, epoch in calls if name == "test"] == [2]
    for name in ("train", "val", "test"):  # before each pass, and the pass has it
        own = [call for call in calls if call[0].endswith(name)]
        assert own == [call for epoch in (e for n, e in own if n == name) for call in ((name, epoch), (f"iter {name}", epoch))]


def test_several_val_loaders_are_told_each_at_its_beginning() -> None:
    calls: Calls = []
    loaders = [loader_with(calls, {"sampler"}, 2, name) for name in ("a", "b")]
    trained(Validated(), batches(2), loaders, max_nb_epochs=1, nb_sanity_val_steps=0)
    assert calls == [("a", 0), ("iter a", 0), ("b", 0), ("iter b", 0)]


class EpochStream(Noting, IterableDataset[Any]):
    """A stream that notes."""

    def __iter__(self) -> Iterator[Any]:
        return iter([Samples(2)[0]] * 2)


def test_the_dataset_of_a_stream_is_told() -> None:
    calls: Calls = []
    trained(Linear(), DataLoader(EpochStream(calls, "stream"), batch_size=1), max_nb_epochs=3)
    assert calls == [("stream", 0), ("stream", 1), ("stream", 2)]


class Plain:
    """A loader that is no DataLoader."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        return iter(batches(4))


def test_a_loader_of_one_s_own_is_told() -> None:
    loader = Plain()
    trained(Linear(), loader, max_nb_epochs=2)
    assert loader.epochs == [0, 1]


def test_a_distributed_sampler_shuffles_differently_in_each_epoch() -> None:
    orders: list[list[float]] = [[], [], []]

    class Order(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            orders[machine.current_epoch].append(batch[0].item())
            return super().training_step(batch, batch_nb)

        def loss(self, batch: Any) -> Any:
            return self.layer(torch.ones(3)).mean()

    data: Any = [(float(i), 0.0) for i in range(16)]
    sampler: DistributedSampler[Any] = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True)
    machine = machine_of(Order(), DataLoader(data, sampler=sampler), max_nb_epochs=3)
    machine.run()
    assert len({tuple(order) for order in orders}) == 3
    for epoch, order in enumerate(orders):
        sampler.set_epoch(epoch)
        assert order == list(sampler)


def test_a_seeded_loader_begins_each_run_with_epoch_0() -> None:
    loader = SeededDataLoader(range(8), batch_size=None, shuffle=True, seed=3)
    expected = [list(loader), list(loader)]
    seen: list[int] = []

    class Order(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            seen.append(int(batch))
            return self.layer(torch.ones(3)).mean()

    trained(Order(), loader, max_nb_epochs=2)
    assert seen == expected[0] + expected[1]


# ---- resuming


@pytest.mark.parametrize("parts", [{"sampler"}, {"dataset"}, {"loader"}, {"batch_sampler", "sampler"}, set(PARTS)])
@pytest.mark.parametrize("stop_after", range(1, 7))
def test_a_resumed_run_sets_the_epoch_before_its_position_only(parts: set[str], stop_after: int, tmp_path: Any) -> None:
    def machine(calls: Calls) -> Any:
        train, val = loader_with(calls, parts), loader_with(calls, parts, name="val")
        options: dict[str, Any] = {"max_nb_epochs": 3, "val_check_interval": 1.0}
        return machine_of(Validated(), train, val, callbacks=[ModelCheckpoint(dirpath=tmp_path)], **options)

    whole: Calls = []
    machine(whole).run()
    first: Calls = []
    stopped = machine(first)
    for transition in stopped:
        if transition.to.value == "fetch" and stopped.counters.batches_begun == stop_after:
            stopped.stop()
    if stopped.stop_reason is None or stopped.state.value != "stopped":
        pytest.skip("the run ended before")
    rest: Calls = []
    resumed = machine(rest)
    resumed.resume(tmp_path)
    epoch = resumed.counters.current_epoch
    loaded = [call for call in rest if not call[0].startswith("iter")]
    assert set(loaded) <= {(name, e) for name in (*parts, "val") for e in (epoch, 0, epoch - 1)}
    begun = len(rest)
    resumed.run()
    later = [call for call in rest[begun:] if not call[0].startswith("iter")]
    expected = [call for call in whole if not call[0].startswith("iter")]
    assert later == expected[len(expected) - len(later) :]


# ---- persistent workers


@pytest.mark.parametrize(("persistent", "told"), [(True, 1), (False, 0)])
def test_a_dataset_in_persistent_workers_is_reported_once(persistent: bool, told: int) -> None:
    calls: Calls = []
    loader = DataLoader(NotingSamples(calls, 4), batch_size=2, num_workers=1, persistent_workers=persistent)
    setter = EpochSetter(loader, "train_dataloader")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in (2, 2, 3, 4):
            setter.set_epoch(epoch)
    assert len(caught) == told
    if told:
        assert "persistent workers" in str(caught[0].message)
        assert "persistent_workers=False" in str(caught[0].message)


def test_samplers_beside_persistent_workers_are_reached() -> None:
    loader = DataLoader(Samples(4), sampler=NotingSampler([], 4), num_workers=1, persistent_workers=True)
    setter = EpochSetter(loader, "train_dataloader")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        setter.set_epoch(0)
        setter.set_epoch(1)
