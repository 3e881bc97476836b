"""The files of one checkpoint: write them into a folder, and read them, verifying every byte.

The commit is in `store`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from fsmtrain import strict_json
from fsmtrain.errors import CheckpointError, FsmtrainError
from fsmtrain.runtime.checkpoint_files.checked_io import error_text, open_reader, write_file
from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, decode
from fsmtrain.runtime.checkpoint_files.files import Files
from fsmtrain.runtime.checkpoint_files.store.manifest import (
    MANIFEST,
    MODEL,
    STATE,
    TENSORS,
    Manifest,
    read_manifest,
    write_manifest,
)
from fsmtrain.runtime.checkpoint_files.tensors.safetensors_file import read_tensors, write_tensors

MAX_STATE_BYTES = 2**28  # bytes of JSON
_MODEL_KEY = "model."


@frozen(eq=False)
class LoadedCheckpoint:
    """A checkpoint's content. All tensors are in host memory."""

    path: Path
    tree: Any
    metadata: dict[str, Any]
    skipped: tuple[str, ...] = ()  # newer checkpoints that cannot be loaded: their paths, with the reason


def write_checkpoint(files: Files, folder: str, encoded: Encoded, metadata: dict[str, Any]) -> None:
    """Write a checkpoint's files into an empty folder. They are durable when this returns.

    Raises:
        OSError: A file could not be written.
        ValueError: A file would be too large to be read again.
    """
    text = strict_json.dump(encoded.skeleton)
    if len(text) > MAX_STATE_BYTES:
        raise ValueError(
            f"without its tensors the state has {len(text)} bytes, more than {MAX_STATE_BYTES}. "
            f"Keep long lists of numbers as tensors or arrays"
        )
    model = {name.removeprefix(_MODEL_KEY): tensor for name, tensor in encoded.tensors.items() if name.startswith(_MODEL_KEY)}
    others = {name: tensor for name, tensor in encoded.tensors.items() if not name.startswith(_MODEL_KEY)}
    contents = {
        STATE: write_file(files, os.path.join(folder, STATE), [text]),
        TENSORS: write_tensors(files, os.path.join(folder, TENSORS), others),
    }
    if model:
        contents[MODEL] = write_tensors(files, os.path.join(folder, MODEL), model)
    write_manifest(files, os.path.join(folder, MANIFEST), metadata, contents)
    files.sync_folder(folder)


def read_checkpoint(files: Files, path: Path) -> LoadedCheckpoint:
    """Read a checkpoint, and verify every byte of it.

    Raises:
        CheckpointError: It does not exist, is damaged, or is not a checkpoint.
    """
    manifest = load_manifest(files, path)
    with _checkpoint_errors(path, STATE):
        with open_reader(files, str(path / STATE), manifest.files[STATE], MAX_STATE_BYTES) as reader:
            text = reader.read(reader.remaining)
        skeleton = strict_json.parse(text)
    with _checkpoint_errors(path, TENSORS):
        tensors = read_tensors(files, str(path / TENSORS), manifest.files[TENSORS])
    if MODEL in manifest.files:
        with _checkpoint_errors(path, MODEL):
            named = read_tensors(files, str(path / MODEL), manifest.files[MODEL])
            tensors |= {f"{_MODEL_KEY}{name}": tensor for name, tensor in named.items()}
    with _checkpoint_errors(path, STATE):
        tree = decode(Encoded(skeleton, tensors))
    return LoadedCheckpoint(path, tree, manifest.metadata)


def load_manifest(files: Files, path: Path) -> Manifest:
    """Read a checkpoint's manifest.

    Raises:
        CheckpointError: There is no checkpoint, or its manifest is damaged.
    """
    with _checkpoint_errors(path):
        if not files.is_folder(str(path)):
            raise ValueError("it is not a folder" if files.exists(str(path)) else "there is no such folder")
    with _checkpoint_errors(path, MANIFEST):
        return read_manifest(files, str(path / MANIFEST))


@contextlib.contextmanager
def _checkpoint_errors(path: Path, name: str | None = None) -> Iterator[None]:
    """Convert errors to a `CheckpointError` with the checkpoint's path and the file's name."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, ValueError, FsmtrainError, MemoryError, RuntimeError) as error:
        needs_memory = isinstance(error, MemoryError) or "allocate memory" in str(error)  # the latter is torch's
        reason = "there is not enough memory to load it" if needs_memory else error_text(error)
        reason = reason.removesuffix(".")
        raise CheckpointError(f"{path}: {name}: {reason}." if name else f"{path}: {reason}.") from error
