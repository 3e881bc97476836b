"""Feeding the device: copies in a queue of their own, and nothing that the device could use too early or lose too soon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from fsmtrain.runtime.data.device_transfer import CudaCopyStream, batch_mover
from fsmtrain.runtime.data.nested import move_to
from fsmtrain.runtime.metrics.step_outputs import tensors_in

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

    def hand_over(self, tensors: Iterable[Tensor]) -> None:
        assert not self.is_open
        self.events.append(("hands over", len(list(tensors))))


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
    assert lane.events == [("copies", 0), ("hands over", tensors)]
    assert [t.shape for t in tensors_in(moved)] == [t.shape for t in tensors_in(move_to(batch, META))]


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
