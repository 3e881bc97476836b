"""Metrics on their way from a device to the host, without anybody waiting for the device.

Made for views, which look at a run from a thread of their own. What is done with the numbers does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from fsmtrain.runtime.outputs import Metrics, number


class Sent(Protocol):
    """A number that was asked of a device."""

    def arrived(self) -> bool:
        """Whether `value` can be read without waiting."""
        ...

    def value(self) -> float:
        """The number."""
        ...


Send = Callable[[Tensor], Sent]


class Arrival:
    """The metrics of one moment, on their way to the host."""

    def __init__(self, metrics: Mapping[str, float | Sent]) -> None:
        self._metrics = metrics

    @property
    def arrived(self) -> bool:
        """Whether all of them are there. Asking waits for nothing."""
        return all(isinstance(metric, float) or metric.arrived() for metric in self._metrics.values())

    def values(self) -> dict[str, float]:
        """Those that are there, in the order in which they were offered."""
        here = {}
        for name, metric in self._metrics.items():
            if isinstance(metric, float):
                here[name] = metric
            elif metric.arrived():
                here[name] = metric.value()
        return here


class Arrivals:
    """Sends metrics to the host. To be made by the thread that trains, when its run begins; any thread may then ask.

    Args:
        send: How a number is asked of a device, by the device's type. What lies on any other device is read at once, which
            waits where such a read waits.

    While CUDA graphs are captured in the mode ``"global"`` nothing may be asked from another thread, here as elsewhere. The
    captures of ``torch.compile`` are not in that mode.
    """

    def __init__(self, send: Mapping[str, Send] | None = None) -> None:
        self._send = {"cuda": _FromCuda()} if send is None else send

    def offer(self, metrics: Metrics) -> Arrival:
        """Send the metrics as they are now."""
        return Arrival({name: self._start(value) for name, value in metrics.items()})

    def _start(self, value: Tensor | float) -> float | Sent:
        send = self._send.get(value.device.type) if isinstance(value, Tensor) else None
        return number(value) if send is None else send(value)  # type: ignore[arg-type]


class _FromCuda:
    """Copies to pinned memory, in the streams in which this thread works when the object is made.

    In that stream a copy comes after the kernels that compute the number. In the own stream of the thread that asks it would
    not, and could find the number's memory unwritten or used for something else.
    """

    def __init__(self) -> None:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        self._streams = [torch.cuda.current_stream(index) for index in devices]

    def __call__(self, value: Tensor) -> Sent:
        return _Copy(value, self._streams[value.device.index] if self._streams else torch.cuda.current_stream(value.device))


class _Copy:
    """One number's copy to pinned memory, and the event that comes after it in its stream."""

    def __init__(self, value: Tensor, stream: torch.cuda.Stream) -> None:
        self._source = value  # its memory is not to be used again before the copy has been made
        self._host = torch.empty((), dtype=value.dtype, pin_memory=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            self._host.copy_(value.detach().reshape(()), non_blocking=True)
            self._event.record(stream)

    def arrived(self) -> bool:
        """Whether the device has passed the event."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def value(self) -> float:
        """The number, once it has arrived."""
        return float(self._host.item())
