"""The dtypes that can be saved: torch's, with their names in safetensors files, and NumPy's."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from fsmtrain.runtime.checkpoint_files.tree_path import short_repr

SAFETENSORS_NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
    torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64", torch.complex64: "C64",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e5m2: "F8_E5M2", torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}  # fmt: skip
DTYPE_OF_SAFETENSORS_NAME = {code: dtype for dtype, code in SAFETENSORS_NAMES.items()}

# safetensors has no name for these: the same bits are stored with another dtype, complex numbers with a last dimension of 2.
STORED_AS = {torch.complex32: torch.float16, torch.complex128: torch.float64, torch.float4_e2m1fn_x2: torch.uint8}


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype's name, without ``torch.``."""
    return str(dtype).removeprefix("torch.")


DTYPE_OF_NAME = {dtype_name(dtype): dtype for dtype in (*SAFETENSORS_NAMES, *STORED_AS)}


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the elements of a tensor as a 1-d tensor of bytes: a view if it is contiguous, else a copy."""
    # A contiguous tensor with one element may have any stride, and the view as bytes needs the stride 1.
    tensor = tensor.contiguous()
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


_PLAIN_NUMPY_DTYPE = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248]|c8|c16|[US][1-9][0-9]{0,8}|[mM]8(\[[0-9]{0,9}[a-zA-Z]{1,7}\])?)")


def numpy_dtype(text: str) -> np.dtype[np.generic]:
    """Return a NumPy dtype by its ``dtype.str``: numbers, times, text and bytes of a fixed length.

    >>> numpy_dtype("<f8")
    dtype('float64')

    Raises:
        ValueError: It is none of these: objects, structures, or floats whose size depends on the machine.
    """
    if not _PLAIN_NUMPY_DTYPE.fullmatch(text):
        raise ValueError(f"the NumPy dtype {short_repr(text)} cannot be saved")
    try:
        return np.dtype(text)
    except TypeError as error:
        raise ValueError(f"the NumPy dtype {short_repr(text)} is invalid: {error}") from None
