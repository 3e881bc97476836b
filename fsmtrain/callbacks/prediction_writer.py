"""`PredictionWriter`: predictions on disk, batch by batch, for data whose outputs do not fit into memory."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import UsageError
from fsmtrain.machine import Machine
from fsmtrain.prediction_files import plain_output
from fsmtrain.replace_file import replace_file
from fsmtrain.runtime.evaluation.host_copies import HostCopies
from fsmtrain.runtime.hooks.callback import Callback
from fsmtrain.runtime.model_files.safe_torch_load import read_torch_file

_NAME = re.compile(r"(\d+)-(\d{6,})\.pt")  # of a loader and a batch, both from 0
_END = "end.json"


class PredictionWriter(Callback):
    """Write what ``predict_step`` returns to a folder: one file for each batch, ``0-000017.pt`` for batch 17 of loader 0.

    A file is there as a whole or not at all, and in the order of the batches; after a kill the files say how far the run came.
    ``end.json`` is written at the end: ``complete`` says whether all batches are there. The host does not wait for a GPU: a
    batch is written as soon as its output has arrived, after one of the later batches.

    Args:
        folder: The folder, which is made if it is not there.
        overwrite: Whether the predictions of an earlier run in it are removed. If not, they are an error.

    Raises:
        UsageError: When the run begins: the folder has predictions already.

    Example:
        >>> from fsmtrain import Trainer
        >>> from fsmtrain.callbacks import PredictionWriter
        >>> trainer = Trainer(callbacks=[PredictionWriter("predictions")])
        >>> # trainer.predict(model, loader, return_predictions=False)
        >>> # for output in PredictionWriter.read("predictions"): ...
    """

    def __init__(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.folder, self.overwrite = Path(folder), overwrite
        self._copies: HostCopies[Path] = HostCopies()
        self._written = 0
        self._has_begun = False

    def on_predict_start(self, machine: Machine) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        earlier = [*_files(self.folder), *self.folder.glob(_END)]
        if earlier and not self.overwrite:
            raise UsageError(
                f"PredictionWriter({str(self.folder)!r}): it has predictions of an earlier run. Pass another folder, or "
                f"overwrite=True to remove them."
            )
        for path in earlier:
            path.unlink()
        self._copies, self._written, self._has_begun = HostCopies(), 0, True

    def on_predict_batch_end(self, machine: Machine, outputs: Any, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        """Start to copy the output to the host, and write those that have arrived."""
        self._copies.add(self.folder / f"{dataloader_i}-{batch_nb:06}.pt", outputs)
        self._write_arrived()

    def on_predict_end(self, machine: Machine) -> None:
        """Write the rest."""
        self._write_arrived(wait=True)

    def on_run_end(self, machine: Machine) -> None:
        """Write whether all batches are there."""
        if self._has_begun:
            self._has_begun = False
            end = {"complete": machine.stop_reason is StopReason.TESTED, "batches": self._written}
            replace_file(self.folder / _END, json.dumps(end).encode(), durable=True)

    def _write_arrived(self, *, wait: bool = False) -> None:
        for path, output in self._copies.pop_arrived(wait=wait):
            file = io.BytesIO()
            torch.save(plain_output(output), file)
            replace_file(path, file.getvalue())
            self._written += 1

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles contain: a callback that has not run yet."""
        return vars(PredictionWriter(self.folder, overwrite=self.overwrite))

    @staticmethod
    def read(folder: str | os.PathLike[str]) -> Iterator[Any]:
        """Iterate over the outputs in a folder, loader by loader, in the order of the batches. No code in a file is executed.

        Raises:
            CheckpointError: A file is damaged.
            UsageError: There are none.
        """
        files = _files(Path(folder))
        if not files:
            raise UsageError(f"PredictionWriter.read({os.fspath(folder)!r}): there are no predictions.")
        return map(read_torch_file, files)


def _files(folder: Path) -> list[Path]:
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))] if folder.is_dir() else []
    return [path for _, path in sorted(found, key=lambda item: (int(item[0][1]), int(item[0][2])))]
