"""Restore the saved tensors from the stored ones: memory layouts, views, parameters."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from fsmtrain.runtime.checkpoint_files.tensors.dtypes import DTYPE_OF_NAME, STORED_AS
from fsmtrain.runtime.checkpoint_files.tensors.strides import is_dense, span

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
            raise ValueError(f"there is no tensor {name!r}")
        return self._stored[name]

    def _resolve(self, reference: dict[str, Any]) -> Tensor:
        name = reference.get("name")
        tensor = self.stored_tensor(name)
        if "offset" in reference:
            tensor = _view(tensor, reference)
        elif "stride" in reference:
            if name not in self._restrided:
                self._restrided[str(name)] = _with_stride(tensor, _parse_sizes(reference["stride"]))
            tensor = self._restrided[str(name)]
        if "as" in reference:
            tensor = _with_dtype(tensor, reference["as"])
        requires_grad = reference.get("requires_grad") is True
        if reference.get("parameter") is True:
            return nn.Parameter(tensor, requires_grad=requires_grad)
        return tensor.detach().requires_grad_() if requires_grad else tensor


def _view(memory: Tensor, reference: dict[str, Any]) -> Tensor:
    dtype = _dtype(reference.get("dtype"))
    shape, stride = _parse_sizes(reference.get("shape")), _parse_sizes(reference.get("stride"))
    [offset] = _parse_sizes([reference["offset"]])
    if len(shape) != len(stride):
        raise ValueError(f"the strides {stride} do not match the shape {shape}")
    if (offset + span(shape, stride)) * dtype.itemsize > memory.numel() * memory.element_size():
        raise ValueError("the view ends after the end of its tensor")
    return torch.empty(0, dtype=dtype).set_(memory.untyped_storage(), offset, tuple(shape), tuple(stride))


def _with_stride(tensor: Tensor, stride: list[int]) -> Tensor:
    if len(stride) != tensor.dim() or not is_dense(tensor.shape, stride):
        raise ValueError(f"the strides {stride} do not match the shape {list(tensor.shape)}")
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)


def _with_dtype(tensor: Tensor, name: Any) -> Tensor:
    dtype = _dtype(name)
    if STORED_AS.get(dtype) is not tensor.dtype:
        raise ValueError(f"the dtype {name!r} is not stored as {tensor.dtype}")
    return torch.view_as_complex(tensor) if dtype.is_complex else tensor.view(dtype)


def _dtype(name: Any) -> torch.dtype:
    if type(name) is not str or name not in DTYPE_OF_NAME:
        raise ValueError(f"the dtype {name!r} is unknown")
    return DTYPE_OF_NAME[name]


def _parse_sizes(values: Any) -> list[int]:
    if type(values) is not list or not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise ValueError("it must be a list of sizes")
    if math.prod(value for value in values if value) >= 2**62:
        raise ValueError("these sizes are too large")
    return values
