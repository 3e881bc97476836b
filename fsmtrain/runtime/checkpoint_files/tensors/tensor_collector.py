"""Collect the tensors of a state tree: their names, and shared memory, which is stored once.

Tensors whose memory overlaps are restored as views of one memory. Tensors that only lie in the same storage are stored apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from attrs import define, evolve
from torch import Tensor, nn

from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.tensors.dtypes import SAFETENSORS_NAMES, STORED_AS, dtype_name
from fsmtrain.runtime.checkpoint_files.tensors.strides import MAX_DIMENSIONS, contiguous_stride, is_dense, span
from fsmtrain.runtime.checkpoint_files.tree_path import TreePath

_ALIGNMENT = 16  # bytes, of memory that is viewed with several dtypes; no element is wider


@define(eq=False)
class StoredTensor:
    """A tensor to store, or later its copy.

    Attributes:
        tensor: The tensor.
        path: Where it is in the tree; its name follows from it.
        references: Those to it in the skeleton, which are filled in later.
        start: The address of its first byte.
        end: The address of the byte after its last one.
    """

    tensor: Tensor
    path: TreePath
    references: list[dict[str, Any]]
    start: int
    end: int

    @classmethod
    def of(cls, tensor: Tensor, path: TreePath, reference: dict[str, Any]) -> StoredTensor:
        """Return a tensor with its place in memory."""
        start = tensor.data_ptr()
        if tensor.is_contiguous():
            return cls(tensor, path, [reference], start, start + tensor.nbytes)
        return cls(tensor, path, [reference], start, start + span(tensor.shape, tensor.stride()) * tensor.element_size())

    @property
    def storage(self) -> tuple[Any, ...]:
        """Equal for tensors in one storage."""
        return (self.tensor.device, self.tensor.untyped_storage().data_ptr())

    @property
    def place(self) -> tuple[Any, ...]:
        """Equal for tensors with the same elements of the same memory in the same order."""
        return (self.storage, self.start, self.tensor.dtype, self.tensor.shape, self.tensor.stride())


class TensorCollector:
    """Collects tensors while a tree is encoded."""

    def __init__(self) -> None:
        self._collected: list[StoredTensor] = []
        self._references: dict[int, dict[str, Any]] = {}

    def add(self, tensor: Tensor, path: TreePath) -> dict[str, Any]:
        """Return a reference to a tensor, for the skeleton. `stored_tensors` and `named_tensors` fill it in.

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
        if tensor.requires_grad or type(tensor) is nn.Parameter:
            tensor = tensor.detach()
        tensor = tensor.resolve_conj().resolve_neg()
        if tensor.dtype in STORED_AS:
            reference["as"] = dtype_name(tensor.dtype)
            tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor.view(STORED_AS[tensor.dtype])
        self._collected.append(StoredTensor.of(tensor, path, reference))
        return reference

    def add_unshared(self, tensor: Tensor, path: TreePath) -> dict[str, Any]:
        """Return a reference to a tensor that shares its memory with no other."""
        reference: dict[str, Any] = {}
        self._collected.append(StoredTensor.of(tensor, path, reference))
        return reference

    def stored_tensors(self) -> list[StoredTensor]:
        """Return the tensors to store, each memory once, and fill in the references up to the names."""
        stored = []
        for group in _groups(self._collected):
            whole = _covering_tensor(group)
            for item in group:
                if fields := _stride_field(item.tensor) if item.tensor is whole.tensor else _view_fields(item, whole.start):
                    for reference in item.references:
                        reference.update(fields)
            stored.append(whole)
        return stored


def named_tensors(stored: Iterable[StoredTensor]) -> dict[str, Tensor]:
    """Name the tensors by their paths, also in the references."""
    named: dict[str, Tensor] = {}
    for one in stored:
        name = _free_name(one.path.name, named)
        named[name] = one.tensor
        for reference in one.references:
            reference["name"] = name
    return named


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


def _groups(collected: Sequence[StoredTensor]) -> Iterator[list[StoredTensor]]:
    """Yield groups of tensors whose memory overlaps, in the order in which they were added; each place in memory once.

    Almost all groups have one tensor. Only the others are looked at closely.
    """
    overlapping: dict[int, StoredTensor] = {}
    furthest, end = -1, 0
    for number in sorted(range(len(collected)), key=[item.start for item in collected].__getitem__):
        item = collected[number]
        if item.start < end and item.start < item.end:
            overlapping |= {number: item, furthest: collected[furthest]}
        if item.end > end:
            furthest, end = number, item.end
    groups = {id(group[0]): group for group in _overlap_groups([item for _, item in sorted(overlapping.items())])}
    for number, item in enumerate(collected):
        if number not in overlapping:
            yield [item]
        elif id(item) in groups:
            yield groups[id(item)]


def _overlap_groups(collected: Sequence[StoredTensor]) -> Iterator[list[StoredTensor]]:
    """Yield groups of tensors that overlap in one storage, each in the order in which they were added."""
    by_place: dict[tuple[Any, ...], StoredTensor] = {}
    for item in collected:
        first = by_place.setdefault(item.place, item)
        if first is not item:
            first.references += item.references
    order = {id(item): number for number, item in enumerate(by_place.values())}
    storages: dict[tuple[Any, ...], list[StoredTensor]] = {}
    for item in by_place.values():
        storages.setdefault(item.storage, []).append(item)
    groups: list[list[StoredTensor]] = []
    for together in storages.values():
        end = -1
        for item in sorted(together, key=lambda item: item.start):
            if item.start >= end:
                groups.append([])
            groups[-1].append(item)
            end = max(end, item.end)
    for group in groups:
        yield sorted(group, key=lambda item: order[id(item)])


def _covering_tensor(group: list[StoredTensor]) -> StoredTensor:
    """Return what is stored for a group, with all references to it.

    It is the first tensor that covers all others, under its own name; if none does, the bytes from the first to the last.
    """
    if len(group) == 1:
        return group[0]
    start, end = min(item.start for item in group), max(item.end for item in group)
    storage = group[0].tensor.untyped_storage()
    base = storage.data_ptr()
    references = [reference for item in group for reference in item.references]
    for item in group:
        whole = item.tensor.stride() == contiguous_stride(item.tensor.shape)
        if whole and (item.start, item.end) == (start, end) and (start - base) % _ALIGNMENT == 0:
            return evolve(item, references=references)
    start -= (start - base) % _ALIGNMENT
    memory = torch.empty(0, dtype=torch.uint8, device=group[0].tensor.device)
    memory.set_(storage, start - base, (end - start,), (1,))
    return StoredTensor(memory, group[0].path.key("memory"), references, start, end)


def _stride_field(tensor: Tensor) -> dict[str, Any]:
    """Return the stride of a dense tensor that is not contiguous (channels_last); else nothing."""
    if tensor.is_contiguous() and 1 not in tensor.shape:
        return {}
    stride = tensor.stride()
    if tensor.numel() == 0 or stride == contiguous_stride(tensor.shape) or not is_dense(tensor.shape, stride):
        return {}
    return {"stride": list(stride)}


def _view_fields(item: StoredTensor, start: int) -> dict[str, Any]:
    tensor = item.tensor
    shape, stride, offset = list(tensor.shape), list(tensor.stride()), (item.start - start) // tensor.element_size()
    return {"dtype": dtype_name(tensor.dtype), "shape": shape, "stride": stride, "offset": offset}


def _free_name(name: str, taken: Collection[str]) -> str:
    """Return this name, or a similar one that is free. ``__metadata__`` is reserved by safetensors."""
    name = name or "tensor"
    if name not in taken and name.rpartition(".")[2] != "__metadata__":
        return name
    return next(new for number in range(2, len(taken) + 3) if (new := f"{name}#{number}") not in taken)
