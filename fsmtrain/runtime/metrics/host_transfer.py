"""Metrics on their way from a device to the host, without anybody waiting for the device.

Made for views, which look at a run from a thread of their own. What is done with the numbers does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, number


class PendingCopy(Protocol):
    """Numbers that were asked of a device."""

    def arrived(self) -> bool:
        """Whether `values` can be read without waiting."""
        ...

    def values(self) -> list[float]:
        """The numbers."""
        ...


Send = Callable[[Sequence[Tensor]], PendingCopy]  # tensors of one dtype, each with one element, on one device


class PendingMetrics:
    """The metrics of one moment, on their way to the host."""

    def __init__(self, metrics: Mapping[str, float | PendingCopy]) -> None:
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
                [here[name]] = metric.values()
        return here


class PendingScalars:
    """Many numbers on their way to the host together, in an order of their own.

    Args:
        here: Those that are there already, in their places; None where one is on its way.
        sent: Those that are on their way, with their places.
    """

    def __init__(self, here: list[float | None], sent: Sequence[tuple[PendingCopy, Sequence[int]]]) -> None:
        self._here, self._sent = here, sent

    @property
    def arrived(self) -> bool:
        """Whether all of them are there. Asking waits for nothing."""
        return all(sent.arrived() for sent, _ in self._sent)

    def numbers(self) -> list[float]:
        """The numbers, once they have arrived."""
        numbers = list(self._here)
        for sent, places in self._sent:
            for place, value in zip(places, sent.values(), strict=True):
                numbers[place] = value
        return [value for value in numbers if value is not None]


class HostTransfer:
    """Sends metrics to the host. To be made by the thread that trains, when its run begins; any thread may then ask.

    Args:
        send: How a number is asked of a device, by the device's type. What lies on any other device is read at once, which
            waits where such a read waits.

    While CUDA graphs are captured in the mode ``"global"`` nothing may be asked from another thread, here as elsewhere. The
    captures of ``torch.compile`` are not in that mode.
    """

    def __init__(self, send: Mapping[str, Send] | None = None) -> None:
        self._send = {"cuda": _FromCuda()} if send is None else send

    def copy_async(self, metrics: Metrics) -> PendingMetrics:
        """Send the metrics as they are now."""
        return PendingMetrics({name: self._start(value) for name, value in metrics.items()})

    def copy_batch_async(self, values: Sequence[Scalar]) -> PendingScalars:
        """Send many numbers as they are now, in one copy for each device and dtype."""
        here: list[float | None] = []
        groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for place, value in enumerate(values):
            if isinstance(value, Tensor) and value.device.type in self._send:
                groups.setdefault((value.device, value.dtype), []).append(place)
                here.append(None)
            else:
                here.append(number(value))
        sent = []
        for (device, _), places in groups.items():
            tensors = [value for place in places if isinstance(value := values[place], Tensor)]
            sent.append((self._send[device.type](tensors), places))
        return PendingScalars(here, sent)

    def _start(self, value: Scalar) -> float | PendingCopy:
        send = self._send.get(value.device.type) if isinstance(value, Tensor) else None
        return number(value) if send is None or not isinstance(value, Tensor) else send([value])


class _FromCuda:
    """Copies to pinned memory, in the streams in which this thread works when the object is made.

    In that stream a copy comes after the kernels that compute the number. In the own stream of the thread that asks it would
    not, and could find the number's memory unwritten or used for something else.
    """

    def __init__(self) -> None:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        self._streams = [torch.cuda.current_stream(index) for index in devices]

    def __call__(self, tensors: Sequence[Tensor]) -> PendingCopy:
        device = tensors[0].device
        return _Copy(tensors, self._streams[device.index] if self._streams else torch.cuda.current_stream(device))


class _Copy:
    """A copy of numbers to pinned memory, and the event that comes after it in its stream."""

    def __init__(self, tensors: Sequence[Tensor], stream: torch.cuda.Stream) -> None:
        self._sources = tensors  # their memory is not to be used again before the copy has been made
        self._host = torch.empty(len(tensors), dtype=tensors[0].dtype, pin_memory=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream), torch.no_grad():
            self._gathered = torch.cat([tensor.detach().reshape(1) for tensor in tensors])
            self._host.copy_(self._gathered, non_blocking=True)
            self._event.record(stream)

    def arrived(self) -> bool:
        """Whether the device has passed the event."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def values(self) -> list[float]:
        """The numbers, once they have arrived."""
        return [float(value) for value in self._host.tolist()]
