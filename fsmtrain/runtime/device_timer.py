"""GPU time per state: CUDA events before and after each action, read without waiting.

A visit is measured from the moment the device reaches its first operation until it has finished the last one, so a device that
waits for the host in between counts as busy. A sample of the visits is measured, and stands for all. On the CPU nothing is
measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from fsmtrain.core.dispatcher import Action, Timing
from fsmtrain.core.states import State

FULLY_MEASURED_VISITS = 64  # of each state, from its first one on
SAMPLING_PERIOD = 16  # of the visits after these, one in so many is measured
MAX_PENDING_MEASUREMENTS = 512  # that the device has not passed; beyond these no visit is measured


class StreamEvent(Protocol):
    """A mark in a device's stream, such as ``torch.cuda.Event``."""

    def record(self) -> None:
        """Put the mark behind everything that has been asked of the device."""
        ...

    def query(self) -> bool:
        """Return whether the device has passed the mark."""
        ...

    def elapsed_time(self, end: Any, /) -> float:
        """Return the milliseconds to a later event, once the device has passed both."""
        ...


class _Measurements:
    """The measurements of one state."""

    def __init__(self) -> None:
        self.visits = self.samples = 0
        self.milliseconds = 0.0


class DeviceTimer:
    """Measures the states whose actions are wrapped by `wrap`.

    Args:
        make_event: Makes an event.
    """

    def __init__(self, make_event: Callable[[], StreamEvent]) -> None:
        self._make_event = make_event
        self._states: dict[State, _Measurements] = {}
        self._pending: deque[tuple[_Measurements, StreamEvent, StreamEvent]] = deque()
        self._reusable: list[StreamEvent] = []

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Put an event before and after the action of every state."""
        return {state: self._timed(state, action) for state, action in actions.items()}

    def _timed(self, state: State, action: Action) -> Action:
        measurements = self._states[state] = _Measurements()

        def timed_action() -> None:
            measurements.visits += 1
            is_skipped = measurements.visits > FULLY_MEASURED_VISITS and measurements.visits % SAMPLING_PERIOD
            if is_skipped or len(self._pending) >= MAX_PENDING_MEASUREMENTS:
                action()
                return
            if len(self._pending) >= MAX_PENDING_MEASUREMENTS // 2:
                self._collect()
            reusable = self._reusable
            begin = reusable.pop() if reusable else self._make_event()
            end = reusable.pop() if reusable else self._make_event()
            begin.record()
            action()
            end.record()
            self._pending.append((measurements, begin, end))

        return timed_action

    def times(self) -> dict[State, Timing]:
        """Return the visits of each state and their seconds on the device, as far as known, without waiting."""
        self._collect()
        return {
            state: Timing(measured.visits, measured.milliseconds / 1e3 / measured.samples * measured.visits)
            for state, measured in self._states.items()
            if measured.samples
        }

    def _collect(self) -> None:
        """Read the measurements that the device has passed, in their order."""
        while True:
            try:
                entry = self._pending.popleft()
            except IndexError:
                return
            measurements, begin, end = entry
            if not end.query():
                self._pending.appendleft(entry)
                return
            measurements.milliseconds += begin.elapsed_time(end)
            measurements.samples += 1
            self._reusable += (begin, end)


def device_timer(device: torch.device) -> DeviceTimer | None:
    """Return the timer of a device; None for one whose work is done when its call returns, as on the CPU."""
    if device.type != "cuda":
        return None
    return DeviceTimer(lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
