"""What was passed as a loader: one rule for train, val and test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Trainer
from fsmtrain.errors import FsmtrainError, ModelError
from fsmtrain.runtime.data.passed_loaders import passed_loaders, passed_train_loader
from tests.models import Linear, Validated, batches, machine_of, stream


@dataclass
class Batch:
    """A batch with names."""

    x: Tensor
    y: Any = None


@frozen
class Frozen:
    """The same, made by attrs."""

    x: Tensor


class Pair(NamedTuple):
    """A batch of two parts."""

    x: Any
    y: Any


class Movable:
    """A batch that moves itself, and can be iterated over."""

    def to(self, device: Any) -> Movable:
        return self

    def __iter__(self) -> Iterator[int]:
        return iter([1])


class Sized:
    """A loader of one's own."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Tensor]:
        yield from (torch.ones(1), torch.ones(2))


T = torch.ones(2)
BATCHES: list[Any] = [T, {"x": T}, Batch(T), Frozen(T), (T, T), Pair(T, 1), [T, T], [T], [T, "text"], Movable(), 3, np.ones(2)]
LOADERS: list[Callable[[], Any]] = [
    lambda: batches(2), lambda: stream(2), Sized, lambda: iter([T]), lambda: (T for _ in range(2)), lambda: range(3),
    lambda: [(T, T), (T, T)], lambda: [{"x": T}], lambda: [[T, T], [T, T]], lambda: [Batch(T)], list, lambda: [[T]],
]  # fmt: skip


@given(st.lists(st.sampled_from(BATCHES), min_size=1, max_size=4), st.booleans())
def test_a_list_or_tuple_of_batches_is_one_loader(items: list[Any], as_tuple: bool) -> None:
    value = tuple(items) if as_tuple else items
    [loader] = passed_loaders(value, "val_dataloaders")
    assert loader is value
    assert passed_train_loader(value) is value


@given(st.lists(st.sampled_from(LOADERS), min_size=1, max_size=4), st.booleans())
def test_a_list_or_tuple_of_loaders_is_several_loaders(makers: list[Callable[[], Any]], as_tuple: bool) -> None:
    loaders = [make() for make in makers]
    value = tuple(loaders) if as_tuple else loaders
    assert [*passed_loaders(value, "val_dataloaders")] == loaders
    if len(loaders) == 1:
        assert passed_train_loader(value) is loaders[0]
    else:
        with pytest.raises(ModelError, match=r"train_dataloader: \d loaders, and a run trains on one. .*ConcatDataset"):
            passed_train_loader(value)


@given(st.sampled_from(BATCHES), st.sampled_from(LOADERS), st.booleans())
def test_batches_and_loaders_in_one_list_are_an_error(batch: Any, make: Callable[[], Any], batch_first: bool) -> None:
    value = [batch, make()] if batch_first else [make(), batch]
    with pytest.raises(ModelError, match="both batches and loaders"):
        passed_loaders(value, "test_dataloaders")


@pytest.mark.parametrize("make", LOADERS[:6])
def test_an_iterable_that_is_no_list_is_one_loader(make: Callable[[], Any]) -> None:
    loader = make()
    assert passed_loaders(loader, "val_dataloaders") == (loader,)
    assert passed_train_loader(loader) is loader


@pytest.mark.parametrize("value", [None, [], ()])
def test_nothing_is_no_loader(value: Any) -> None:
    assert passed_loaders(value, "val_dataloaders") == ()


BARE = [T, np.ones(2), Batch(T), Frozen(T), Pair(T, T), 5, object(), "path", b"path", DataLoader, [None], [batches(2), None]]


@pytest.mark.parametrize("value", BARE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("argument", ["train_dataloader", "val_dataloaders", "test_dataloaders"])
def test_what_is_no_loader_is_refused_by_the_name_of_its_argument(value: Any, argument: str) -> None:
    with pytest.raises(ModelError, match=f"{argument}: .* is not a loader"):
        passed_train_loader(value) if argument == "train_dataloader" else passed_loaders(value, argument)


@pytest.mark.parametrize("value", [{"a": batches(2), "b": batches(2)}, {"x": T}, {}])
def test_a_dict_is_refused_with_the_ways_out(value: Any) -> None:
    with pytest.raises(ModelError, match=r"train_dataloader: a dict with the keys .*zip"):
        passed_train_loader(value)
    with pytest.raises(ModelError, match=r"val_dataloaders: a dict .* is not a loader. Pass a list of the values"):
        passed_loaders(value, "val_dataloaders")


@pytest.mark.parametrize("value", [[{"a": batches(2)}], [[batches(2)], [batches(2)]], [(batches(2), batches(2))]])
def test_loaders_within_a_list_of_loaders_are_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="of loaders within another list"):
        passed_loaders(value, "val_dataloaders")


# ---- in a run


class Seeing(Linear):
    """Writes down what each step gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[Any]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen["train"].append(batch)
        return self.layer.weight.sum()  # type: ignore[operator]

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen["val"].append(batch)

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen["test"].append(batch)


PASSED: list[Any] = [
    [torch.ones(3, 1), torch.ones(2, 1)],
    (torch.ones(3, 1), torch.ones(2, 1)),
    list(DataLoader(TensorDataset(torch.ones(4, 1), torch.ones(4)), batch_size=2)),
    list(DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=4)),
    [{"x": T}, {"x": T}],
    [Batch(T)],
    Sized(),
    [batches(4)],
]


@pytest.mark.parametrize("data", PASSED, ids=range(len(PASSED)))
def test_train_val_and_test_get_the_same_batches_of_what_is_passed(data: Any) -> None:
    model = Seeing()
    trainer = Trainer(max_nb_epochs=1, nb_sanity_val_steps=0, val_check_interval=1.0, runs_dir=None, quiet=True)
    trainer.fit(model, data, data)
    trainer.test(test_dataloaders=data)
    train, val, test = ([repr(batch) for batch in batches] for batches in model.seen.values())
    assert train == val == test
    assert len(train) == len(data[0] if isinstance(data[0] if isinstance(data, list) else 0, DataLoader) else data)


@pytest.mark.parametrize("val", [[[T]], [[T, T]], [[T], [T, T]]], ids=len)
def test_a_list_of_tensors_is_a_loader_beside_a_train_loader_that_is_one(val: list[Any]) -> None:
    model = Seeing()
    trainer = Trainer(max_nb_epochs=1, nb_sanity_val_steps=0, val_check_interval=1.0, runs_dir=None, quiet=True)
    for step in ("validation_step", "test_step"):
        setattr(model, step, lambda batch, batch_nb, dataloader_i=0: model.seen["val"].append(batch))
    trainer.fit(model, [T, T], val)
    trainer.test(test_dataloaders=val)
    trainer.validate(val_dataloaders=val)
    assert len(model.seen["val"]) == 3 * sum(map(len, val))
    assert all(isinstance(batch, Tensor) for batch in model.seen["val"])


@pytest.mark.parametrize("train", [[(T, T)], [[T, T]], [{"x": T}], DataLoader(TensorDataset(T)), stream(2)])
def test_a_list_of_tensors_is_a_batch_beside_any_other_train_loader(train: Any) -> None:
    assert passed_loaders([[T, T], [T, T]], "val_dataloaders", beside=train) == ([[T, T], [T, T]],)


@pytest.mark.parametrize("several", [list, tuple, lambda loaders: dict(enumerate(loaders))])
@pytest.mark.parametrize("as_method", [False, True])
def test_several_train_loaders_are_refused_at_build(several: Callable[[Any], Any], as_method: bool) -> None:
    model, loaders = Linear(), several([batches(4), batches(4)])
    if as_method:
        model.train_dataloader = lambda: loaders  # type: ignore[assignment]
    with pytest.raises(FsmtrainError, match=r"train_dataloader: .*zip.*ConcatDataset"):
        machine_of(model, None if as_method else loaders)


def test_a_dict_of_val_loaders_of_the_model_is_refused_at_build() -> None:
    model = Validated()
    model.val_dataloader = lambda: {"a": batches(2)}  # type: ignore[assignment]
    with pytest.raises(ModelError, match="val_dataloaders: a dict with the keys 'a'"):
        machine_of(model, batches(4), None)
