"""Feeding the device: copies in a queue of their own, and nothing that the device could use too early or lose too soon."""

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

from fsmtrain.runtime.data.device_transfer import CudaCopyStream, batch_mover, move_to
from fsmtrain.runtime.nested import iter_tensors

META = torch.device("meta")


class Recorded:
    """A lane that writes down what happens in which order."""

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
    """A batch object that moves itself, and says in which lane it did."""

    def __init__(self, lane: Recorded) -> None:
        self.lane, self.in_lane = lane, False

    def to(self, device: torch.device) -> Own:
        self.in_lane = self.lane.is_open
        return self


def test_on_the_cpu_no_batch_is_touched() -> None:
    assert batch_mover(torch.device("cpu")) is None


def test_a_device_without_streams_is_fed_in_its_own_queue() -> None:
    feed = batch_mover(META)
    assert feed is not None
    assert feed(torch.ones(1)).device.type == "meta"


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
def test_all_tensors_of_a_batch_are_copied_beside_the_computing_and_then_handed_over(batch: Any, tensors: int) -> None:
    lane = Recorded()
    feed = batch_mover(META, lane)
    assert feed is not None
    moved = feed(batch)
    assert lane.events == [("copies", 0), ("synchronizes", tensors)]
    assert [t.shape for t in iter_tensors(moved)] == [t.shape for t in iter_tensors(move_to(batch, META))]


def test_an_object_that_moves_itself_does_so_where_the_device_computes() -> None:
    """What it holds besides cannot be known, so nobody could keep its memory until the device is done with it."""
    lane = Recorded()
    feed = batch_mover(META, lane)
    assert feed is not None
    own = Own(lane)
    feed((torch.ones(1), {"x": own}))
    assert lane.events == []
    assert not own.in_lane


def test_what_is_on_a_device_already_is_not_used_before_it_has_been_computed_there() -> None:
    lane = Recorded()
    feed = batch_mover(META, lane)
    assert feed is not None
    feed([torch.ones(1), torch.ones(1, device="meta")])
    assert lane.events == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_what_the_host_had() -> None:
    device = torch.device("cuda")
    feed = batch_mover(device, CudaCopyStream(device))
    assert feed is not None
    for _ in range(50):
        batch = torch.randn(1 << 16).pin_memory()
        assert torch.equal(feed(batch).cpu(), batch)


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


def test_what_is_no_tensor_stays_the_same_object() -> None:
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
def test_an_object_that_can_move_itself_is_asked_to_without_waiting_where_it_can(
    make: Callable[[], Movable], asked: dict[str, Any]
) -> None:
    batch = make()
    assert move_to((batch,), META) == (batch,)
    assert batch.asked == [(META, asked)]


def test_mappings_that_are_not_made_from_a_mapping_can_be_moved() -> None:
    batch: defaultdict[str, Any] = defaultdict(list, {"x": torch.ones(2)})
    moved = move_to(batch, META)
    assert isinstance(moved, defaultdict)
    assert moved["x"].device == META
    assert moved["new"] == []


def test_a_dataclass_stays_as_it_is_unless_it_can_move_itself() -> None:
    @dataclass
    class Batch:
        x: Tensor

    batch = Batch(torch.ones(1))
    assert move_to(batch, META) is batch
    assert batch.x.device.type == "cpu"
