"""Files that ``torch.save`` wrote, by whatever program: read as tensors and plain data, without running anything in them.

They are pickles, which can name any function and have it called. `torch.load` has a reader that calls none but those that make
tensors, and this is the one place that uses it. What a file could do besides, which is to claim more memory than it has bytes,
is looked at before it is read, and after.
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

MAX_PICKLE_BYTES = 2**28  # bytes, without the tensors
MAX_VALUES = 5_000_000  # in containers, each counted as often as it is referred to
SLACK_BYTES = 2**26  # bytes that tensors may take beyond some times the file's

_REFUSED_CLASS = re.compile(
    r"(?:unsupported|GLOBAL)\b.*?\b(?:GLOBAL|class|global)?:?\s*([A-Za-z_]\w*(?:\.\w+)+)", re.IGNORECASE
)


def read_torch_file(path: Path, map_location: Any = None) -> Any:
    """What is in a file.

    Raises:
        FileNotFoundError: It is not there.
        CheckpointError: It is no such file, damaged, or holds more than tensors and plain data. The message says which class.
    """
    if path.is_dir():
        ours = (path / MANIFEST).exists()
        raise CheckpointError(
            f"{path} is a folder, and a file that torch.save wrote is needed. "
            + ("This one is a checkpoint already: load_from_checkpoint reads it." if ours else _SHARDED_HINT)
        )
    size = path.stat().st_size
    _check_header(path, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on other protocols of pickle, which are read or are not
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise CheckpointError(_explain(path, error)) from error
    _check_expansion(path, content, size)
    return content


_SHARDED_HINT = (
    "Where a trainer writes a folder of parts, as for FSDP and DeepSpeed, put them together first, with the tool that it has "
    "for this."
)


def _check_header(path: Path, size: int) -> None:
    """Refuse what is no such file, or would grow while it is read. An archive of `torch.save` is never compressed."""
    with path.open("rb") as file:
        head = file.read(9)
    if not head:
        raise CheckpointError(f"{path} cannot be read as weights: it is empty.")
    if head[8:9] == b"{":  # a safetensors file begins with the length of its header
        raise CheckpointError(
            f"{path} is no file of torch.save's, but one of the format safetensors, it seems. Read it into a model with "
            f"safetensors.torch.load_model(model, path)."
        )
    if not head.startswith(b"PK\x03\x04"):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: it is cut off or damaged ({error}).") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        raise CheckpointError(
            f"{path} cannot be read as weights: it is compressed, and unpacked it may have any size. torch.save compresses "
            f"nothing: unpack it yourself if you know where it comes from."
        )
    largest = max((entry.file_size for entry in entries if entry.filename.endswith("data.pkl")), default=0)
    if largest > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path} cannot be read as weights: without its tensors it has {largest} bytes, more than the {MAX_PICKLE_BYTES}"
            f" that are read."
        )


def _explain(path: Path, error: Exception) -> str:
    name = _refused_class(error)
    if name is not None:
        return (
            f"{path} cannot be read as weights and plain data, and nothing else is read: it names {name}, and what is named in "
            f"a file is run when that is unpickled. In the program that wrote it, leave it out or save it as numbers and text: "
            f"torch.save({{'state_dict': model.state_dict(), 'hyper_parameters': {{...}}}}, path)."
        )
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"{path} cannot be read as weights: it claims more memory than there is."
    if "legacy .tar format" in str(error):
        return (
            f"{path} cannot be read as weights: it is a tar archive, as torch before 0.1.10 wrote them, and those are not read "
            f"safely. Read it with a torch of that time, and save it anew with a later one."
        )
    told = "" if isinstance(error, (EOFError, KeyError)) else (str(error).splitlines() or [""])[0]
    reason = "" if not told or "Weights only" in told else f" ({told[:200]})"
    return (
        f"{path} cannot be read as weights and plain data, and nothing else is read: it is cut off, damaged, or no file of "
        f"torch.save's{reason}."
    )


def _refused_class(error: Exception) -> str | None:
    """The class or function that torch's reader refused to call."""
    for line in str(error).splitlines():
        if "weights_only" not in line or "Unsupported" in line:
            found = _REFUSED_CLASS.search(line)
            if found:
                return found[1]
    return None


def _check_expansion(path: Path, content: Any, size: int) -> None:
    """Refuse what is small in a file and large when it is written out: one value that is referred to again and again."""
    most, taken = 8 * size + SLACK_BYTES, 0
    for number, value in enumerate(_iter_values(content)):
        if isinstance(value, Tensor):
            taken += value.numel() * value.element_size()
        if number > MAX_VALUES or taken > most:
            raise CheckpointError(
                f"{path} cannot be read as weights: it has {size} bytes, and what it holds would take many times as much, "
                f"since the same is referred to over and over again."
            )


def _iter_values(content: Any) -> Iterator[Any]:
    """All that is in containers, and they themselves."""
    left = [content]
    while left:
        value = left.pop()
        yield value
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, (list, tuple, set, frozenset)):
            left += value
