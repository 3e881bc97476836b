"""Collect the tensors of a state tree: their names, and shared memory, which is stored once.

Tensors whose memory overlaps are restored as views of one memory. Tensors that only lie in the same storage are stored apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.tensors.dtypes import SAFETENSORS_NAMES, STORED_AS, dtype_name
from fsmtrain.runtime.checkpoint_files.tensors.strides import MAX_DIMENSIONS, contiguous_stride, is_dense, span
from fsmtrain.runtime.checkpoint_files.tree_path import TreePath

_ALIGNMENT = 16  # bytes, of memory that is viewed with several dtypes; no element is wider


@frozen(eq=False)
class _Collected:
    """A tensor, and the reference to it in the skeleton, which is filled in later."""

    tensor: Tensor
    path: TreePath
    reference: dict[str, Any]
    storage: tuple[Any, ...]  # equal for tensors in one storage
    start: int  # its first byte there
    end: int  # the byte after its last one

    @classmethod
    def of(cls, tensor: Tensor, path: TreePath, reference: dict[str, Any]) -> _Collected:
        """Return a tensor with its place in memory. An empty tensor shares memory with none."""
        start = int(tensor.storage_offset()) * tensor.element_size()
        end = start + span(tensor.shape, tensor.stride()) * tensor.element_size()
        storage = (tensor.device, tensor.untyped_storage().data_ptr()) if end > start else (id(reference),)
        return cls(tensor, path, reference, storage, start, end)

    @property
    def place(self) -> tuple[Any, ...]:
        """Equal for tensors with the same elements of the same memory in the same order."""
        return (self.storage, self.start, self.tensor.dtype, self.tensor.shape, self.tensor.stride())


class TensorCollector:
    """Collects tensors while a tree is encoded; `tensors_to_store` then names them."""

    def __init__(self) -> None:
        self._collected: list[_Collected] = []
        self._references: dict[int, dict[str, Any]] = {}

    def add(self, tensor: Tensor, path: TreePath) -> dict[str, Any]:
        """Return a reference to a tensor, for the skeleton. `tensors_to_store` fills it in.

        Raises:
            CodecError: The tensor cannot be saved.
        """
        if (known := self._references.get(id(tensor))) is not None:
            return known
        if problem := _why_unsupported(tensor):
            raise CodecError(f"{path}: {problem}")
        reference: dict[str, Any] = {}
        self._references[id(tensor)] = reference
        if type(tensor) is nn.Parameter:
            reference["parameter"] = True
        if tensor.requires_grad:
            reference["requires_grad"] = True
        tensor = tensor.detach().resolve_conj().resolve_neg()
        if tensor.dtype in STORED_AS:
            reference["as"] = dtype_name(tensor.dtype)
            tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor.view(STORED_AS[tensor.dtype])
        self._collected.append(_Collected.of(tensor, path, reference))
        return reference

    def add_unshared(self, tensor: Tensor, path: TreePath) -> dict[str, Any]:
        """Return a reference to a tensor that shares its memory with no other."""
        reference: dict[str, Any] = {}
        self._collected.append(_Collected.of(tensor, path, reference))
        return reference

    def tensors_to_store(self) -> dict[str, Tensor]:
        """Return the tensors to store by name, each memory once, and fill in the references."""
        stored: dict[str, Tensor] = {}
        by_place: dict[tuple[Any, ...], list[_Collected]] = {}
        for item in self._collected:
            by_place.setdefault(item.place, []).append(item)
        for group in _overlap_groups([same[0] for same in by_place.values()]):
            path, tensor, start = _stored_tensor(group)
            name = _free_name(path.name, stored)
            stored[name] = tensor
            for first in group:
                where = _stride_field(tensor) if first.tensor is tensor else _view_fields(first, start)
                for item in by_place[first.place]:
                    item.reference.update(name=name, **where)
        return stored


def _why_unsupported(tensor: Tensor) -> str | None:
    """Return why a tensor cannot be saved; None if it can."""
    kind = type(tensor)
    if kind not in (Tensor, nn.Parameter):
        return f"a {kind.__module__}.{kind.__qualname__} cannot be saved, only torch.Tensor and Parameter."
    if tensor.layout != torch.strided:
        return "a sparse tensor cannot be saved. Save tensor.to_dense(), or its indices and values."
    if tensor.is_quantized:
        return "a quantized tensor cannot be saved. Save tensor.int_repr() with its scale and zero point."
    if tensor.is_meta:
        return "a tensor on the device 'meta' cannot be saved: it has no values."
    if tensor.dim() > MAX_DIMENSIONS:
        return f"a tensor of {tensor.dim()} dimensions cannot be saved, only of {MAX_DIMENSIONS}."
    if tensor.grad_fn is not None:
        return "a tensor with an autograd graph cannot be saved. Save tensor.detach()."
    if tensor.dtype not in SAFETENSORS_NAMES and tensor.dtype not in STORED_AS:
        return f"a tensor of dtype {dtype_name(tensor.dtype)} cannot be saved."
    return None


def _overlap_groups(collected: Collection[_Collected]) -> Iterator[list[_Collected]]:
    """Yield groups of tensors whose memory overlaps, in the order in which they were added."""
    order = {id(item): number for number, item in enumerate(collected)}
    storages: dict[tuple[Any, ...], list[_Collected]] = {}
    for item in collected:
        storages.setdefault(item.storage, []).append(item)
    groups: list[list[_Collected]] = []
    for together in storages.values():
        end = -1
        for item in sorted(together, key=lambda item: item.start):
            if item.start >= end:
                groups.append([])
            groups[-1].append(item)
            end = max(end, item.end)
    for group in groups:
        group.sort(key=lambda item: order[id(item)])
    yield from sorted(groups, key=lambda group: order[id(group[0])])


def _stored_tensor(group: list[_Collected]) -> tuple[TreePath, Tensor, int]:
    """Return what is stored for a group: its path, the tensor, and its first byte in the storage.

    It is the first tensor that covers all others, under its own name; if none does, the bytes from the first to the last.
    """
    if len(group) == 1:
        return group[0].path, group[0].tensor, group[0].start
    start, end = min(item.start for item in group), max(item.end for item in group)
    for item in group:
        whole = item.tensor.stride() == contiguous_stride(item.tensor.shape)
        if whole and (item.start, item.end) == (start, end) and start % _ALIGNMENT == 0:
            return item.path, item.tensor, start
    start -= start % _ALIGNMENT
    storage = group[0].tensor.untyped_storage()
    memory = torch.empty(0, dtype=torch.uint8, device=group[0].tensor.device).set_(storage, start, (end - start,), (1,))
    return group[0].path.key("memory"), memory, start


def _stride_field(tensor: Tensor) -> dict[str, Any]:
    """Return the stride of a dense tensor that is not contiguous (channels_last); else nothing."""
    stride = tensor.stride()
    if tensor.numel() == 0 or stride == contiguous_stride(tensor.shape) or not is_dense(tensor.shape, stride):
        return {}
    return {"stride": list(stride)}


def _view_fields(item: _Collected, start: int) -> dict[str, Any]:
    tensor = item.tensor
    shape, stride, offset = list(tensor.shape), list(tensor.stride()), (item.start - start) // tensor.element_size()
    return {"dtype": dtype_name(tensor.dtype), "shape": shape, "stride": stride, "offset": offset}


def _free_name(name: str, taken: Collection[str]) -> str:
    """Return this name, or a similar one that is free. ``__metadata__`` is reserved by safetensors."""
    name = name or "tensor"
    if name not in taken and name.rpartition(".")[2] != "__metadata__":
        return name
    return next(new for number in range(2, len(taken) + 3) if (new := f"{name}#{number}") not in taken)
