"""The folder of a run's checkpoints: whether it holds any, and loading one, by default the newest valid one."""

from __future__ import annotations

import os
from pathlib import Path

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST
from fsmtrain.user_warnings import warn

FOLDER = Path("checkpoints")  # in the run folder, or in the working directory


def has_checkpoints(folder: Path) -> bool:
    """Return whether there is a checkpoint in a folder, valid or not."""
    return bool(Store(folder).numbers())


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
        raise CheckpointError(f"{where}: there is no checkpoint. To save some, pass callbacks=[ModelCheckpoint()].")
    for skipped in loaded.skipped:
        warn(f"skipped a checkpoint that cannot be read: {skipped}")
    return loaded
