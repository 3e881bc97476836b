"""Copies of a model's outputs on the host. The host never waits for the device between two batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.nested_tensors import map_nested

K = TypeVar("K")


class Arrival(Protocol):
    """When a copy has been made: torch's event of a stream."""

    def query(self) -> bool:
        """Return whether it has. Does not wait."""
        ...

    def synchronize(self) -> None:
        """Wait for it."""
        ...


StartCopy = Callable[[Tensor], tuple[Tensor, Arrival]]


class HostCopies(Generic[K]):
    """Values whose tensors are being copied to the host, each under a key, in the order in which they were added.

    A CUDA device copies what it has computed to pinned memory, in the order of its stream, and goes on. What has arrived is
    moved to memory of its own, so that little memory is pinned. Tensors of other devices are read at once, and those of the
    CPU are copied, too, and so are arrays of numpy: the model may write to their memory again.

    Args:
        start_copy: Starts the copy of a plain tensor, by type of device; None for the default.
    """

    def __init__(self, start_copy: Mapping[str, StartCopy] | None = None) -> None:
        self._start_copy = {"cuda": _copy_from_cuda} if start_copy is None else start_copy
        self._pending: deque[tuple[K, Any, list[Arrival]]] = deque()

    def add(self, key: K, value: Any) -> None:
        """Start to copy a nest of tensors. Arrays are copied, too; what else has no method ``to`` is kept as it is.

        Raises:
            ModelError: A part of it cannot be copied to the host.
        """
        arrivals: list[Arrival] = []

        def to_host(part: Any) -> Any:
            if isinstance(part, np.ndarray):
                return part.copy()
            if not isinstance(part, Tensor):
                return _moved(part)
            part = part.detach()
            start_copy = self._start_copy.get(part.device.type)
            if start_copy is not None and type(part) is Tensor and part.layout is torch.strided:
                copy, arrival = start_copy(part)
                arrivals.append(arrival)
                return copy
            return part.clone() if part.device.type == "cpu" else _moved(part)

        copy = map_nested(to_host, value, _is_copied)
        self._pending.append((key, copy, arrivals))

    def pop_arrived(self, *, wait: bool = False) -> list[tuple[K, Any]]:
        """Return the values that have arrived, in order, and forget them. With `wait`, wait for all."""
        arrived = []
        while self._pending:
            key, value, arrivals = self._pending[0]
            if wait:
                for arrival in arrivals:
                    arrival.synchronize()
            elif not all(arrival.query() for arrival in arrivals):
                break
            self._pending.popleft()
            arrived.append((key, map_nested(_out_of_pinned_memory, value) if arrivals else value))
        return arrived


def _copy_from_cuda(tensor: Tensor) -> tuple[Tensor, Arrival]:
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(tensor.device))
    return pinned, event


def _is_copied(part: Any) -> bool:
    moves_itself = callable(getattr(part, "to", None)) and not isinstance(part, PackedSequence)  # which is a tuple of tensors
    return moves_itself or isinstance(part, np.ndarray)


def _moved(part: Any) -> Any:
    try:
        return part.to("cpu")
    except Exception as error:  # any: the method may be the user's
        raise ModelError(
            f"an output, {a_type_of(part)}, cannot be copied to the host: {type(error).__name__}: {error}. Return tensors, or "
            f"lists, tuples and dicts of them."
        ) from error


def _out_of_pinned_memory(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_pinned() else tensor
