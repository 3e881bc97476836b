"""What is typed, read as values. Nothing here is evaluated, and no rule on a flag is here: `Options` judges what was read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from fsmtrain.errors import UsageError
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.model_files.hparams import HParams, read_value

NONE = ("none", "None")
STREAM = "stream"


def members(hint: Any) -> tuple[Any, ...]:
    """The types that a type hint allows.

    >>> members(int | None), members(float)
    ((<class 'int'>, <class 'NoneType'>), (<class 'float'>,))
    """
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def takes_mapping(hint: Any) -> bool:
    """Whether a mapping is one of the values that a type hint allows."""
    return any(get_origin(member) is Mapping for member in members(hint))


def is_path(hint: Any) -> bool:
    """Whether a type hint is that of paths."""
    return get_origin(hint) is os.PathLike


def reader_of(hint: Any) -> Callable[[str], Any]:
    """How one value of a flag is read: a number as it is written, so that ``1`` is an int and ``1.0`` a float.

    >>> interval, windows, name = reader_of(float), reader_of(int | Mapping[int, int]), reader_of(str | None)
    >>> interval("1"), interval("1.0"), windows("4"), windows("0:1,4:2"), name("3"), name("none")
    (1, 1.0, 4, {0: 1, 4: 2}, '3', None)
    """
    kinds = members(hint)
    is_text = all(kind in (str, NoneType) or is_path(kind) for kind in kinds)

    def read(text: str) -> Any:
        if NoneType in kinds and text in NONE:
            return None
        if takes_mapping(hint) and (":" in text or text.startswith("{")):
            return _mapping(text)
        return text if is_text else read_value(text)

    return read


def _mapping(text: str) -> dict[Any, Any]:
    """``0:1,4:2``, which may also stand in braces."""
    inside = text.strip().removeprefix("{").removesuffix("}")
    pairs = [pair.partition(":") for pair in inside.split(",")] if inside.strip() else []
    read = [(read_value(key.strip()), read_value(value.strip())) for key, _, value in pairs]
    keys = [key for key, _ in read]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"{text}: {key} is there twice.")
    return dict(read)


def sizes_of(texts: Sequence[str]) -> tuple[int | None, ...]:
    """Numbers of batches, of one loader or several; None for a stream.

    >>> sizes_of(["12", "6,stream"])
    (12, 6, None)
    """
    return tuple(_size(text.strip()) for typed in texts for text in typed.split(","))


def _size(text: str) -> int | None:
    size = read_value(text)
    if text == STREAM:
        return None
    if not is_integer(size):
        raise UsageError(f"{text!r} is no number of batches: type an int, as in 45, or {STREAM} for a loader without a length.")
    return size


def hparams_of(texts: Sequence[str]) -> HParams:
    """Hyperparameters, each ``name=value``; several with commas between them, where another ``name=`` follows.

    >>> vars(hparams_of(["lr=0.1,hidden=32", "betas=0.9,0.99"]))
    {'lr': 0.1, 'hidden': 32, 'betas': '0.9,0.99'}
    """
    found: dict[str, Any] = {}
    for pair in (pair for text in texts for pair in re.split(r",(?=[^\W\d]\w*=)", text)):
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--hparams {pair}: name=value is needed, as in --hparams lr=0.1,hidden=32.")
        if name in found:
            raise UsageError(f"--hparams {pair}: {name} is there twice.")
        found[name] = None if value in NONE else read_value(value)
    return HParams(**found)
