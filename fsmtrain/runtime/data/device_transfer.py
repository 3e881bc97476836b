"""Feeds the device: a batch is copied to it beside its work, while it still computes on the batch before.

The host is ahead of a GPU: it asks for the next copy while the last batch is still being computed. In the stream that computes,
the copy would come after all of that, and from memory that is not pinned the host would wait for it. So copies are made in a
stream of their own, and the one that computes waits for them, on the device. No batch is fetched ahead of its time for it.

A batch from pinned memory (``DataLoader(pin_memory=True)``) keeps the host for no longer than it takes to ask; from any other
memory for as long as the copy itself takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fsmtrain.runtime.data.nested import move_to
from fsmtrain.runtime.metrics.step_outputs import tensors_in


class CopyStream(Protocol):
    """A queue of copies beside the queue in which a device computes."""

    def copying(self) -> AbstractContextManager[Any]:
        """A context in which what is asked of the device goes into this queue."""
        ...

    def hand_over(self, tensors: Iterable[Tensor]) -> None:
        """Let the device compute with these only once they are there, and keep their memory until it has."""
        ...


class CudaCopyStream:
    """A second stream of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copying(self) -> AbstractContextManager[Any]:
        """What is copied in it is copied beside the GPU's own work."""
        return torch.cuda.stream(self._stream)

    def hand_over(self, tensors: Iterable[Tensor]) -> None:
        """The GPU waits, and the host does not."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for tensor in tensors:
            if tensor.is_cuda:
                tensor.record_stream(computing)


def batch_mover(device: torch.device, lane: CopyStream | None = None) -> Callable[[Any], Any] | None:
    """The function that brings a batch to a device; None for the CPU, where batches are already.

    Args:
        device: Where the run happens.
        lane: Where copies are made; the default is a second stream where the device is a GPU of CUDA's, and else none.
    """
    if device.type == "cpu":
        return None
    if lane is None and device.type == "cuda":
        lane = CudaCopyStream(device)
    if lane is None:
        return lambda batch: move_to(batch, device)

    def feed(batch: Any) -> Any:
        if not _comes_from_the_host(batch):
            return move_to(batch, device)
        with lane.copying():
            moved = move_to(batch, device)
        lane.hand_over(tensors_in(moved))
        return moved

    return feed


def _comes_from_the_host(batch: Any) -> bool:
    """Whether all tensors of a batch are known and in the host's memory.

    An object that moves itself may hold others, whose memory would be used again while the device still computes with it;
    and what is on a device already may not have been computed yet.
    """
    if isinstance(batch, (Tensor, PackedSequence)):
        return not any(tensor.device.type != "cpu" for tensor in tensors_in(batch))
    if callable(getattr(batch, "to", None)):
        return False
    if isinstance(batch, Mapping):
        return all(map(_comes_from_the_host, batch.values()))
    if isinstance(batch, (tuple, list)):
        return all(map(_comes_from_the_host, batch))
    return True
