"""Safe ``torch.load``: read a file's tensors and plain data without running code in it.

The files are pickles, which can name any function and have it called. `torch.load` with ``weights_only`` calls only functions
that make tensors; this is the one place that uses it. A file could still claim more memory than it has bytes, so that is
checked before and after reading.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST

MAX_PICKLE_BYTES = 2**28  # without the tensors
MAX_VALUES = 5_000_000  # in containers; each counts as often as it is referred to
SLACK_BYTES = 2**26  # that tensors may have beyond a multiple of the file's size

_REFUSED_CLASS = re.compile(r"(?i)(?:unsupported|GLOBAL)\b.*?\b(?:GLOBAL|class|global)?:?\s*([A-Za-z_]\w*(?:\.\w+)+)")


def read_torch_file(path: Path, map_location: Any = None) -> Any:
    """Read a file that ``torch.save`` wrote.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: It is another kind of file, is damaged, or has more than tensors and plain data; the message names the
            class.
    """
    if path.is_dir():
        ours = (path / MANIFEST).exists()
        hint = "It is a checkpoint of fsmtrain already: use load_from_checkpoint." if ours else _SHARDED_HINT
        raise CheckpointError(f"{path} is a folder, not a file of torch.save. {hint}")
    size = path.stat().st_size
    _check_header(path, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickle protocols: they can be read, or raise an error
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise _unreadable(path, _explain(error)) from error
    _check_expansion(path, content, size)
    return content


_SHARDED_HINT = "If it is a sharded checkpoint, of FSDP or DeepSpeed, consolidate it first with that library's tool."


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read as weights: {reason}")


def _check_header(path: Path, size: int) -> None:
    """Raise an error for another kind of file, or one that expands when read.

    Archives of `torch.save` are not compressed.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise _unreadable(path, "it is empty.")
    if head[8:9] == b"{":  # a safetensors file begins with the length of its header
        raise _unreadable(path, "it seems to be a safetensors file. Load it with safetensors.torch.load_model(model, path).")
    if not head.startswith(b"PK\x03\x04"):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _unreadable(path, f"it is cut off or damaged ({error}).") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        hint = "torch.save does not compress: if you trust its source, unpack it first."
        raise _unreadable(path, f"it is compressed, and may have any size when unpacked. {hint}")
    largest = max((entry.file_size for entry in entries if entry.filename.endswith("data.pkl")), default=0)
    if largest > MAX_PICKLE_BYTES:
        raise _unreadable(path, f"without its tensors it has {largest} bytes, more than {MAX_PICKLE_BYTES}.")


def _explain(error: Exception) -> str:
    """Return in words why torch could not read a file."""
    name = _refused_class(error)
    if name is not None:
        return (
            f"it refers to {name}, and unpickling it would run code. In the program that wrote the file, leave the object out, "
            f"or save it as numbers and text: torch.save({{'state_dict': model.state_dict(), 'hyper_parameters': {{...}}}}, "
            f"path)."
        )
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "it claims more memory than is available."
    if "legacy .tar format" in str(error):
        return (
            "it is a tar archive of torch before 0.1.10, which cannot be read safely. Convert it with an old torch: load it "
            "and save it again."
        )
    message = "" if isinstance(error, (EOFError, KeyError)) else (str(error).splitlines() or [""])[0]
    reason = "" if not message or "Weights only" in message else f" ({message[:200]})"
    return f"it is cut off, damaged, or not a file of torch.save{reason}."


def _refused_class(error: Exception) -> str | None:
    """Return the class or function that torch refused to call."""
    for line in str(error).splitlines():
        if "weights_only" not in line or "Unsupported" in line:
            match = _REFUSED_CLASS.search(line)
            if match:
                return match[1]
    return None


def _check_expansion(path: Path, content: Any, size: int) -> None:
    """Raise an error for content that is small in the file and large in memory: shared references."""
    max_bytes, tensor_bytes = 8 * size + SLACK_BYTES, 0
    for number, value in enumerate(_iter_values(content)):
        if isinstance(value, Tensor):
            tensor_bytes += value.numel() * value.element_size()
        if number > MAX_VALUES or tensor_bytes > max_bytes:
            reason = "its content would take many times as much memory, since it refers to the same values many times"
            raise _unreadable(path, f"it has {size} bytes, but {reason}.")


def _iter_values(content: Any) -> Iterator[Any]:
    """Yield the content of nested containers, and the containers.

    Not recursive: a file may be nested to any depth.
    """
    waiting = [content]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value
