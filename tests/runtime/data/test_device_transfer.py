"""Copying a batch to the device: in a stream of its own, never too early for the device, and kept until it was used."""

from __future__ import annotations

import contextlib
import types
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fsmtrain.runtime.data.device_transfer import CopyStream, batch_mover, move_to
from fsmtrain.runtime.nested_tensors import iter_tensors

META = torch.device("meta")


class RecordedStream(CopyStream):
    """A copy stream that records what happens in which order."""

    def __init__(self) -> None:
        self.is_open = False
        self.events: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        self.is_open = True
        self.events.append(("copies", 0))
        yield
        self.is_open = False

    def synchronize_with(self, tensors: Iterable[Tensor]) -> None:
        assert not self.is_open
        self.events.append(("synchronizes", len(list(tensors))))


class Own:
    """A batch object that moves itself, and records in which stream."""

    def __init__(self, stream: RecordedStream) -> None:
        self.stream, self.in_stream = stream, False

    def to(self, device: torch.device) -> Own:
        self.in_stream = self.stream.is_open
        return self


def test_on_the_cpu_no_batch_is_touched() -> None:
    assert batch_mover(torch.device("cpu")) is None


def test_a_device_without_streams_copies_in_its_own_queue() -> None:
    move = batch_mover(META)
    assert move is not None
    assert move(torch.ones(1)).device.type == "meta"


@pytest.mark.parametrize(
    ("batch", "tensors"),
    [
        (torch.ones(2), 1),
        ((torch.ones(2), [torch.ones(1), "a"], {"y": torch.ones(3), "n": 1}), 3),
        (pack_sequence([torch.ones(3), torch.ones(2)]), 2),
        ([], 0),
        ("a text", 0),
    ],
)
def test_all_tensors_of_a_batch_are_copied_in_the_copy_stream_and_then_synchronized(batch: Any, tensors: int) -> None:
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    moved = move(batch)
    assert stream.events == [("copies", 0), ("synchronizes", tensors)]
    assert [t.shape for t in iter_tensors(moved)] == [t.shape for t in iter_tensors(move_to(batch, META))]


def test_an_object_that_moves_itself_is_copied_in_the_computing_stream() -> None:
    """What it holds besides cannot be known, so nobody could keep its memory until the device is done with it."""
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    own = Own(stream)
    move((torch.ones(1), {"x": own}))
    assert stream.events == []
    assert not own.in_stream


def test_a_batch_on_a_device_already_is_not_copied_in_the_copy_stream() -> None:
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    move([torch.ones(1), torch.ones(1, device="meta")])
    assert stream.events == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_on_the_gpu_equals_the_batch_on_the_host() -> None:
    device = torch.device("cuda")
    move = batch_mover(device, CopyStream(device))
    assert move is not None
    for _ in range(50):
        batch = torch.randn(1 << 16).pin_memory()
        assert torch.equal(move(batch).cpu(), batch)


# ---- move_to


class Pair(NamedTuple):
    """A batch with names."""

    x: Any
    y: Any


class Movable:
    """A batch object that moves itself, and says how it was asked to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, Any]]] = []

    def to(self, device: torch.device, non_blocking: bool = False) -> Movable:
        self.asked.append((device, {"non_blocking": non_blocking}))
        return self


class Slow(Movable):
    """One whose ``to`` takes a device only."""

    def to(self, device: torch.device) -> Slow:  # type: ignore[override]
        self.asked.append((device, {}))
        return self


class Anything(Movable):
    """One whose ``to`` takes whatever it is given."""

    def to(self, *args: Any, **more: Any) -> Anything:
        self.asked.append((args[0], more))
        return self


def devices(batch: Any) -> list[str]:
    """The devices of the tensors in a nest of sequences and mappings."""
    if isinstance(batch, Tensor):
        return [batch.device.type]
    if isinstance(batch, (dict, UserDict, types.MappingProxyType)):
        return [device for item in batch.values() for device in devices(item)]
    if isinstance(batch, (list, tuple)) and not isinstance(batch, PackedSequence):
        return [device for item in batch for device in devices(item)]
    return [batch.data.device.type] if isinstance(batch, PackedSequence) else []


@pytest.mark.parametrize(
    ("batch", "tensors"),
    [
        (torch.ones(2), 1),
        ((torch.ones(2), torch.ones(3)), 2),
        ([torch.ones(2), [torch.ones(3), ()]], 2),
        ({"x": torch.ones(2), "name": "a", "nested": {"y": (torch.ones(1),)}}, 2),
        (Pair(torch.ones(2), Pair([torch.ones(3)], None)), 2),
        (OrderedDict(x=torch.ones(2)), 1),
        (UserDict({"x": torch.ones(2)}), 1),
        (pack_sequence([torch.ones(3, 2), torch.ones(2, 2)]), 1),
        ((1, "text", None, 2.5, {"flag": True}), 0),
    ],
    ids=["tensor", "tuple", "list", "dict", "named tuple", "ordered dict", "user dict", "packed sequence", "no tensor"],
)
def test_every_tensor_of_a_batch_is_moved_and_its_structure_is_kept(batch: Any, tensors: int) -> None:
    before = devices(batch)
    moved = move_to(batch, META)
    assert type(moved) is type(batch)
    assert devices(moved) == ["meta"] * tensors
    assert devices(batch) == before == ["cpu"] * tensors


def test_values_that_are_not_tensors_stay_the_same_objects() -> None:
    thing = object()
    moved = move_to({"thing": [thing], "text": "abc", "none": None}, META)
    assert moved == {"thing": [thing], "text": "abc", "none": None}


def test_the_order_and_the_keys_of_a_mapping_are_kept() -> None:
    moved = move_to(OrderedDict([("b", torch.ones(1)), (3, torch.ones(1)), ("a", 1)]), META)
    assert list(moved) == ["b", 3, "a"]


def test_named_tuples_keep_their_names() -> None:
    moved = move_to(Pair(torch.ones(1), "y"), META)
    assert moved.x.device == META
    assert moved.y == "y"


@pytest.mark.parametrize(
    ("make", "asked"),
    [(Movable, {"non_blocking": True}), (Slow, {}), (Anything, {"non_blocking": True})],
    ids=["non_blocking", "device only", "anything"],
)
def test_an_object_with_to_is_moved_with_non_blocking_if_it_takes_that(
    make: Callable[[], Movable], asked: dict[str, Any]
) -> None:
    batch = make()
    assert move_to((batch,), META) == (batch,)
    assert batch.asked == [(META, asked)]


def test_mappings_with_another_constructor_can_be_moved() -> None:
    batch: defaultdict[str, Any] = defaultdict(list, {"x": torch.ones(2)})
    moved = move_to(batch, META)
    assert isinstance(moved, defaultdict)
    assert moved["x"].device == META
    assert moved["new"] == []


def test_a_dataclass_without_to_is_not_moved() -> None:
    @dataclass
    class Batch:
        x: Tensor

    batch = Batch(torch.ones(1))
    assert move_to(batch, META) is batch
    assert batch.x.device.type == "cpu"
