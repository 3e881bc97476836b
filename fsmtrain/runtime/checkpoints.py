"""The checkpoints of a run: written while it goes on, found when it is resumed. What is in one is told in `state`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsmtrain.errors import CheckpointError
from fsmtrain.notices import warn
from fsmtrain.runtime.saving.checkpoint import Loaded
from fsmtrain.runtime.saving.manifest import MANIFEST
from fsmtrain.runtime.saving.retention import Policy
from fsmtrain.runtime.saving.store import Store
from fsmtrain.runtime.saving.writer import Writer

FOLDER = Path("checkpoints")  # in the working directory


class Checkpoints:
    """A run's folder of checkpoints.

    Args:
        folder: Where they are.
        policy: Which are kept; None keeps all.
    """

    def __init__(self, folder: Path, policy: Policy | None) -> None:
        self.folder = folder
        self._writer = Writer(Store(folder), policy)

    def save(self, tree: Mapping[str, Any], about: Mapping[str, Any], *, must_keep: bool) -> None:
        """Save a state as it is now; returns when it is copied."""
        self._writer.submit(tree, about, must_keep=must_keep)

    def close(self) -> Path | None:
        """Wait until all is written; returns the last checkpoint that is durable, None where there is none."""
        self._writer.close()
        return self._writer.saved


def has_any(folder: Path) -> bool:
    """Whether there is a checkpoint in a folder, valid or not."""
    return bool(Store(folder).numbers())


def found(path: str | os.PathLike[str]) -> Loaded:
    """The checkpoint at a path, or the newest valid one in a folder of them; those skipped are told.

    Raises:
        CheckpointError: There is none, or none that can be read.
    """
    where = Path(path)
    if (where / MANIFEST).exists():
        return Store(where.parent).load(where)
    loaded = Store(where).newest()
    if loaded is None:
        raise CheckpointError(f"{where}: there is no checkpoint. Save some first, with Guards(save=...).")
    for skipped in loaded.skipped:
        warn(f"skipped a checkpoint that cannot be read: {skipped}")
    return loaded
