"""Loaders of every kind: how long they are, what is taken from them, and what is wrong with some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from fsmtrain import Trainer
from fsmtrain.errors import DataError, FsmtrainError, ModelError, SizesError
from fsmtrain.runtime.data.loaders import EvaluationBatches, StreamedBatches, make_all_resumable, make_resumable
from fsmtrain.runtime.data.restore_loader_position import length_of
from tests.models import Linear, Samples, Validated, batches, machine_of, state_notes, stream, trained


class Listed:
    """A loader of numbers that writes down what was taken from it. `length` is what it says of itself."""

    def __init__(self, n: int, length: int | None = None) -> None:
        self.n, self.length = n, n if length is None else length
        self.taken: list[int] = []
        self.ended = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        for i in range(self.n):
            self.taken.append(i)
            yield i
        self.ended += 1


class Unsized:
    """A stream of the same numbers."""

    def __init__(self, n: int) -> None:
        self.inner = Listed(n)

    def __iter__(self) -> Iterator[int]:
        return iter(self.inner)


class Fallback:
    """Data of the old kind, which is iterated over by index."""

    def __getitem__(self, index: int) -> int:
        if index >= 3:
            raise IndexError
        return index


class Numbers(Linear):
    """A model whose batches are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen.append(batch)
        return self.layer(torch.full((1, 3), float(batch))).mean()


# ---- lengths


class Refusing:
    """Something whose length cannot be had."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        raise self.error

    def __iter__(self) -> Iterator[int]:
        return iter(range(2))


def test_the_length_of_a_loader_is_its_len() -> None:
    assert length_of(batches(7, 3)) == 3
    assert length_of(batches(7, 3, drop_last=True)) == 2
    assert length_of([1, 2]) == 2


@pytest.mark.parametrize("error", [TypeError(), NotImplementedError(), AttributeError()])
def test_a_loader_whose_len_raises_is_a_stream(error: Exception) -> None:
    assert length_of(Refusing(error)) is None
    assert length_of(stream(4)) is None
    assert length_of(iter([1])) is None


def test_an_error_in_a_length_is_not_swallowed() -> None:
    with pytest.raises(OSError, match="gone"):
        length_of(Refusing(OSError("gone")))


# ---- what the run takes


def test_an_object_with_getitem_is_a_loader() -> None:
    model = Numbers()
    trained(model, Fallback(), max_nb_epochs=2)
    assert model.seen == [0, 1, 2, 0, 1, 2]


NUMBERS: Any = [0, 1, 2, 3]  # a dataset, as far as torch is concerned


@pytest.mark.parametrize("loader", [Listed(4), DataLoader(NUMBERS, batch_size=None)], ids=["own", "torch"])
def test_a_train_loader_in_a_list_is_the_loader(loader: Any) -> None:
    model = Numbers()
    trained(model, [loader], max_nb_epochs=1)
    assert model.seen == [0, 1, 2, 3]


def test_a_list_of_batches_is_a_loader() -> None:
    model = Numbers()
    trained(model, [4, 5, 6], max_nb_epochs=2)
    assert model.seen == [4, 5, 6, 4, 5, 6]


def test_a_list_with_one_batch_that_is_a_tuple_is_a_loader_of_one_batch() -> None:
    model, batch = Linear(), (torch.ones(2, 3), torch.ones(2, 1))
    assert trained(model, [batch], max_nb_epochs=3).counters.global_step == 3


@pytest.mark.parametrize("given", [5, object(), 1.5])
def test_a_train_loader_that_cannot_be_iterated_over_is_refused(given: Any) -> None:
    with pytest.raises(ModelError, match=r"train_dataloader: .* is not a loader"):
        machine_of(Linear(), given)


def test_loaders_may_be_methods_or_attributes_of_the_model() -> None:
    class Own(Validated):
        def train_dataloader(self) -> Any:
            return batches(6)

    model = Own()
    model.val_dataloader = [batches(2), batches(4)]  # type: ignore[assignment]
    machine = machine_of(model, max_nb_epochs=1, nb_sanity_val_steps=0)
    assert (machine.loop.limits.train_batches, machine.loop.limits.val_loaders) == (3, (1, 2))


def test_a_loader_that_is_passed_is_preferred_to_the_model_s_own() -> None:
    class Own(Validated):
        def train_dataloader(self) -> Any:
            raise AssertionError

        val_dataloader = train_dataloader

    machine = machine_of(Own(), batches(6), [], max_nb_epochs=1)
    assert machine.loop.limits.train_batches == 3
    assert not machine.loop.limits.validates


# ---- sized loaders


def test_no_batch_is_fetched_early_or_beyond_the_limit() -> None:
    loader, model = Listed(10), Numbers()
    machine = machine_of(model, loader, max_nb_epochs=2, train_percent_check=0.4)
    for transition in machine:
        if transition.source.value == "train_batch":
            assert loader.taken[-1] == model.seen[-1]
    assert loader.taken == [0, 1, 2, 3] * 2


class Order:
    """A sampler in order, which does something after its last index, as torch's random one does."""

    def __init__(self, n: int) -> None:
        self.n, self.ended = n, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from range(self.n)
        self.ended += 1


def test_a_fully_consumed_data_loader_is_exhausted() -> None:
    """As after a ``for`` statement; where only a part of it was used, it has not."""

    class Quiet(Numbers):
        def validation_step(self, batch: Any, batch_nb: int) -> None:
            pass

    for share, ends in ((1.0, 2), (0.5, 0)):
        orders = Order(4), Order(2)
        train, val = (DataLoader[Any](NUMBERS, batch_size=None, sampler=order) for order in orders)
        shares = {"train_percent_check": share, "val_percent_check": share}
        trained(Quiet(), train, val, max_nb_epochs=2, nb_sanity_val_steps=0, val_check_interval=1.0, **shares)
        assert [order.ended for order in orders] == [ends, ends]


def test_a_loader_shorter_than_its_length_is_an_error_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"train_dataloader: its length is 5, but it ended after 3 batches") as caught:
        trained(Numbers(), Listed(3, length=5), max_nb_epochs=1)
    assert state_notes(caught.value) == ["in state fetch, epoch 0, batch 3, optimizer 0"]
    with pytest.raises(DataError, match=r"its length is 2, but it ended after 1 batch\."):
        trained(Numbers(), Listed(1, length=2), max_nb_epochs=1)


def test_a_loader_longer_than_its_length_yields_its_length() -> None:
    model = Numbers()
    trained(model, Listed(5, length=3), max_nb_epochs=1)
    assert model.seen == [0, 1, 2]


def test_a_loader_without_an_end_loses_no_batch_from_one_epoch_to_the_next() -> None:
    """Its length says how many are an epoch; no more are taken from it."""

    class Endless:
        def __init__(self) -> None:
            self.given = 0

        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Endless:
            return self

        def __next__(self) -> int:
            self.given += 1
            return self.given

    model, loader = Numbers(), Endless()
    trained(model, loader, max_nb_epochs=2)
    assert model.seen == [1, 2, 3, 4, 5, 6]
    assert loader.given == 6


@pytest.mark.parametrize(("several", "name"), [(False, "val_dataloader"), (True, r"val_dataloader\[1\]")])
def test_a_val_loader_shorter_than_its_length_is_named(several: bool, name: str) -> None:
    class Quiet(Numbers):
        def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> None:
            pass

    val = [Listed(4), Listed(2, length=4)] if several else Listed(2, length=4)
    with pytest.raises(DataError, match=rf"{name}: its length is 4, but it ended after 2 batches"):
        trained(Quiet(), Listed(2), val, max_nb_epochs=1, nb_sanity_val_steps=0)


def test_an_empty_train_loader_is_refused() -> None:
    with pytest.raises(SizesError, match="it has no batches"):
        machine_of(Numbers(), [])
    with pytest.raises(SizesError, match="it has no batches"):
        machine_of(Linear(), batches(1, 2, drop_last=True))


def test_an_empty_val_loader_is_nothing_to_validate() -> None:
    machine = trained(Validated(), batches(4), [[]], max_nb_epochs=1)
    assert machine.counters.validations_done == 0


# ---- streams


def test_a_stream_is_fetched_one_batch_ahead_so_that_its_last_batch_is_known() -> None:
    source = Unsized(3)
    ahead = StreamedBatches(make_resumable(source, "train_dataloader"))
    assert source.inner.taken == [0]
    assert [(ahead.next(), ahead.has_ended) for _ in range(3)] == [(0, False), (1, False), (2, True)]


def test_a_stream_ends_its_epoch_and_begins_again_in_the_next() -> None:
    model = Numbers()
    machine = trained(model, Unsized(3), max_nb_epochs=2)
    assert model.seen == [0, 1, 2, 0, 1, 2]
    assert machine.counters.epochs_done == 2


def test_an_empty_stream_is_an_error() -> None:
    with pytest.raises(DataError, match=r"train_dataloader: the stream ended without any batch\.(\n|$)"):
        trained(Numbers(), Unsized(0), max_nb_epochs=1)


def test_an_empty_val_stream_is_an_error_too() -> None:
    class Quiet(Numbers):
        def validation_step(self, batch: Any, batch_nb: int) -> None:
            pass

    with pytest.raises(DataError, match="val_dataloader: the stream ended without any batch"):
        trained(Quiet(), Listed(2), Unsized(0), max_nb_epochs=1)


def test_a_generator_serves_one_epoch() -> None:
    model = Numbers()
    trained(model, (i for i in range(3)), max_nb_epochs=1)
    assert model.seen == [0, 1, 2]


def test_a_generator_for_two_epochs_is_an_error_that_names_what_to_pass() -> None:
    with pytest.raises(DataError, match="It is an iterator, which can be used only once: pass an iterable") as caught:
        trained(Numbers(), (i for i in range(3)), max_nb_epochs=2)
    assert state_notes(caught.value) == ["in state fetch, epoch 1, batch 0, optimizer 0"]


def test_a_generator_for_the_sanity_pass_and_the_validation_is_an_error() -> None:
    """The sanity pass has taken batches of it that no check will ever see."""

    class Quiet(Numbers):
        def validation_step(self, batch: Any, batch_nb: int) -> None:
            pass

    with pytest.raises(FsmtrainError, match="iterator"):
        trained(Quiet(), Listed(2), (i for i in range(3)), max_nb_epochs=1)


@pytest.mark.parametrize("options", [{"train_percent_check": 0.5}, {"overfit_pct": 1.0}, {"overfit_pct": 0.5}])
def test_no_part_of_a_stream_can_be_taken(options: dict[str, Any]) -> None:
    with pytest.raises(SizesError, match="has no length"):
        machine_of(Numbers(), Unsized(3), **options)


def test_a_fraction_of_an_epoch_is_unknown_for_a_stream() -> None:
    with pytest.raises(SizesError, match=r"val_check_interval=0\.95: the train loader has no length"):
        machine_of(Validated(), stream(4), batches(2))
    assert machine_of(Validated(), stream(4), batches(2), val_check_interval=2) is not None
    assert machine_of(Validated(), stream(4), []) is not None


# ---- several loaders in one pass


def test_a_pass_takes_its_loaders_in_order_up_to_their_limits() -> None:
    loaders: list[Any] = [Listed(3), Listed(2), Unsized(4), Unsized(3)]
    taken = list(EvaluationBatches(make_all_resumable(loaders, "val_dataloader"), [2, 0, None, 2]))
    assert taken == [(0, 0, 0), (0, 1, 1), (2, 0, 0), (2, 1, 1), (2, 2, 2), (2, 3, 3), (3, 0, 0), (3, 1, 1)]


def test_workers_change_nothing_in_what_is_trained() -> None:
    first, second = Linear(), Linear()
    second.load_state_dict(first.state_dict())
    trained(first, DataLoader(Samples(8), batch_size=2), max_nb_epochs=2)
    trained(second, DataLoader(Samples(8), batch_size=2, num_workers=1), max_nb_epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_trainer_takes_loaders_as_they_are_passed() -> None:
    trainer = Trainer(max_nb_epochs=1, progress_bar=False, device="cpu", nb_sanity_val_steps=0)
    trainer.fit(Validated(), train_dataloader=batches(6), val_dataloaders=[batches(2), batches(6)])
    assert trainer.machine.loop.limits.val_loaders == (1, 3)
