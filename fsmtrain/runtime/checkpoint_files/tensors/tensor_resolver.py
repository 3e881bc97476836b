"""Restore the saved tensors from the stored ones: memory layouts, views, parameters."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from fsmtrain.runtime.checkpoint_files.tensors.dtypes import DTYPE_OF_NAME, STORED_AS
from fsmtrain.runtime.checkpoint_files.tensors.strides import expect_sizes, is_dense, span
from fsmtrain.runtime.checkpoint_files.tree_path import short_repr

_FIELDS = {"name", "dtype", "shape", "stride", "offset", "as", "requires_grad", "parameter"}


class TensorResolver:
    """Resolves references to stored tensors.

    Args:
        stored: The stored tensors by name.
    """

    def __init__(self, stored: dict[str, Tensor]) -> None:
        self._stored = stored
        self._restrided: dict[str, Tensor] = {}
        self._resolved: dict[str, Tensor] = {}
        self._arrays: set[str] = set()

    def resolve(self, reference: Any) -> Tensor:
        """Return the tensor of a reference. Equal references give the same object.

        Raises:
            ValueError: The reference is invalid.
        """
        if type(reference) is not dict or not _FIELDS.issuperset(reference):
            raise ValueError("it is not a reference to a tensor")
        key = json.dumps(reference, sort_keys=True)
        if key not in self._resolved:
            self._resolved[key] = self._resolve(reference)
        return self._resolved[key]

    def stored_tensor(self, name: Any) -> Tensor:
        """Return the stored tensor of this name."""
        if type(name) is not str or name not in self._stored:
            raise ValueError(f"there is no tensor {short_repr(name)}")
        return self._stored[name]

    def take_array(self, name: Any) -> Tensor:
        """Return the stored tensor with the content of an array. Arrays share no memory, so each name has one array.

        Raises:
            ValueError: There is no such tensor, or another array has it.
        """
        tensor = self.stored_tensor(name)
        if name in self._arrays:
            raise ValueError(f"the array {short_repr(name)} is in two places")
        self._arrays.add(name)
        return tensor

    def _resolve(self, reference: dict[str, Any]) -> Tensor:
        name = reference.get("name")
        tensor = self.stored_tensor(name)
        if "offset" in reference:
            tensor = _view(tensor, reference)
        elif "stride" in reference:
            stride = tuple(expect_sizes(reference["stride"]))
            if name not in self._restrided:
                self._restrided[str(name)] = _with_stride(tensor, stride)
            tensor = self._restrided[str(name)]
            if tensor.stride() != stride:
                raise ValueError("its tensor has other strides elsewhere")
        if "as" in reference:
            tensor = _with_dtype(tensor, reference["as"])
        requires_grad = reference.get("requires_grad") is True
        if reference.get("parameter") is True:
            return nn.Parameter(tensor, requires_grad=requires_grad)
        return tensor.detach().requires_grad_() if requires_grad else tensor


def _view(memory: Tensor, reference: dict[str, Any]) -> Tensor:
    dtype = _dtype(reference.get("dtype"))
    shape, stride = expect_sizes(reference.get("shape")), expect_sizes(reference.get("stride"))
    [offset] = expect_sizes([reference["offset"]])
    if len(shape) != len(stride):
        raise ValueError(f"the strides {stride} do not match the shape {shape}")
    if (offset + span(shape, stride)) * dtype.itemsize > memory.numel() * memory.element_size():
        raise ValueError("the view ends after the end of its tensor")
    return torch.empty(0, dtype=dtype).set_(memory.untyped_storage(), offset, tuple(shape), tuple(stride))


def _with_stride(tensor: Tensor, stride: tuple[int, ...]) -> Tensor:
    if len(stride) != tensor.dim() or not is_dense(tensor.shape, stride):
        raise ValueError(f"the strides {list(stride)} do not match the shape {list(tensor.shape)}")
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)


def _with_dtype(tensor: Tensor, name: Any) -> Tensor:
    dtype = _dtype(name)
    if STORED_AS.get(dtype) is not tensor.dtype:
        raise ValueError(f"the dtype {short_repr(name)} is not stored as {tensor.dtype}")
    return torch.view_as_complex(tensor) if dtype.is_complex else tensor.view(dtype)


def _dtype(name: Any) -> torch.dtype:
    if type(name) is not str or name not in DTYPE_OF_NAME:
        raise ValueError(f"the dtype {short_repr(name)} is unknown")
    return DTYPE_OF_NAME[name]
