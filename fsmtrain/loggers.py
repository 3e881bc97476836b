"""`TensorBoardLogger`. Any object with ``log_metrics(metrics, step)`` is a logger: ``Trainer(logger=...)``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fsmtrain.errors import UsageError


class TensorBoardLogger:
    """Write metrics for TensorBoard: ``Trainer(logger=TensorBoardLogger("tensorboard/first"))``.

    Needs the package ``tensorboard``: ``pip install 'fsmtrain[tensorboard]'``.

    Args:
        folder: The folder of the event file. Use one folder per run.

    Raises:
        UsageError: ``tensorboard`` is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # only here: a slow import, which may be missing
        except ImportError as error:
            raise UsageError(
                f"TensorBoardLogger: cannot import tensorboard ({error}). Install it with pip install 'fsmtrain[tensorboard]'."
            ) from error
        self._folder, self._create_writer = os.fspath(folder), SummaryWriter
        self._writer: Any = None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of one step. The first call creates the event file."""
        if self._writer is None:
            self._writer = self._create_writer(self._folder, flush_secs=1)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the event file. A later `log_metrics` creates another one in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
