"""Copies of a model's outputs on the host. The host never waits for the device between two batches."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fsmtrain.errors import ModelError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.nested_tensors import map_nested

K = TypeVar("K")


class HostCopies(Generic[K]):
    """Values whose tensors are being copied to the host, each under a key, in the order in which they were added.

    A CUDA device copies what it has computed to pinned memory, in the order of its stream, and goes on. What has arrived is
    moved to memory of its own, so that little memory is pinned. Tensors of other devices are read at once, and those of the
    CPU are copied, too: the model may write to their memory again.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[K, Any, list[torch.cuda.Event]]] = deque()

    def add(self, key: K, value: Any) -> None:
        """Start to copy a nest of tensors. What is neither a tensor nor has a method ``to`` is kept as it is.

        Raises:
            ModelError: A part of it cannot be copied to the host.
        """
        devices: set[torch.device] = set()

        def to_host(part: Any) -> Any:
            if not isinstance(part, Tensor):
                return _moved(part)
            part = part.detach()
            if part.device.type == "cpu":
                return part.clone()
            if part.device.type != "cuda" or type(part) is not Tensor or part.layout is not torch.strided:
                return _moved(part)
            devices.add(part.device)
            pinned = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
            return pinned.copy_(part, non_blocking=True)

        copy = map_nested(to_host, value, _moves_itself)
        self._pending.append((key, copy, [_event(device) for device in devices]))

    def pop_arrived(self, *, wait: bool = False) -> list[tuple[K, Any]]:
        """Return the values that have arrived, in order, and forget them. With `wait`, wait for all."""
        arrived = []
        while self._pending:
            key, value, events = self._pending[0]
            if wait:
                for event in events:
                    event.synchronize()
            elif not all(event.query() for event in events):  # type: ignore[no-untyped-call]
                break
            self._pending.popleft()
            arrived.append((key, map_nested(_out_of_pinned_memory, value) if events else value))
        return arrived


def _moves_itself(part: Any) -> bool:
    return callable(getattr(part, "to", None)) and not isinstance(part, PackedSequence)  # which is a tuple of tensors


def _moved(part: Any) -> Any:
    try:
        return part.to("cpu")
    except Exception as error:  # any: the method may be the user's
        raise ModelError(
            f"an output, {a_type_of(part)}, cannot be copied to the host: {type(error).__name__}: {error}. Return tensors, or "
            f"lists, tuples and dicts of them."
        ) from error


def _event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _out_of_pinned_memory(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_pinned() else tensor
