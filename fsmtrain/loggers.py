"""`TensorBoardLogger`. Any object with ``log_metrics(metrics, step)`` is a logger: ``Trainer(logger=...)``.

If it has ``log_hyperparams(hparams)``, that is called first; ``flush()`` before each checkpoint, ``close()`` at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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
        writer = self.writer
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    @property
    def writer(self) -> Any:
        """Torch's ``SummaryWriter``, for what is no number: images, histograms, text."""
        if self._writer is None:
            self._writer = self._create_writer(self._folder, flush_secs=1)
        return self._writer

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        """Write the hyperparameters, which TensorBoard lists on its page HPARAMS; those in dicts as ``optimizer/lr``."""
        from torch.utils.tensorboard.summary import hparams as summaries

        values = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in _flat(hparams)}
        for summary in summaries(values, {}):  # type: ignore[no-untyped-call]
            self.writer._get_file_writer().add_summary(summary)

    def flush(self) -> None:
        """Hand what has been written to the operating system, so that it outlives a kill. Called before each checkpoint."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the event file. A later `log_metrics` creates another one in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _flat(hparams: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the hyperparameters with those in dicts by path.

    >>> dict(_flat({"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.99]}}))
    {'lr': 0.1, 'optimizer/name': 'adam', 'optimizer/betas': [0.9, 0.99]}
    """
    for name, value in hparams.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
