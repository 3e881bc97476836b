"""Hyperparameters of a model: `HParams`, conversion from a user's objects, parsing from text."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from fsmtrain.errors import ModelError, UsageError
from fsmtrain.plurals import a_type_of


class HParams(argparse.Namespace):
    """Hyperparameters by attribute or item: ``hparams.learning_rate`` or ``hparams["learning_rate"]``."""

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def keys(self) -> list[str]:
        """Return the names."""
        return list(vars(self))


def hparams_to_dict(hparams: Any) -> dict[str, Any]:
    """Return the hyperparameters of a mapping, namespace, attrs object or dataclass as a dict; None: {}.

    Raises:
        ModelError: It is none of these, or a value is not plain data (numbers, strings, None, lists and dicts of them).
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
        raise ModelError(f"hparams={hparams!r}: must be a dict, a namespace, an attrs object or a dataclass.")
    for name, value in values.items():
        if not _is_plain(value):
            raise ModelError(
                f"hparams: {name}={value!r} is {a_type_of(value)}, which cannot be saved as plain data. Use numbers, "
                f"strings, None, and lists and dicts of them; keep other objects in other attributes of the model."
            )
    return values


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, (str, int)) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def read_tags_csv(path: str | os.PathLike[str]) -> HParams:
    """Read the hyperparameters of a ``meta_tags.csv``; values are bools, ints, floats or strings.

    Raises:
        UsageError: The file's header is not ``key,value``.
    """
    with Path(path).open(newline="") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != ["key", "value"]:
        raise UsageError(f"tags_csv={str(path)!r}: the first line of the file must be key,value.")
    return HParams(**{row[0]: parse_value(row[1]) for row in rows[1:] if len(row) == 2})


def parse_value(text: str) -> bool | int | float | str:
    """Parse a value as a bool, an int or a float, or else return the text.

    >>> [parse_value(text) for text in ("True", "3", "0.5", "1e-3", "adam")]
    [True, 3, 0.5, 0.001, 'adam']
    """
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
