"""Save and load a model's weights: ``save_checkpoint``, ``load_from_checkpoint``, ``meta_tags.csv``."""

from __future__ import annotations

import copy
import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fsmtrain.errors import DAMAGED_STATE, CheckpointError, ModelError
from fsmtrain.replace_file import replace_file
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.manifest import STATE
from fsmtrain.runtime.hooks.checkpoint_hooks import written_by
from fsmtrain.runtime.model_files.hparams import HParams, hparams_to_dict, match_hparams, split_plain, warn_of_unused_hparams
from fsmtrain.runtime.model_files.lightning_checkpoints import parse_checkpoint
from fsmtrain.runtime.model_files.safe_torch_load import read_torch_file
from fsmtrain.runtime.model_inspection.compiled_modules import load_plain_state_dict, plain_state_dict, with_plain_keys

M = TypeVar("M", bound=nn.Module)
Path_ = str | os.PathLike[str]

EVALUATED = "evaluated_weights"  # the key of a checkpoint's weights for validation, if they are not those of the training


def save_weights(path: Path_, model: nn.Module, more: Mapping[str, Any]) -> None:
    """Write a model's ``state_dict`` and ``hparams`` to a file, and ``meta_tags.csv`` beside it.

    If the process is killed, or the power is cut, the file is either the old one or the new one.

    Args:
        path: The file.
        model: The model.
        more: Additional items of the file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hparams = saved_hparams(model)
    content = {"state_dict": plain_state_dict(model), "hparams": hparams, **more}
    save = getattr(model, "on_save_checkpoint", None)
    if callable(save):
        content["hooks"] = {"model": written_by(save, "model")}
    replace_file(target, lambda file: torch.save(content, file), durable=True)
    tags = io.StringIO(newline="")
    csv.writer(tags).writerows([("key", "value"), *hparams.items()])
    replace_file(target.with_name("meta_tags.csv"), tags.getvalue().encode(), durable=True)


def saved_hparams(model: nn.Module) -> dict[str, Any]:
    """Return the hyperparameters of a model that files contain: all, but for arguments of ``__init__`` that are not plain data.

    Raises:
        ModelError: One that the model set itself is not plain data.
    """
    hparams = getattr(model, "hparams", None)
    # save_hyperparameters has warned of the others.
    return split_plain(hparams)[0] if isinstance(hparams, HParams) else hparams_to_dict(hparams)


def load_weights(path: Path_, map_location: Any = None) -> dict[str, Any]:
    """Load the ``state_dict`` and ``hparams`` of a checkpoint folder, or of a file of any trainer.

    Of a checkpoint these are the weights that were validated, where a callback such as an average has others than the training.

    Under ``written`` is what the model's ``on_save_checkpoint`` wrote; None if it wrote nothing. Of a file of Lightning, whose
    hook writes among the keys of the file, it is the whole content.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: It is another kind of file, is damaged, or has more than plain data and tensors.
    """
    if Path(path).is_dir():
        tree = Store(Path(path).parent).load(path).tree
        weights, hparams = (tree.get("model"), tree.get("hparams")) if isinstance(tree, Mapping) else (None, None)
        weights = weights if not isinstance(tree, Mapping) else tree.get(EVALUATED) or weights
        if not _is_by_name(weights) or not _is_by_name(hparams or {}):
            raise CheckpointError(
                f"{path}: {STATE}: it has no weights and hyperparameters by name, so fsmtrain did not save it."
            )
        return {"state_dict": weights, "hparams": hparams, "written": _written_by_model(tree)}
    content = read_torch_file(Path(path), map_location)
    parsed = parse_checkpoint(Path(path), content)
    is_of_lightning = isinstance(content, Mapping) and "pytorch-lightning_version" in content
    written = content if is_of_lightning else _written_by_model(content)
    return {"state_dict": parsed.weights, "hparams": parsed.hparams, "written": written}


def _written_by_model(content: Any) -> Any:
    hooks = content.get("hooks") if isinstance(content, Mapping) else None
    return hooks.get("model") if isinstance(hooks, Mapping) else None


def _is_by_name(values: Any) -> bool:
    return isinstance(values, Mapping) and all(isinstance(name, str) for name in values)


def build_model(
    cls: type[M],
    hparams: Mapping[str, Any] | None,
    state_dict: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    written: Any = None,
) -> M:
    """Make a model of a class with saved hyperparameters and weights, in eval mode.

    Args:
        cls: The class.
        hparams: The hyperparameters, passed as `match_hparams` says; None if none are saved.
        state_dict: The weights.
        arguments: More arguments of the class, which win.
        written: What the model's ``on_save_checkpoint`` wrote; None if nothing.

    Raises:
        ModelError: The class cannot be called like this, or the weights belong to another model.
    """
    saved, own = hparams or {}, arguments or {}
    try:
        args, keywords = match_hparams(cls, hparams, own)
        model = cls(*args, **keywords)
    except TypeError as error:
        with_what = " and ".join([*(["the saved hparams"] if saved else []), *own]) or "no argument"
        raise ModelError(
            f"{cls.__name__} cannot be made with {with_what}: {error}. Pass what is missing by its name, as in "
            f"{cls.__name__}.load_from_checkpoint(path, lr=0.1)."
        ) from error
    if not args:
        warn_of_unused_hparams(cls, saved, keywords)
    load_model_weights(model, state_dict, written)
    return model.eval()


def _fits(model: nn.Module, state_dict: Mapping[str, Any]) -> bool:
    """Return whether weights have the names and shapes of those of a model."""
    own, given = plain_state_dict(model), with_plain_keys(state_dict)
    return own.keys() == given.keys() and all(_shape_of(own[name]) == _shape_of(given[name]) for name in own)


def _shape_of(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) and not is_lazy(value) else None


def _copied_weights(model: nn.Module) -> dict[str, Any] | None:
    own = plain_state_dict(model)
    return None if any(map(is_lazy, own.values())) else {name: copy.deepcopy(value) for name, value in own.items()}


def load_model_weights(model: nn.Module, state_dict: Mapping[str, Any], written: Any = None) -> None:
    """Load weights into a model. Its ``on_load_checkpoint`` gets what the other hook wrote before, if anything.

    Raises:
        ModelError: They belong to another model; this one has the weights of before then.
    """
    load = getattr(model, "on_load_checkpoint", None)
    if callable(load) and written is not None:
        load(written)
    before = None if _fits(model, state_dict) else _copied_weights(model)  # torch loads what fits before it raises the error
    try:
        load_plain_state_dict(model, state_dict)
    except DAMAGED_STATE as error:
        if before is not None:
            load_plain_state_dict(model, before)
        raise ModelError(f"the weights do not fit this {type(model).__name__}: {error}") from error
