"""Snapshots: copy a state to host memory, fast, so that training can continue while it is written."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, Unnamed

MIN_MAPPED_BYTES = 2**16  # of a tensor; its copy has a memory mapping of its own


class SpareMemory:
    """The memory of copies that are no longer needed: fresh memory costs several times more."""

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self._free: dict[tuple[Any, ...], list[Tensor]] = {}
        for tensor in tensors:
            self._free.setdefault((tensor.dtype, tensor.shape, tensor.is_pinned()), []).append(tensor)

    def take(self, tensor: Tensor) -> Tensor | None:
        """Return memory for the copy of a tensor, if there is any that fits; it is pinned for those on CUDA."""
        free = self._free.get((tensor.dtype, tensor.shape, tensor.is_cuda))
        return free.pop() if free else None

    def clear(self) -> None:
        """Free what has not been taken."""
        self._free.clear()


@frozen(eq=False)
class Snapshot:
    """An encoded copy of a state in host memory, with its metadata.

    Copies from devices may still be under way.
    """

    unnamed: Unnamed
    metadata: dict[str, Any]
    copy_events: tuple[torch.cuda.Event, ...] = ()

    def wait(self) -> None:
        """Wait until all copies have arrived."""
        for event in self.copy_events:
            event.synchronize()

    def named(self) -> Encoded:
        """Return the copy with the names of its tensors."""
        return self.unnamed.named()

    def spare_memory(self) -> SpareMemory:
        """Return the memory of the copies, which are no longer needed."""
        self.wait()
        return SpareMemory(stored.tensor for stored in self.unnamed.tensors)


def take_snapshot(encoded: Unnamed, metadata: dict[str, Any], spare: SpareMemory | None = None) -> Snapshot:
    """Copy an encoded state to host memory. The copies take the places of its tensors.

    Copies from CUDA go to pinned memory, in the current stream; the host does not wait for them.

    Args:
        encoded: The state.
        metadata: What the manifest will say about it, encoded.
        spare: Memory to use. What does not fit is freed before more is allocated.
    """
    tensors = [stored.tensor for stored in encoded.tensors]
    copies = [spare.take(tensor) if spare is not None else None for tensor in tensors]
    if spare is not None:
        spare.clear()
    with torch.no_grad():
        for stored, copy in zip(encoded.tensors, copies, strict=True):
            stored.tensor = _host_memory(stored.tensor) if copy is None else copy
        devices = _copy(tensors, [stored.tensor for stored in encoded.tensors])
    events = tuple(torch.cuda.current_stream(device).record_event() for device in devices)
    return Snapshot(encoded, metadata, events)


def _copy(tensors: list[Tensor], copies: list[Tensor]) -> set[torch.device]:
    """Copy tensors, those of the host together: one by one, thousands take five times as long.

    Returns:
        The CUDA devices that copy meanwhile.
    """
    on_cuda = [(copy, tensor) for copy, tensor in zip(copies, tensors, strict=True) if tensor.is_cuda]
    for copy, tensor in on_cuda:
        copy.copy_(tensor.contiguous(), non_blocking=True)
    if on_cuda:
        pairs = [(copy, tensor) for copy, tensor in zip(copies, tensors, strict=True) if not tensor.is_cuda]
        copies, tensors = [copy for copy, _ in pairs], [tensor for _, tensor in pairs]
    if tensors:
        torch._foreach_copy_(copies, tensors)
    return {tensor.device for _, tensor in on_cuda}


def _host_memory(tensor: Tensor) -> Tensor:
    """Return new memory for a copy.

    Large copies get a memory mapping each, not memory of the heap. There they would end up behind the gradients, which could
    no longer grow and shrink at its end: with 2.5 million parameters, each later batch took 10% longer.
    """
    if tensor.is_cuda:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    if tensor.nbytes < MIN_MAPPED_BYTES:
        return torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format)
    mapped = torch.frombuffer(mmap.mmap(-1, tensor.nbytes), dtype=torch.uint8)
    return mapped.view(tensor.dtype).view(tensor.shape)
