"""`SavedCheckpoint`: a checkpoint of a run, with the value that ranks it."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import field, frozen


@frozen(kw_only=True)
class SavedCheckpoint(os.PathLike[str]):
    """A checkpoint, or a file of weights. It is a path wherever one is expected.

    Attributes:
        path: Where it is.
        monitor: The metric by which it is the best; None if it is not one of the best.
        score: The value of that metric; None likewise.
        epoch: The epoch in which it was saved, from 0; None if it is not known.
        global_step: The steps of its weights; None likewise.

    >>> str(SavedCheckpoint(path="runs/0/checkpoints/000004", monitor="val_loss", score=0.25))
    'runs/0/checkpoints/000004 (the best by val_loss: 0.25)'
    """

    path: Path = field(converter=Path)
    monitor: str | None = None
    score: float | None = None
    epoch: int | None = None
    global_step: int | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path) if self.monitor is None else f"{self.path} (the best by {self.monitor}: {self.score:.6g})"
