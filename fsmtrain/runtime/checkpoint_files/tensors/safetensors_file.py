"""Write and read safetensors files: length of the header, header as JSON, bytes of each tensor.

The format is small and fixed. It is implemented here so that tensors are written without a copy, through `Files`, with a
checksum. Any program that reads safetensors reads these files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fsmtrain import strict_json
from fsmtrain.runtime.checkpoint_files.checked_io import FileDigest, Reader, open_reader, write_file
from fsmtrain.runtime.checkpoint_files.files import Files
from fsmtrain.runtime.checkpoint_files.tensors.dtypes import DTYPE_OF_SAFETENSORS_NAME, SAFETENSORS_NAMES, as_bytes
from fsmtrain.runtime.checkpoint_files.tensors.strides import expect_sizes
from fsmtrain.runtime.checkpoint_files.tree_path import short_repr

MAX_HEADER_BYTES = 100_000_000  # the format's own bound


def write_tensors(files: Files, path: str, tensors: Mapping[str, Tensor]) -> FileDigest:
    """Write tensors to a file. Those on another device are copied to the host one at a time.

    Raises:
        OSError: The file could not be written.
        ValueError: There are too many tensors for one file, or this machine is big-endian.
    """
    if sys.byteorder != "little":
        raise ValueError("tensors can be saved on little-endian machines only")
    # Widest elements first, so that each tensor begins at a multiple of its element size.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": SAFETENSORS_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = strict_json.dump(header)
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"the names and shapes of {len(ordered)} tensors are too large for one file")

    def parts() -> Iterator[bytes | memoryview]:
        yield len(text).to_bytes(8, "little") + text
        for _, tensor in ordered:
            if tensor.numel():
                yield _byte_view(as_bytes(tensor.cpu()))

    return write_file(files, path, parts())


def read_tensors(files: Files, path: str, written: FileDigest) -> dict[str, Tensor]:
    """Read the tensors of a file, each into its own memory.

    Raises:
        OSError: The file could not be read.
        ValueError: It is damaged, or not a safetensors file.
    """
    with open_reader(files, path, written) as reader:
        tensors = dict(_read(reader))
    for name, tensor in tensors.items():
        if tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
            raise ValueError(f"the bool tensor {short_repr(name)} has a value that is neither 0 nor 1")
    return tensors


def _read(reader: Reader) -> Iterator[tuple[str, Tensor]]:
    length = int.from_bytes(reader.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {length} bytes")
    header = strict_json.parse(reader.read(length))
    if type(header) is not dict:
        raise ValueError("its header is not a JSON object")
    entries = [_parse_entry(name, value) for name, value in header.items() if name != "__metadata__"]
    position = 0
    for start, end, name, dtype, shape in sorted(entries, key=lambda entry: entry[:2]):
        if start != position:
            raise ValueError(f"the tensor {short_repr(name)} begins at byte {start}, but the one before ends at {position}")
        position = end
        if end - start > reader.remaining:
            raise ValueError(f"the tensor {short_repr(name)} ends after the end of the file")
        data = torch.empty(end - start, dtype=torch.uint8)
        if data.numel():
            reader.read_into(_byte_view(data))
        yield name, data.view(dtype).reshape(shape)


def _parse_entry(name: str, value: Any) -> tuple[int, int, str, torch.dtype, list[int]]:
    """Return a tensor's first byte, the byte after its last one, its name, dtype and shape."""
    shown = short_repr(name)
    problem = f"its header has an invalid entry for the tensor {shown}"
    if type(value) is not dict or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise ValueError(problem)
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if type(code) is not str or code not in DTYPE_OF_SAFETENSORS_NAME:
        raise ValueError(f"the tensor {shown} has the unknown dtype {short_repr(code)}")
    try:
        shape, (start, end) = expect_sizes(shape), expect_sizes(offsets)
    except ValueError:
        raise ValueError(problem) from None
    dtype = DTYPE_OF_SAFETENSORS_NAME[code]
    if math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError(f"the shape {shape} of the tensor {shown} does not match its {end - start} bytes")
    return start, end, name, dtype, shape


def _byte_view(data: Tensor) -> memoryview:
    """Return the memory of a tensor of bytes, without a copy."""
    array: Any = data.numpy()
    return memoryview(array)
