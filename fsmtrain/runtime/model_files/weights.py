"""A model's weights and hyperparameters as files: written whole or not at all, and read without running anything in them."""

from __future__ import annotations

import csv
import inspect
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from fsmtrain.atomic_write import write_atomically
from fsmtrain.errors import ModelError
from fsmtrain.runtime.checkpoint_files.store.store import Store
from fsmtrain.runtime.model_files.hparams import HParams, hparams_to_dict
from fsmtrain.runtime.model_files.importers import parse_checkpoint
from fsmtrain.runtime.model_files.safe_torch_load import read_torch_file

M = TypeVar("M", bound=nn.Module)
Path_ = str | os.PathLike[str]


def save_weights(path: Path_, model: nn.Module, more: Mapping[str, Any]) -> None:
    """Write a model's ``state_dict`` and ``hparams``, and `more`, and beside them ``meta_tags.csv``.

    The file is either the old one or the new one, whenever the process or the machine dies.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hparams = hparams_to_dict(getattr(model, "hparams", None))
    content = {"state_dict": model.state_dict(), "hparams": hparams, **more}
    write_atomically(target, lambda file: torch.save(content, file), durable=True)
    tags = io.StringIO(newline="")
    csv.writer(tags).writerows([("key", "value"), *hparams.items()])
    write_atomically(target.with_name("meta_tags.csv"), tags.getvalue().encode(), durable=True)


def load_weights(path: Path_, map_location: Any = None) -> dict[str, Any]:
    """The ``state_dict`` and the ``hparams`` in a file, whichever trainer wrote it; or in one of a run's checkpoints, a folder.

    Raises:
        FileNotFoundError: There is none.
        CheckpointError: It is no such file, damaged, or holds more than plain data and tensors.
    """
    if Path(path).is_dir():
        tree = Store(Path(path).parent).load(path).tree
        return {"state_dict": tree["model"], "hparams": tree["hparams"]}
    told = parse_checkpoint(Path(path), read_torch_file(Path(path), map_location))
    return {"state_dict": told.weights, "hparams": told.hparams}


def build_model(cls: type[M], hparams: HParams | None, state_dict: Mapping[str, Any]) -> M:
    """A model of this class with these hyperparameters and weights, in eval mode.

    It is given the hyperparameters whole, or each by its name where it has a parameter for each and none that is ``hparams``.

    Raises:
        ModelError: The class cannot be made so, or the weights are those of another model.
    """
    try:
        model = cls() if hparams is None else cls(**vars(hparams)) if _takes_each(cls, hparams) else cls(hparams)
    except TypeError as error:
        given = "no argument" if hparams is None else "the saved hparams"
        raise ModelError(f"{cls.__name__} cannot be made with {given}: {error}.") from error
    load_model_weights(model, state_dict)
    return model.eval()


def _takes_each(cls: type[nn.Module], hparams: HParams) -> bool:
    names = inspect.signature(cls).parameters
    return "hparams" not in names and vars(hparams).keys() <= names.keys()


def load_model_weights(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Give a model these weights.

    Raises:
        ModelError: They are those of another model.
    """
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ModelError(f"The weights are not those of this {type(model).__name__}: {error}") from error
