"""Loggers that come with the package. Any object with ``log_metrics(metrics, step)`` will do as well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fsmtrain.errors import UsageError


class TensorBoardLogger:
    """Writes metrics for TensorBoard: ``Trainer(logger=TensorBoardLogger("tensorboard/first"))``.

    It needs the package ``tensorboard``: ``pip install fsmtrain[tensorboard]``.

    Args:
        folder: Where the event file is made; one folder for each run that is to be told from the others.

    Raises:
        UsageError: The package is not there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # only here: it takes long to import, and may not be there
        except ImportError as error:
            raise UsageError(
                f"TensorBoardLogger: the package tensorboard is not there ({error}). Install it with "
                f"pip install 'fsmtrain[tensorboard]'."
            ) from error
        self._folder, self._make = os.fspath(folder), SummaryWriter
        self._writer: Any = None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of a step; the first ones make the file."""
        if self._writer is None:
            self._writer = self._make(self._folder, flush_secs=1)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write all that is left. What is logged later begins another file beside this one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
