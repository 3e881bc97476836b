"""The time of a GPU in each state, with a device and a clock that are set by hand."""

from __future__ import annotations

import pytest
import torch

from fsmtrain.core.states import State
from fsmtrain.runtime import device_timer as module
from fsmtrain.runtime.device_timer import DeviceTimer, device_timer
from tests.models import Linear, batches, trained


class Device:
    """A device that does its work later, when it is told to."""

    def __init__(self) -> None:
        self.asked, self.done, self.made = 0.0, 0.0, 0

    def event(self) -> Event:
        self.made += 1
        return Event(self)


class Event:
    """A mark behind the work that has been asked for so far."""

    def __init__(self, device: Device) -> None:
        self.device, self.at = device, -1.0

    def record(self) -> None:
        self.at = self.device.asked

    def query(self) -> bool:
        return self.device.done >= self.at

    def elapsed_time(self, end: Event, /) -> float:
        assert self.query()
        assert end.query(), "somebody read a time that the device has not come to"
        return end.at - self.at


def test_a_measurement_is_read_once_the_device_has_passed_it() -> None:
    device = Device()
    times = DeviceTimer(device.event)

    def work() -> None:
        device.asked += 2.0  # ms

    forward, backward = (
        times.wrap({State.TRAIN_BATCH: work})[State.TRAIN_BATCH],
        times.wrap({State.BACKWARD: work})[State.BACKWARD],
    )
    for _ in range(3):
        forward()
        backward()
        backward()
    assert times.times() == {}
    device.done = 6.0
    assert times.times()[State.TRAIN_BATCH].seconds == pytest.approx(0.006)  # one has passed, and stands for all three
    device.done = device.asked
    told = times.times()
    assert (told[State.TRAIN_BATCH].count, told[State.BACKWARD].count) == (3, 6)
    assert told[State.TRAIN_BATCH].seconds == pytest.approx(0.006)
    assert told[State.BACKWARD].seconds == pytest.approx(0.012)


def test_a_sample_of_many_visits_is_measured_and_events_are_reused() -> None:
    device = Device()
    times = DeviceTimer(device.event)

    def work() -> None:
        device.asked += 1.0
        device.done = device.asked

    visit = times.wrap({State.STEP: work})[State.STEP]
    for _ in range(10 * module.FULLY_MEASURED_VISITS):
        visit()
        times.times()
    assert device.made == 2
    first = module.FULLY_MEASURED_VISITS
    assert times._states[State.STEP].samples == first + 9 * first // module.SAMPLING_PERIOD
    assert times.times()[State.STEP].seconds == pytest.approx(10 * first / 1e3)


def test_with_too_many_pending_measurements_no_visit_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_MEASUREMENTS", 10)
    device = Device()
    times = DeviceTimer(device.event)
    visit = times.wrap({State.STEP: lambda: None})[State.STEP]
    device.done = -1.0
    for _ in range(50):
        visit()
    assert device.made == 20


def test_on_the_cpu_there_is_no_device_timer() -> None:
    assert device_timer(torch.device("cpu")) is None
    assert trained(Linear(), batches(2), max_nb_epochs=1).device_times == {}
