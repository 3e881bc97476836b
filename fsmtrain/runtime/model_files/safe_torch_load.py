"""Safe ``torch.load``: read a file's tensors and plain data without running code in it.

The files are pickles, which can name any function and have it called. `torch.load` with ``weights_only`` calls only functions
that make tensors and containers; this is the one place that uses it. A file could still have them make more than it has bytes,
so it is scanned before it is read, and what it refers to many times is counted afterwards.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from fsmtrain.errors import CheckpointError
from fsmtrain.plain_files import open_plain_file
from fsmtrain.runtime.checkpoint_files.checked_io import error_text
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST
from fsmtrain.runtime.model_files.pickle_scan import PickleScanner, ScanError

MAX_FILE_BYTES = 2**62
MAX_PICKLE_BYTES = 2**28  # without the tensors
TAR_HEADER_BYTES = 512
BYTES_PER_BYTE = 8  # of tensors, and values in containers, as often as the file refers to them
SLACK_BYTES, SLACK_VALUES = 2**26, 10_000  # beyond that
MAX_DEPTH = 100  # nested containers

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
    try:
        with open_plain_file(path, MAX_FILE_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            _check_header(path, file.read(TAR_HEADER_BYTES))
            file.seek(0)
            _scan(path, file, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickle protocols: they can be read, or raise an error
            content = torch.load(path, map_location=map_location, weights_only=True)
    except (CheckpointError, FileNotFoundError):
        raise
    except Exception as error:
        raise _unreadable(path, _explain(error)) from error
    _check_expansion(path, content, size)
    return content


_SHARDED_HINT = "If it is a sharded checkpoint, of FSDP or DeepSpeed, consolidate it first with that library's tool."


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read as weights: {reason}")


def _check_header(path: Path, head: bytes) -> None:
    """Raise an error for another kind of file, by its first bytes."""
    if not head:
        raise _unreadable(path, "it is empty.")
    if head[8:9] == b"{":  # a safetensors file begins with the length of its header
        raise _unreadable(path, "it seems to be a safetensors file. Load it with safetensors.torch.load_model(model, path).")
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return
    raise _unreadable(path, _TAR)  # torch would unpack it, whatever else it is


_ZIP = b"PK\x03\x04"
_TAR = (
    "it is a tar archive of torch before 0.1.10, which cannot be read safely. Convert it with an old torch: load it and save "
    "it again."
)


def _scan(path: Path, file: BinaryIO, size: int) -> None:
    """Raise an error for a file that is small and would take much memory or time to read."""
    if file.read(len(_ZIP)) == _ZIP:
        pickled = _read_pickle_of_archive(path, size)
        PickleScanner(io.BytesIO(pickled), len(pickled)).scan()
        return
    file.seek(0)
    scanner = PickleScanner(file, size)
    if scanner.scan() != MAGIC_NUMBER:
        raise ScanError("it begins with another pickle")
    for _ in range(4):  # the protocol, the system, the content, the keys of the storages
        scanner.scan()
    if scanner.storage_bytes > size:
        raise _unreadable(
            path, f"its tensors are said to have {scanner.storage_bytes} bytes, but it has {size}: it is cut off."
        )


def _read_pickle_of_archive(path: Path, size: int) -> bytes:
    """Return the pickle in a file of today, an archive, as torch reads it. Archives of `torch.save` are not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _unreadable(path, f"it is cut off or damaged ({error}).") from error
    reader = torch._C.PyTorchFileReader(str(path))
    unpacked = sum(map(reader.get_record_size, reader.get_all_records()))
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or max(unpacked, _unpacked(entries)) > size:
        hint = "torch.save does not compress: if you trust its source, unpack it first."
        raise _unreadable(path, f"it is compressed, and may have any size when unpacked. {hint}")
    if (pickle_size := reader.get_record_size("data.pkl")) > MAX_PICKLE_BYTES:
        raise _unreadable(path, f"without its tensors it has {pickle_size} bytes, more than {MAX_PICKLE_BYTES}.")
    return bytes(reader.get_record("data.pkl"))


def _unpacked(entries: Iterable[zipfile.ZipInfo]) -> int:
    return sum(entry.file_size for entry in entries)


def _explain(error: Exception) -> str:
    """Return in words why torch could not read a file."""
    name = _refused_class(error)
    if name is not None:
        return (
            f"it refers to {name}, and unpickling it would run code. In the program that wrote the file, leave the object out, "
            f"or save it as numbers and text: torch.save({{'state_dict': model.state_dict(), 'hyper_parameters': {{...}}}}, "
            f"path)."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error_text(error)}."
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "it claims more memory than is available."
    if "legacy .tar format" in str(error):
        return _TAR
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
    """Raise an error for content that is small in the file and large for all that goes through it: shared references."""
    max_bytes, max_values, tensor_bytes = BYTES_PER_BYTE * size + SLACK_BYTES, BYTES_PER_BYTE * size + SLACK_VALUES, 0
    for number, (value, depth) in enumerate(_iter_values(content)):
        if isinstance(value, Tensor):
            tensor_bytes += value.numel() * value.element_size()
        if number > max_values or tensor_bytes > max_bytes or depth > MAX_DEPTH:
            reason = "its content would take many times as much memory, since it refers to the same values many times"
            if depth > MAX_DEPTH:
                reason = f"its content is nested more than {MAX_DEPTH} deep"
            raise _unreadable(path, f"it has {size} bytes, but {reason}.")


def _iter_values(content: Any) -> Iterator[tuple[Any, int]]:
    """Yield the content of nested containers, and the containers, each with the number of containers it is in.

    Not recursive: a file may be nested to any depth.
    """
    waiting = [(iter((content,)), 0)]
    while waiting:
        values, depth = waiting[-1]
        for value in values:
            yield value, depth
            if isinstance(value, Mapping):
                waiting.append((iter(value.values()), depth + 1))
                break
            if isinstance(value, (list, tuple, set, frozenset)):
                waiting.append((iter(value), depth + 1))
                break
        else:
            waiting.pop()
