"""The folder of a run's checkpoints: write to it in the background, find the newest valid checkpoint, load one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import RetentionPolicy, Store
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST
from fsmtrain.runtime.checkpointing.save_top_k import MetricRanking
from fsmtrain.user_warnings import warn

FOLDER = Path("checkpoints")  # in the run folder, or in the working directory


class CheckpointFolder:
    """A run's folder of checkpoints.

    Args:
        folder: Its path.
        policy: Which checkpoints are kept; None keeps all.
    """

    def __init__(self, folder: Path, policy: RetentionPolicy | None) -> None:
        self.folder, self._policy = folder, policy
        self._writer = BackgroundWriter(Store(folder), policy)

    def save(self, tree: Mapping[str, Any], metadata: Mapping[str, Any], *, must_keep: bool) -> None:
        """Copy a state and queue it for writing."""
        self._writer.submit(tree, metadata, must_keep=must_keep)

    def last(self) -> Path | None:
        """Wait until all is written; return the last durable checkpoint, if any."""
        self._writer.wait()
        return self._writer.last_saved

    def close(self) -> None:
        """Wait until all is written, and remove what is not kept."""
        self._writer.close()
        if self._policy is not None and self._writer.last_saved is not None:
            try:
                self._writer.store.prune(self._policy)
            except CheckpointError as error:
                warn(str(error))

    def best(self, ranking: MetricRanking) -> Path | None:
        """Return the checkpoint with the best value, if there is one."""
        numbers = list(ranking.best(self._writer.store.metadata()))
        return self.folder / f"{numbers[0]:06d}" if numbers else None


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
