"""A model's weights and hyperparameters as files: written whole or not at all, and read without running anything in them."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import inspect
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from torch import nn

from fsmtrain.errors import ModelError, UsageError
from fsmtrain.runtime.saving.store import Store
from fsmtrain.runtime.torch_files import read_torch_file

M = TypeVar("M", bound=nn.Module)
Path_ = str | os.PathLike[str]


class HParams(argparse.Namespace):
    """Hyperparameters, by attribute or by item: ``hparams.learning_rate`` or ``hparams["learning_rate"]``."""

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def keys(self) -> list[str]:
        """The names."""
        return list(vars(self))


def plain_hparams(hparams: Any) -> dict[str, Any]:
    """Hyperparameters as a dict: from a mapping, a namespace, an attrs object or a dataclass; None is none.

    Raises:
        ModelError: They are none of these, or a value is not plain data (numbers, strings, None, lists and dicts of them).
    """
    if hparams is None:
        return {}
    if isinstance(hparams, Mapping):
        values = {str(key): value for key, value in hparams.items()}
    elif attrs.has(type(hparams)):
        values = attrs.asdict(hparams)
    elif dataclasses.is_dataclass(hparams) and not isinstance(hparams, type):
        values = dataclasses.asdict(hparams)
    elif hasattr(hparams, "__dict__"):
        values = dict(vars(hparams))
    else:
        raise ModelError(f"hparams: {hparams!r} is not a dict, a namespace, an attrs object or a dataclass.")
    for name, value in values.items():
        if not _is_plain(value):
            raise ModelError(
                f"hparams: {name}={value!r} is a {type(value).__name__}, and cannot be saved as plain data. Keep numbers, "
                f"strings, None, and lists and dicts of them in the hparams, and anything else beside them."
            )
    return values


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, (str, int)) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def save_weights(path: Path_, model: nn.Module, more: Mapping[str, Any]) -> None:
    """Write a model's ``state_dict`` and ``hparams``, and `more`, and beside them ``meta_tags.csv``.

    The file is either the old one or the new one, whenever the process or the machine dies.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    hparams = plain_hparams(getattr(model, "hparams", None))
    content = {"state_dict": model.state_dict(), "hparams": hparams, **more}
    _write(target, lambda file: torch.save(content, file))
    rows = [("key", "value"), *hparams.items()]

    def write_tags(file: Any) -> None:
        text = "".join(map(_csv_line, rows))
        file.write(text.encode())

    _write(target.with_name("meta_tags.csv"), write_tags)


def _csv_line(row: tuple[Any, ...]) -> str:
    lines: list[str] = []
    csv.writer(_Lines(lines)).writerow(row)
    return "".join(lines)


class _Lines:
    """A file as far as `csv` is concerned."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, text: str) -> int:
        self._lines.append(text)
        return len(text)


def _write(target: Path, write: Any) -> None:
    """Write beside the target, make it durable, and put it in its place in one step."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_tags(path: Path_) -> HParams:
    """The hyperparameters in a ``meta_tags.csv``: values read as bool, then int, float, str.

    Raises:
        UsageError: The file's header is not ``key,value``.
    """
    with Path(path).open(newline="") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != ["key", "value"]:
        raise UsageError(f"tags_csv={str(path)!r}: its first line must be key,value.")
    return HParams(**{row[0]: read_value(row[1]) for row in rows[1:] if len(row) == 2})


def read_value(text: str) -> bool | int | float | str:
    """One value as it was meant: a bool, an int, a float, or else the text itself.

    >>> [read_value(text) for text in ("True", "3", "0.5", "1e-3", "adam")]
    [True, 3, 0.5, 0.001, 'adam']
    """
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def load_weights(path: Path_, map_location: Any = None) -> dict[str, Any]:
    """What is in a checkpoint file: at least ``state_dict``; a file that holds nothing else is taken for one.

    A folder is one of a run's checkpoints, of which the weights and the hyperparameters are taken.

    Raises:
        UsageError: The file is no checkpoint.
        CheckpointError: It is none, damaged, or holds more than plain data and tensors.
    """
    if Path(path).is_dir():
        tree = Store(Path(path).parent).load(path).tree
        return {"state_dict": tree["model"], "hparams": tree["hparams"]}
    content = read_torch_file(Path(path), map_location)
    if not isinstance(content, dict):
        raise UsageError(f"{str(path)!r} holds a {type(content).__name__}, not a checkpoint with a state_dict.")
    return content if "state_dict" in content else {"state_dict": content}


def restore_model(cls: type[M], hparams: HParams | None, state_dict: Mapping[str, Any]) -> M:
    """A model of this class with these hyperparameters and weights, in eval mode.

    It is given the hyperparameters whole, or each by its name where it has a parameter for each and none that is ``hparams``.

    Raises:
        ModelError: The class cannot be made so, or the weights are those of another model.
    """
    try:
        model = cls() if hparams is None else cls(**vars(hparams)) if _by_name(cls, hparams) else cls(hparams)
    except TypeError as error:
        given = "no argument" if hparams is None else "the saved hparams"
        raise ModelError(f"{cls.__name__} cannot be made with {given}: {error}.") from error
    put_weights(model, state_dict)
    return model.eval()


def _by_name(cls: type[nn.Module], hparams: HParams) -> bool:
    names = inspect.signature(cls).parameters
    return "hparams" not in names and vars(hparams).keys() <= names.keys()


def put_weights(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Give a model these weights.

    Raises:
        ModelError: They are those of another model.
    """
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ModelError(f"The weights are not those of this {type(model).__name__}: {error}") from error
