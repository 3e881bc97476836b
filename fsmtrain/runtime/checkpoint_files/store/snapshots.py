"""A state as it is at one moment: copied fast, so that training can go on while it is written."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, encode
from fsmtrain.runtime.checkpoint_files.store.manifest import encode_metadata

MIN_MAPPED_BYTES = 2**16  # bytes of a tensor


@frozen(eq=False)
class Snapshot:
    """A copy of a state in the host's memory, encoded, with what it is of. Copies from devices may still be under way."""

    encoded: Encoded
    metadata: dict[str, Any]
    copy_events: tuple[torch.cuda.Event, ...] = ()

    def wait(self) -> None:
        """Return when all copies have arrived."""
        for event in self.copy_events:
            event.synchronize()


def take_snapshot(tree: Any, metadata: Mapping[str, Any], reuse: Snapshot | None = None) -> Snapshot:
    """Copy a state. The memory of a snapshot that is of no more use may be used again: fresh memory costs several times more.

    Copies from CUDA run behind what the current stream has to do, into pinned memory; the host does not wait for them.

    Raises:
        CodecError: The state, or what it is of, holds something that cannot be saved.
    """
    return copy_encoded(encode(tree), encode_metadata(metadata), reuse)


def copy_encoded(encoded: Encoded, metadata: dict[str, Any], reuse: Snapshot | None = None) -> Snapshot:
    """The same of a state that is encoded already."""
    spare = reuse.encoded.tensors if reuse is not None else {}
    if reuse is not None:
        reuse.wait()
    devices: set[torch.device] = set()
    tensors = {}
    with torch.no_grad():
        for name, tensor in encoded.tensors.items():
            target = _host_memory(spare.get(name), tensor)
            if tensor.is_cuda:
                target.copy_(tensor.contiguous(), non_blocking=True)
                devices.add(tensor.device)
            else:
                target.copy_(tensor)
            tensors[name] = target
    events = tuple(torch.cuda.current_stream(device).record_event() for device in devices)
    return Snapshot(Encoded(encoded.skeleton, tensors), metadata, events)


def _host_memory(spare: Tensor | None, tensor: Tensor) -> Tensor:
    """Memory for a copy: the spare one if it fits.

    Large copies are mapped on their own and not taken from the heap. They would come to lie behind the gradients there, which
    then no longer grow and shrink at its end: with 2.5 million parameters each later batch took a tenth longer.
    """
    pinned = tensor.is_cuda
    fits = spare is not None and spare.dtype == tensor.dtype and spare.shape == tensor.shape
    if spare is not None and fits and (not pinned or spare.is_pinned()):
        return spare
    if pinned or tensor.nbytes < MIN_MAPPED_BYTES:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
    mapped = torch.frombuffer(mmap.mmap(-1, tensor.nbytes), dtype=torch.uint8)
    return mapped.view(tensor.dtype).view(tensor.shape)
