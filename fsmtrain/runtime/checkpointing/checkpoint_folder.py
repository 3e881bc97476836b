"""The folders of a run's checkpoints: whether they hold any, and loading one, by default the newest valid one."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from fsmtrain.core.model_checkpoint import FOLDER as FOLDER
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.errors import CheckpointError
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store, none_valid
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST
from fsmtrain.runtime.checkpointing.save_top_k import BATCH, EPOCH, STEP
from fsmtrain.user_warnings import warn


def has_checkpoints(folder: Path) -> bool:
    """Return whether there is a checkpoint in a folder, valid or not."""
    return bool(Store(folder).numbers())


def newest_in(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder, valid or not; None if there is none."""
    numbers = Store(folder).numbers()
    return folder / f"{numbers[-1]:06d}" if numbers else None


def saved_checkpoint(
    path: Path, metadata: Mapping[str, Any], *, monitor: str | None = None, score: float | None = None
) -> SavedCheckpoint:
    """Return a checkpoint with what its metadata say."""
    epoch, step = (number if is_integer(number := metadata.get(name)) else None for name in (EPOCH, STEP))
    return SavedCheckpoint(path=path, monitor=monitor, score=score, epoch=epoch, global_step=step)


def describe_checkpoint(path: Path) -> SavedCheckpoint:
    """Return a checkpoint, or a file of weights, with what its metadata say, as far as they can be read."""
    try:
        return saved_checkpoint(path, Store(path.parent).metadata_of(path))
    except CheckpointError:
        return SavedCheckpoint(path=path)


def load_checkpoint(path: str | os.PathLike[str]) -> LoadedCheckpoint:
    """Load the checkpoint at a path, or the newest valid one in a folder; warn of those skipped.

    Raises:
        CheckpointError: There is no checkpoint, or none that can be read.
    """
    where = Path(path)
    if (where / MANIFEST).exists():
        return Store(where.parent).load(where)
    loaded = Store(where).load_newest()
    if loaded is None:
        raise _no_checkpoint(where)
    _warn_of_skipped(loaded)
    return loaded


def load_newest(folders: Sequence[Path], is_own: Callable[[Path, Mapping[str, Any]], bool]) -> LoadedCheckpoint:
    """Load the newest valid checkpoint of a run; warn of those skipped.

    Args:
        folders: The folders of the run's checkpoints.
        is_own: Whether a checkpoint, given by its path and metadata, is of this run. If none is, the newest is loaded.

    Raises:
        CheckpointError: There is no checkpoint, or none that can be read.
    """
    skipped: list[str] = []
    foreign: list[Path] = []
    for path in _newest_first(folders):
        try:
            if is_own(path, Store(path.parent).metadata_of(path)):
                return _loaded(path, [*skipped, *(f"{other}: it is of another run." for other in foreign)])
            foreign.append(path)
        except CheckpointError as error:
            skipped.append(str(error))
    for path in foreign:
        try:
            return _loaded(path, skipped)
        except CheckpointError as error:
            skipped.append(str(error))
    if skipped:
        raise none_valid(", ".join(map(str, folders)), skipped)
    raise _no_checkpoint(*folders)


def _newest_first(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield all checkpoints in some folders, the newest first. In each folder their numbers rise."""
    stores = [Store(folder) for folder in {os.path.realpath(folder): folder for folder in folders}.values()]
    sorted_paths = [[store.folder / f"{number:06d}" for number in reversed(store.numbers())] for store in stores]
    filled = [paths for paths in sorted_paths if paths]
    return iter(filled[0]) if len(filled) == 1 else heapq.merge(*filled, key=_batches_begun, reverse=True)


def _batches_begun(path: Path) -> float:
    """Return how many batches a run had begun when it saved a checkpoint; infinity if its manifest cannot be read."""
    try:
        batches = Store(path.parent).metadata_of(path).get(BATCH)
    except CheckpointError:
        return math.inf
    return batches if isinstance(batches, int) else 0


def _loaded(path: Path, skipped: Sequence[str]) -> LoadedCheckpoint:
    loaded = evolve(Store(path.parent).load(path), skipped=tuple(skipped))
    _warn_of_skipped(loaded)
    return loaded


def _warn_of_skipped(loaded: LoadedCheckpoint) -> None:
    for skipped in loaded.skipped:
        warn(f"skipped a checkpoint that cannot be used: {skipped}")


def _no_checkpoint(*folders: Path) -> CheckpointError:
    names = ", ".join(map(str, folders))
    return CheckpointError(f"{names}: there is no checkpoint. To save some, pass callbacks=[ModelCheckpoint()].")
