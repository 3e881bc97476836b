"""Host-to-device copies: move a batch to the GPU, in a CUDA stream beside the computation.

The host runs ahead of a GPU: it asks for the next copy while the last batch is still being computed. In the computing stream
the copy would wait for that, and from memory that is not pinned the host would wait for it too. So copies are made in a second
stream, and the computing stream waits for them on the device. No batch is fetched earlier for this.

A batch from pinned memory (``DataLoader(pin_memory=True)``) occupies the host only for the launch; from other memory, for the
whole copy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fsmtrain.errors import ModelError
from fsmtrain.runtime.data.data_modules import own_method
from fsmtrain.runtime.nested_tensors import children, iter_tensors, map_nested


class CopyStream:
    """A second CUDA stream of a GPU, for copies beside its computation."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copying(self) -> AbstractContextManager[Any]:
        """Return a context in which the GPU's operations go into this stream."""
        return torch.cuda.stream(self._stream)

    def synchronize_with(self, tensors: Iterable[Tensor]) -> None:
        """Make the GPU, not the host, wait for these copies, and keep their memory until it has used them."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        for tensor in tensors:
            if tensor.is_cuda:
                tensor.record_stream(computing)


def batch_mover(
    device: torch.device, stream: CopyStream | None = None, *, hook: Callable[..., Any] | None = None
) -> Callable[[Any], Any] | None:
    """Return the function that moves a batch to a device; None for the CPU, where batches are already.

    Args:
        device: The device that trains.
        stream: The stream for the copies. None: a new one if the device is a CUDA GPU, else none.
        hook: The model's own ``transfer_batch_to_device``, which moves each batch instead, also if the device is the CPU. Its
            copies are made in the computing stream, as nothing is known of the tensors that it moves.
    """
    if hook is not None:
        return partial(_call_hook, hook, device=device)
    if device.type == "cpu":
        return None
    if stream is None and device.type == "cuda":
        stream = CopyStream(device)

    def move(batch: Any) -> Any:
        if stream is None or not _is_on_host(batch):
            return move_to(batch, device)
        with stream.copying():
            moved = move_to(batch, device)
        stream.synchronize_with(iter_tensors(moved))
        return moved

    return move


def own_transfer_hook(owner: object) -> Callable[..., Any] | None:
    """Return the override of ``transfer_batch_to_device`` of a model or data module; None if it has none.

    Raises:
        ModelError: It cannot be called as documented.
    """
    hook = own_method(owner, "transfer_batch_to_device")
    if hook is None:
        return None
    try:
        inspect.signature(hook).bind(None, None)
    except TypeError as error:
        raise ModelError(
            f"transfer_batch_to_device{inspect.signature(hook)}: it must accept two positional arguments (batch, device): "
            f"{error}."
        ) from None
    own: Callable[..., Any] = hook
    return own


def _call_hook(hook: Callable[..., Any], batch: Any, *, device: torch.device) -> Any:
    moved = hook(batch, device)
    if moved is None and batch is not None:
        raise ModelError("transfer_batch_to_device returned None. It must return the batch.")
    return moved


def _is_on_host(batch: Any) -> bool:
    """Return whether all tensors of a batch are known, and in the host's memory.

    An object that moves itself may hold tensors that we do not see, whose memory would be reused while the device still reads
    it. A tensor that is on a device already may not have been computed yet.
    """
    if isinstance(batch, (Tensor, PackedSequence)):
        return not any(tensor.device.type != "cpu" for tensor in iter_tensors(batch))
    if callable(getattr(batch, "to", None)):
        return False
    return all(map(_is_on_host, children(batch)))


def move_to(batch: Any, device: torch.device) -> Any:
    """Return a batch with all its tensors on a device.

    Copies do not block the host if the memory is pinned.

    Tensors and objects with a ``.to`` method (a packed sequence has one) are moved. Tuples, named tuples, lists, mappings,
    dataclasses and attrs objects are rebuilt around their moved items. Anything else is returned unchanged: a model's hook
    ``transfer_batch_to_device`` can move it.

    >>> move_to({"x": [torch.ones(2)], "name": "a"}, torch.device("meta"))["x"][0].device.type
    'meta'
    """

    def move(item: Any) -> Any:
        if isinstance(item, Tensor) or _takes_non_blocking(getattr(type(item), "to", item.to)):
            return item.to(device, non_blocking=True)
        return item.to(device)

    return map_nested(move, batch, lambda value: callable(getattr(value, "to", None)))


@lru_cache(maxsize=256)
def _takes_non_blocking(method: Callable[..., Any]) -> bool:
    """Return whether a ``.to`` method has the parameter ``non_blocking``."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "non_blocking" or p.kind is p.VAR_KEYWORD for p in parameters)
