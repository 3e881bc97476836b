"""``ckpt_path``: the saved weights with which a model is tested or validated, or predicts.

``"best"`` and ``"last"`` are checkpoints of the run that was fitted; anything else is the path of a checkpoint or of a file of
weights. The weights stay in the model afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.errors import UsageError
from fsmtrain.recorded_checkpoints import existing_weights
from fsmtrain.runtime.checkpointing.checkpoint_folder import describe_checkpoint
from fsmtrain.runtime.hooks.callback import Callback
from fsmtrain.runtime.model_files.weights import load_model_weights, load_weights
from fsmtrain.runtime.model_inspection.compiled_modules import load_plain_state_dict, plain_module, plain_state_dict
from fsmtrain.user_warnings import warn

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
    content = load_weights(existing_weights(chosen.path, asked), "cpu")
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


# ---- in a test that follows the training


class TestsBestWeights(Callback):
    """Let the test that follows a fit run with the best weights, if a ``ModelCheckpoint(monitor=...)`` ranks some.

    After the test the model has the weights of before, and so has a checkpoint of a run that is stopped within it.
    """

    def __init__(self) -> None:
        self._before: dict[str, Tensor] | None = None

    def on_test_start(self, machine: Machine) -> None:
        """Put the best weights in."""
        best = machine.best_checkpoint if machine.last_checkpoint is not None else None  # `last_checkpoint` waits for the disk
        if best is None:
            warn(f"the test is of the weights with which training ended: {machine.why_no_checkpoint('best')}")
            return
        self._before = {name: tensor.clone() for name, tensor in plain_state_dict(machine.model).items()}
        content = load_weights(best, "cpu")
        load_model_weights(machine.model, content["state_dict"], content["written"])
        machine.note_tested(best)

    def on_test_end(self, machine: Machine, metrics: Any) -> None:
        """Put the weights of before back."""
        if self._before is not None:
            load_plain_state_dict(machine.model, self._before)
            self._before = None


def _shown(ckpt_path: Any) -> str:
    return repr(os.fspath(ckpt_path)) if isinstance(ckpt_path, os.PathLike) else repr(ckpt_path)
