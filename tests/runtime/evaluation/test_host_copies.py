"""Copies of outputs: in their order, without waiting, with the values of their moment."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.runtime.evaluation.host_copies import HostCopies
from tests.models import same_bits


class Event:
    """A stand-in for an event of a device that is busy until `made` is set."""

    def __init__(self) -> None:
        self.made = False

    def query(self) -> bool:
        return self.made

    def synchronize(self) -> None:
        self.made = True


def on_a_busy_device(events: list[Event]) -> HostCopies[int]:
    """Copies from a device whose copies are made when their events say so."""

    def start(tensor: Tensor) -> tuple[Tensor, Event]:
        events.append(Event())
        return tensor.clone(), events[-1]

    return HostCopies({"cpu": start})


def test_what_has_arrived_is_returned_in_order_and_nothing_waits() -> None:
    events: list[Event] = []
    copies = on_a_busy_device(events)
    for key in range(3):
        copies.add(key, {"x": torch.full((2,), float(key)), "y": [torch.ones(1)]})
    assert copies.pop_arrived() == []
    events[0].made = events[2].made = events[3].made = True  # of the first value one of two tensors, and all of the second
    assert copies.pop_arrived() == []
    events[1].made = True
    assert [key for key, _ in copies.pop_arrived()] == [0, 1]
    ((key, value),) = copies.pop_arrived(wait=True)
    assert (key, value["x"].tolist()) == (2, [2.0, 2.0])
    assert all(event.made for event in events)
    assert copies.pop_arrived(wait=True) == []


def test_a_copy_has_the_values_of_its_moment_and_memory_of_its_own() -> None:
    copies: HostCopies[str] = HostCopies()
    whole = torch.zeros(1000, requires_grad=True)
    part = whole.detach()[:2]
    copies.add("a", (part, whole * 2, torch.eye(2).to_sparse(), "text"))
    part.fill_(1)
    ((_, (copy, product, sparse, text)),) = copies.pop_arrived()
    assert (copy.tolist(), copy.untyped_storage().nbytes()) == ([0.0, 0.0], 8)
    assert not product.requires_grad
    assert same_bits(sparse.to_dense(), torch.eye(2))
    assert text == "text"


def test_an_array_is_copied_as_a_tensor_of_the_cpu_is() -> None:
    copies: HostCopies[str] = HostCopies()
    whole = np.zeros(1000)
    copies.add("a", {"part": whole[:2]})
    whole.fill(1)
    ((_, output),) = copies.pop_arrived()
    assert (output["part"].tolist(), output["part"].base) == ([0.0, 0.0], None)


def test_a_tensor_without_data_cannot_be_copied() -> None:
    with pytest.raises(ModelError, match="a Tensor, cannot be copied to the host: NotImplementedError"):
        HostCopies[int]().add(0, [torch.ones(2, device="meta")])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_copies_while_it_goes_on_and_the_host_does_not_wait() -> None:
    copies: HostCopies[int] = HostCopies()
    copies.add(-1, torch.ones(1000, device="cuda"))  # the first pinned memory is slow
    copies.pop_arrived(wait=True)
    busy = torch.randn(8000, 8000, device="cuda")
    torch.cuda.synchronize()
    began = time.perf_counter()
    outputs: list[Any] = []
    for key in range(5):
        for _ in range(4):
            busy = busy @ busy * 1e-4
        value = torch.full((1000,), float(key), device="cuda")
        copies.add(key, {"x": value, "b": value.bfloat16().expand(2, -1)})
        value.fill_(-1.0)
        outputs += copies.pop_arrived()
    launched = time.perf_counter() - began
    outputs += copies.pop_arrived(wait=True)
    assert launched < (time.perf_counter() - began) / 2
    assert [key for key, _ in outputs] == [0, 1, 2, 3, 4]
    assert all(value["x"].tolist() == [key] * 1000 and not value["x"].is_pinned() for key, value in outputs)
    assert outputs[2][1]["b"].dtype == torch.bfloat16
