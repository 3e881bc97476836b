"""Asynchronous copies of metrics to the host: when they can be read, and that nothing blocks."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingCopy


class SlowCopy:
    """A copy of a number from a device; the test says when it arrives."""

    def __init__(self, number: float) -> None:
        self.number, self.has_arrived = number, False

    def arrived(self) -> bool:
        return self.has_arrived

    def values(self) -> list[float]:
        assert self.has_arrived, "the number was read before it arrived"
        return [self.number]


class Device:
    """A device whose copies arrive one by one, when the test says so."""

    def __init__(self) -> None:
        self.copies: list[SlowCopy] = []

    def __call__(self, tensors: Sequence[Tensor]) -> PendingCopy:
        self.copies.append(SlowCopy(float(len(self.copies))))
        return self.copies[-1]


def on_device() -> Tensor:
    """A number on another device than the CPU."""
    return torch.empty((), device="meta")


def test_numbers_on_the_cpu_arrive_at_once_in_their_order() -> None:
    pending = HostTransfer().copy_async({"b": torch.tensor(0.5), "a": 2.0, "n": torch.tensor(3), "yes": torch.tensor(True)})
    assert pending.arrived
    assert list(pending.values().items()) == [("b", 0.5), ("a", 2.0), ("n", 3.0), ("yes", 1.0)]
    assert all(type(value) is float for value in pending.values().values())


def test_pending_metrics_have_the_values_at_the_call() -> None:
    loss = torch.tensor(1.0)
    pending = HostTransfer().copy_async({"loss": loss})
    loss.fill_(2.0)
    assert pending.values() == {"loss": 1.0}


def test_a_number_on_a_device_can_be_read_only_once_it_has_arrived() -> None:
    device = Device()
    pending = HostTransfer({"meta": device}).copy_async({"here": 7.0, "first": on_device(), "second": on_device()})
    assert not pending.arrived
    assert pending.values() == {"here": 7.0}
    device.copies[1].has_arrived = True
    assert not pending.arrived
    assert pending.values() == {"here": 7.0, "second": 1.0}
    device.copies[0].has_arrived = True
    assert pending.arrived
    assert pending.values() == {"here": 7.0, "first": 0.0, "second": 1.0}


def test_each_copy_has_its_own_numbers() -> None:
    device = Device()
    transfer = HostTransfer({"meta": device})
    first, second = transfer.copy_async({"loss": on_device()}), transfer.copy_async({"loss": on_device()})
    device.copies[1].has_arrived = True
    assert (first.values(), second.values()) == ({}, {"loss": 1.0})
    device.copies[0].has_arrived = True
    assert (first.values(), second.values()) == ({"loss": 0.0}, {"loss": 1.0})


def test_an_empty_set_of_metrics_has_arrived_at_once() -> None:
    pending = HostTransfer().copy_async({})
    assert pending.arrived
    assert pending.values() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("own_stream", [False, True])
def test_a_number_arrives_from_the_gpu_after_its_kernels_without_blocking(own_stream: bool) -> None:
    """Asked by another thread than the one that trains, which may work in a stream of its own."""
    stream = torch.cuda.Stream() if own_stream else torch.cuda.default_stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        loss = torch.zeros((), device="cuda")
        transfer = HostTransfer()
        torch.cuda.synchronize()
        torch.cuda._sleep(1_000_000_000)  # type: ignore[no-untyped-call]
        loss.add_(3.0)
        found = []

        def ask() -> None:
            pending = transfer.copy_async({"loss": loss})
            found.append((pending, pending.arrived, pending.values()))

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
        [(pending, arrived, values)] = found
        assert (arrived, values) == (False, {})
        torch.cuda.synchronize()
        assert pending.arrived
        assert pending.values() == {"loss": 3.0}
