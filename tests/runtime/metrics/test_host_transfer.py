"""Metrics on their way from a device to the host: what can be read when, and that nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingCopy


class Parcel:
    """A number on its way from a device that is slower than any real one."""

    def __init__(self, number: float) -> None:
        self.number, self.here = number, False

    def arrived(self) -> bool:
        return self.here

    def values(self) -> list[float]:
        assert self.here, "the number was read before it came"
        return [self.number]


class Device:
    """A device whose numbers come one by one, when they are told to."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []

    def __call__(self, tensors: Sequence[Tensor]) -> PendingCopy:
        self.parcels.append(Parcel(float(len(self.parcels))))
        return self.parcels[-1]


def elsewhere() -> Tensor:
    """A number on another device than the CPU."""
    return torch.empty((), device="meta")


def test_numbers_of_the_cpu_are_there_at_once_and_in_their_order() -> None:
    arrival = HostTransfer().copy_async({"b": torch.tensor(0.5), "a": 2.0, "n": torch.tensor(3), "yes": torch.tensor(True)})
    assert arrival.arrived
    assert list(arrival.values().items()) == [("b", 0.5), ("a", 2.0), ("n", 3.0), ("yes", 1.0)]
    assert all(type(value) is float for value in arrival.values().values())


def test_an_arrival_keeps_the_numbers_as_they_were_when_they_were_offered() -> None:
    loss = torch.tensor(1.0)
    arrival = HostTransfer().copy_async({"loss": loss})
    loss.fill_(2.0)
    assert arrival.values() == {"loss": 1.0}


def test_a_number_on_a_device_can_be_read_only_when_it_has_come() -> None:
    device = Device()
    arrival = HostTransfer({"meta": device}).copy_async({"here": 7.0, "first": elsewhere(), "second": elsewhere()})
    assert not arrival.arrived
    assert arrival.values() == {"here": 7.0}
    device.parcels[1].here = True
    assert not arrival.arrived
    assert arrival.values() == {"here": 7.0, "second": 1.0}
    device.parcels[0].here = True
    assert arrival.arrived
    assert arrival.values() == {"here": 7.0, "first": 0.0, "second": 1.0}


def test_each_offer_has_its_own_numbers() -> None:
    device = Device()
    arrivals = HostTransfer({"meta": device})
    first, second = arrivals.copy_async({"loss": elsewhere()}), arrivals.copy_async({"loss": elsewhere()})
    device.parcels[1].here = True
    assert (first.values(), second.values()) == ({}, {"loss": 1.0})
    device.parcels[0].here = True
    assert (first.values(), second.values()) == ({"loss": 0.0}, {"loss": 1.0})


def test_no_metrics_have_arrived_as_soon_as_they_are_offered() -> None:
    arrival = HostTransfer().copy_async({})
    assert arrival.arrived
    assert arrival.values() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("own_stream", [False, True])
def test_a_number_comes_from_the_gpu_after_the_kernels_before_it_without_waiting(own_stream: bool) -> None:
    """Asked by another thread than the one that trains, which may work in a stream of its own."""
    stream = torch.cuda.Stream() if own_stream else torch.cuda.default_stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        loss = torch.zeros((), device="cuda")
        arrivals = HostTransfer()
        torch.cuda.synchronize()
        torch.cuda._sleep(1_000_000_000)  # type: ignore[no-untyped-call]
        loss.add_(3.0)
        found = []

        def ask() -> None:
            arrival = arrivals.copy_async({"loss": loss})
            found.append((arrival, arrival.arrived, arrival.values()))

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
        [(arrival, arrived, values)] = found
        assert (arrived, values) == (False, {})
        torch.cuda.synchronize()
        assert arrival.arrived
        assert arrival.values() == {"loss": 3.0}
