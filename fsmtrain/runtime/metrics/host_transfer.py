"""Asynchronous device-to-host copies of metrics: any thread may poll, nothing blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, number


class PendingCopy(Protocol):
    """A copy of some numbers from a device."""

    def arrived(self) -> bool:
        """Return whether `values` can be read without waiting."""
        ...

    def values(self) -> list[float]:
        """Return the numbers."""
        ...


StartCopy = Callable[[Sequence[Tensor]], PendingCopy]  # takes tensors of one dtype, each with one element, on one device


class PendingMetrics:
    """Metrics as of one moment, being copied to the host."""

    def __init__(self, metrics: Mapping[str, float | PendingCopy]) -> None:
        self._metrics = metrics

    @property
    def arrived(self) -> bool:
        """Whether all have arrived. Does not wait."""
        return all(isinstance(metric, float) or metric.arrived() for metric in self._metrics.values())

    def values(self) -> dict[str, float]:
        """Return those that have arrived, in their order."""
        arrived = {}
        for name, metric in self._metrics.items():
            if isinstance(metric, float):
                arrived[name] = metric
            elif metric.arrived():
                [arrived[name]] = metric.values()
        return arrived


class PendingScalars:
    """A sequence of numbers, being copied to the host together.

    Args:
        values: The numbers in their order; None for those that are being copied.
        copies: The copies, each with the positions of its numbers.
    """

    def __init__(self, values: list[float | None], copies: Sequence[tuple[PendingCopy, Sequence[int]]]) -> None:
        self._values, self._copies = values, copies

    @property
    def arrived(self) -> bool:
        """Whether all have arrived. Does not wait."""
        return all(copy.arrived() for copy, _ in self._copies)

    def numbers(self) -> list[float]:
        """Return the numbers, once they have arrived."""
        numbers = list(self._values)
        for copy, positions in self._copies:
            for position, value in zip(positions, copy.values(), strict=True):
                numbers[position] = value
        return [value for value in numbers if value is not None]


class HostTransfer:
    """Copies metrics to the host.

    The training thread makes it when the run begins; any thread may then use it.

    While CUDA graphs are captured in the mode ``"global"``, no other thread may use the device, here as elsewhere.
    ``torch.compile`` does not capture in that mode.

    Args:
        start_copy: Starts a copy, by type of device; None for the default. A number on a device of another type is read at
            once, which blocks for as long as such a read does.
    """

    def __init__(self, start_copy: Mapping[str, StartCopy] | None = None) -> None:
        self._start_copy = {"cuda": _CopyFromCuda()} if start_copy is None else start_copy

    def copy_async(self, metrics: Metrics) -> PendingMetrics:
        """Start to copy metrics with their present values."""
        return PendingMetrics({name: self._copy(value) for name, value in metrics.items()})

    def copy_batch_async(self, values: Sequence[Scalar]) -> PendingScalars:
        """Start to copy many numbers with their present values, in one copy per device and dtype."""
        on_host: list[float | None] = []
        groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for position, value in enumerate(values):
            if isinstance(value, Tensor) and value.device.type in self._start_copy:
                groups.setdefault((value.device, value.dtype), []).append(position)
                on_host.append(None)
            else:
                on_host.append(number(value))
        copies = []
        for (device, _), positions in groups.items():
            tensors = [value for position in positions if isinstance(value := values[position], Tensor)]
            copies.append((self._start_copy[device.type](tensors), positions))
        return PendingScalars(on_host, copies)

    def _copy(self, value: Scalar) -> float | PendingCopy:
        start_copy = self._start_copy.get(value.device.type) if isinstance(value, Tensor) else None
        return number(value) if start_copy is None or not isinstance(value, Tensor) else start_copy([value])


class _CopyFromCuda:
    """Starts copies to pinned memory, in the streams current in the thread that makes this object.

    In such a stream the copy comes after the kernels that compute the number. In the polling thread's own stream it would not,
    and could read memory that is not written yet, or has been reused.
    """

    def __init__(self) -> None:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
        self._streams = [torch.cuda.current_stream(index) for index in devices]

    def __call__(self, tensors: Sequence[Tensor]) -> PendingCopy:
        device = tensors[0].device
        return _CudaCopy(tensors, self._streams[device.index] if self._streams else torch.cuda.current_stream(device))


class _CudaCopy:
    """A copy of numbers to pinned memory, and the event after it in its stream."""

    def __init__(self, tensors: Sequence[Tensor], stream: torch.cuda.Stream) -> None:
        self._sources = tensors  # kept, so that their memory is not reused before the copy is made
        self._host = torch.empty(len(tensors), dtype=tensors[0].dtype, pin_memory=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream), torch.no_grad():
            self._gathered = torch.cat([tensor.detach().reshape(1) for tensor in tensors])
            self._host.copy_(self._gathered, non_blocking=True)
            self._event.record(stream)

    def arrived(self) -> bool:
        """Return whether the device has passed the event."""
        return bool(self._event.query())  # type: ignore[no-untyped-call]

    def values(self) -> list[float]:
        """Return the numbers, once they have arrived."""
        return [float(value) for value in self._host.tolist()]
