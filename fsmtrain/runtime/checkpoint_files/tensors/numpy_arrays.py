"""NumPy arrays and scalars: arrays are stored as tensors, scalars as the text of their bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsmtrain.runtime.checkpoint_files.tensors.dtypes import as_bytes, numpy_dtype
from fsmtrain.runtime.checkpoint_files.tensors.strides import expect_sizes

# Dtypes that torch has too. Others are stored as bytes.
_TENSOR_DTYPES = {"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8"}


def array_to_tensor(array: np.ndarray[Any, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return a copy of an array's content as a tensor, and the fields to rebuild the array.

    Raises:
        ValueError: Its class is a subclass, or its dtype cannot be saved.
    """
    if type(array) is not np.ndarray:
        kind = type(array)
        raise ValueError(f"a {kind.__module__}.{kind.__qualname__} cannot be saved: save numpy.asarray(value)")
    text = array.dtype.str
    if array.dtype != numpy_dtype(text):
        raise ValueError(f"a NumPy array of dtype {array.dtype} cannot be saved")
    fields: dict[str, Any] = {"dtype": text, "shape": list(array.shape)}
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        fields["order"] = "F"
    content = np.array(array, order="C", copy=True)
    if text not in _TENSOR_DTYPES:
        content = np.frombuffer(bytearray(content.tobytes()), dtype=np.uint8)
    return torch.from_numpy(content), fields


def tensor_to_array(content: Tensor, fields: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Rebuild an array, in the memory of the tensor unless its order is Fortran's.

    Raises:
        ValueError: The content and the fields do not match.
    """
    if type(fields.get("dtype")) is not str:
        raise ValueError("its dtype is missing")
    dtype, shape = numpy_dtype(fields["dtype"]), expect_sizes(fields.get("shape"))
    if content.nbytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{content.nbytes} bytes are not an array of shape {shape} and dtype {dtype}")
    array: np.ndarray[Any, Any] = np.empty(shape, dtype)
    if content.nbytes:  # in the tensor's memory
        array = as_bytes(content).numpy().view(dtype).reshape(shape)
    return np.asfortranarray(array) if fields.get("order") == "F" else array


def scalar_to_json(scalar: np.generic) -> list[str]:
    """Return a scalar's dtype and bytes in hexadecimal digits.

    Raises:
        ValueError: Its dtype cannot be saved.
    """
    if isinstance(scalar, np.str_):
        return ["str", str(scalar).encode("utf-8", "surrogatepass").hex()]
    if isinstance(scalar, np.bytes_):
        return ["bytes", bytes(scalar).hex()]
    text = scalar.dtype.str
    if numpy_dtype(text) != scalar.dtype:
        raise ValueError(f"a NumPy scalar of dtype {scalar.dtype} cannot be saved")
    return [text, scalar.tobytes().hex()]


def json_to_scalar(parts: Any) -> np.generic:
    """Rebuild a scalar.

    Raises:
        ValueError: The parts are invalid.
    """
    if type(parts) is not list or len(parts) != 2 or not all(type(part) is str for part in parts):
        raise ValueError("its dtype and bytes are missing")
    text, data = parts[0], bytes.fromhex(parts[1])
    if text == "str":
        return np.str_(data.decode("utf-8", "surrogatepass"))
    if text == "bytes":
        return np.bytes_(data)
    dtype = numpy_dtype(text)
    if len(data) != dtype.itemsize or dtype.kind in "US":
        raise ValueError(f"{len(data)} bytes are not a scalar of dtype {dtype}")
    scalar: np.generic = np.frombuffer(data, dtype=dtype)[0]
    return scalar
