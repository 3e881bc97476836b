"""``ckpt_path``: the saved weights with which a model is tested or validated, or predicts.

``"best"`` and ``"last"`` are checkpoints of the run that was fitted; anything else is the path of a checkpoint or of a file of
weights. The weights stay in the model afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fsmtrain.errors import CheckpointError, UsageError
from fsmtrain.runtime.checkpointing.checkpoint_folder import FOLDER, describe_checkpoint, newest_in
from fsmtrain.runtime.model_files.weights import load_model_weights, load_weights
from fsmtrain.runtime.model_inspection.compiled_modules import plain_module
from fsmtrain.runtime.saved_checkpoint import SavedCheckpoint

if TYPE_CHECKING:
    from fsmtrain.machine import Machine

CkptPath = str | os.PathLike[str] | None


def load_ckpt_path(ckpt_path: CkptPath, model: nn.Module, fitted: Machine | None, call: str) -> SavedCheckpoint | None:
    """Load saved weights into a model, which keeps them. Nothing in the files is executed.

    The model's ``on_load_checkpoint`` gets what its ``on_save_checkpoint`` wrote.

    Args:
        ckpt_path: ``"best"``, ``"last"``, or a path. None: the weights that the model has.
        model: The model, which may be compiled.
        fitted: The run whose checkpoints ``"best"`` and ``"last"`` are; None if nothing was fitted.
        call: The method that was called, for messages, as in ``"test"``.

    Returns:
        What was loaded; None if nothing was.

    Raises:
        UsageError: There is no such checkpoint, or the model is being trained at the moment.
        CheckpointError: It cannot be read.
        ModelError: The weights belong to another model.
    """
    if ckpt_path is None:
        return None
    asked = f"{call}(ckpt_path={_shown(ckpt_path)})"
    if not isinstance(ckpt_path, (str, os.PathLike)):
        raise UsageError(f'{asked}: must be "best", "last", or the path of a checkpoint or of a file of weights.')
    if fitted is not None and fitted.is_running and plain_module(model) is fitted.model:
        raise UsageError(
            f"{asked}: the model is being trained, and would go on with the weights loaded here. Call {call}(...) after fit, "
            f"or pass a copy of the model."
        )
    chosen = _chosen(ckpt_path, fitted, asked)
    content = load_weights(_existing(chosen.path, asked), "cpu")
    load_model_weights(plain_module(model), content["state_dict"], content["written"])
    return chosen


def _chosen(ckpt_path: str | os.PathLike[str], fitted: Machine | None, asked: str) -> SavedCheckpoint:
    if ckpt_path not in ("best", "last"):
        return ckpt_path if isinstance(ckpt_path, SavedCheckpoint) else describe_checkpoint(Path(ckpt_path))
    if fitted is None:
        raise UsageError(
            f"{asked}: this trainer has not fitted a model, so it knows no checkpoints. Call fit(model) first, or pass the "
            f"path of a checkpoint, such as 'runs/0/checkpoints/000004'."
        )
    chosen = fitted.best_checkpoint if ckpt_path == "best" else fitted.last_checkpoint
    if chosen is None:
        raise UsageError(f"{asked}: {fitted.why_no_checkpoint(ckpt_path)}")
    return chosen


def _existing(path: Path, asked: str) -> Path:
    """Return the path of a checkpoint or a file that exists.

    Raises:
        CheckpointError: There is nothing.
        UsageError: It is a folder of checkpoints: which of them is not said.
    """
    if not path.exists():
        raise CheckpointError(f"{asked}: there is no such checkpoint and no such file.")
    for folder in (path, path / FOLDER):
        if path.is_dir() and (newest := newest_in(folder)) is not None:
            raise UsageError(f"{asked}: is a folder of several checkpoints. Pass one of them: the newest is {str(newest)!r}.")
    return path


def _shown(ckpt_path: Any) -> str:
    return repr(os.fspath(ckpt_path)) if isinstance(ckpt_path, os.PathLike) else repr(ckpt_path)
