"""The time that a GPU spends in each state: from events in its stream, which are read when they have passed.

A visit is measured from the moment at which the device comes to its first operation to that at which it leaves the last one,
so a device that waits for the host in between is not idle here. Of many visits some are measured, and stand for the others.
Nothing here is made for a run on the CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import torch

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State

FIRST = 64  # visits of each state that are all measured
EVERY = 16  # of the later ones, every so manieth is
LIMIT = 512  # measurements that have not passed yet; beyond these nothing new is measured

Action = Callable[[], None]


class Event(Protocol):
    """A mark in a device's stream, as ``torch.cuda.Event`` is one."""

    def record(self) -> None:
        """Put the mark behind what has been asked of the device so far."""
        ...

    def query(self) -> bool:
        """Whether the device has passed it."""
        ...

    def elapsed_time(self, end: Any, /) -> float:
        """The milliseconds from here to a later event, once both have passed."""
        ...


class _Measured:
    """The measurements of one state."""

    def __init__(self) -> None:
        self.visits = self.samples = 0
        self.milliseconds = 0.0


class DeviceTimes:
    """Measures the states whose actions go through `timed`.

    Args:
        make: Makes an event.
    """

    def __init__(self, make: Callable[[], Event]) -> None:
        self._make = make
        self._states: dict[State, _Measured] = {}
        self._under_way: deque[tuple[_Measured, Event, Event]] = deque()
        self._free: list[Event] = []

    def timed(self, state: State, action: Action) -> Action:
        """The action of a state, with marks around it."""
        measured = self._states[state] = _Measured()

        def visit() -> None:
            measured.visits += 1
            if (measured.visits > FIRST and measured.visits % EVERY) or len(self._under_way) >= LIMIT:
                action()
                return
            if len(self._under_way) >= LIMIT // 2:
                self._collect()
            free = self._free
            begin = free.pop() if free else self._make()
            end = free.pop() if free else self._make()
            begin.record()
            action()
            end.record()
            self._under_way.append((measured, begin, end))

        return visit

    def times(self) -> dict[State, Timing]:
        """The visits to each state and what they took the device, in seconds, as far as it is known. Waits for nothing."""
        self._collect()
        return {
            state: Timing(measured.visits, measured.milliseconds / 1e3 / measured.samples * measured.visits)
            for state, measured in self._states.items()
            if measured.samples
        }

    def _collect(self) -> None:
        """Read the measurements that have passed, in their order."""
        while True:
            try:
                entry = self._under_way.popleft()
            except IndexError:
                return
            measured, begin, end = entry
            if not end.query():
                self._under_way.appendleft(entry)
                return
            measured.milliseconds += begin.elapsed_time(end)
            measured.samples += 1
            self._free += (begin, end)


def device_times(device: torch.device) -> DeviceTimes | None:
    """What measures a device; None for one whose work is done when its call returns."""
    if device.type != "cuda":
        return None
    return DeviceTimes(lambda: torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
