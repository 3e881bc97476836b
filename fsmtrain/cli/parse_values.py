"""Parse the values of command line flags, without evaluating code. `Options` validates them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from fsmtrain.errors import UsageError
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.model_files.hparams import HParams, parse_value

NONE_SPELLINGS = ("none", "None")
STREAM = "stream"  # the size of a loader without a length


def union_members(hint: Any) -> tuple[Any, ...]:
    """Return the types that a type hint allows.

    >>> union_members(int | None), union_members(float)
    ((<class 'int'>, <class 'NoneType'>), (<class 'float'>,))
    """
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def allows_mapping(hint: Any) -> bool:
    """Return whether a type hint allows a mapping."""
    return any(get_origin(member) is Mapping for member in union_members(hint))


def is_path(hint: Any) -> bool:
    """Return whether a type hint is that of a path."""
    return get_origin(hint) is os.PathLike


def value_parser(hint: Any) -> Callable[[str], Any]:
    """Return the parser of a flag's value.

    The spelling of a number decides its type: ``1`` is an int, ``1.0`` a float.

    >>> interval, windows, name = value_parser(float), value_parser(int | Mapping[int, int]), value_parser(str | None)
    >>> interval("1"), interval("1.0"), windows("4"), windows("0:1,4:2"), name("3"), name("none")
    (1, 1.0, 4, {0: 1, 4: 2}, '3', None)
    """
    kinds = union_members(hint)
    is_text = all(kind in (str, NoneType) or is_path(kind) for kind in kinds)

    def parse(text: str) -> Any:
        if NoneType in kinds and text in NONE_SPELLINGS:
            return None
        if allows_mapping(hint) and (":" in text or text.startswith("{")):
            return _parse_mapping(text)
        return text if is_text else parse_value(text)

    return parse


def _parse_mapping(text: str) -> dict[Any, Any]:
    """Parse ``0:1,4:2``, with or without braces."""
    inside = text.strip().removeprefix("{").removesuffix("}")
    pairs = [pair.partition(":") for pair in inside.split(",")] if inside.strip() else []
    mapping: dict[Any, Any] = {}
    for name, _, value in pairs:
        key = parse_value(name.strip())
        if key in mapping:
            raise UsageError(f"{text}: the key {key} occurs twice.")
        mapping[key] = parse_value(value.strip())
    return mapping


def parse_sizes(texts: Sequence[str]) -> tuple[int | None, ...]:
    """Parse the numbers of batches of one or more loaders; None for a loader without a length.

    >>> parse_sizes(["12", "6,stream"])
    (12, 6, None)
    """
    return tuple(_parse_size(size.strip()) for text in texts for size in text.split(","))


def _parse_size(text: str) -> int | None:
    size = parse_value(text)
    if text == STREAM:
        return None
    if not is_integer(size):
        raise UsageError(f"{text!r} is not a number of batches. Pass an int, or {STREAM} for a loader without a length.")
    return size


def parse_hparams(texts: Sequence[str]) -> HParams:
    """Parse hyperparameters, each ``name=value``, separated by commas that another ``name=`` follows.

    >>> vars(parse_hparams(["lr=0.1,hidden=32", "betas=0.9,0.99"]))
    {'lr': 0.1, 'hidden': 32, 'betas': '0.9,0.99'}
    """
    hparams: dict[str, Any] = {}
    for pair in (pair for text in texts for pair in re.split(r",(?=[^\W\d]\w*=)", text)):
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--hparams {pair}: must be name=value, as in --hparams lr=0.1,hidden=32.")
        if name in hparams:
            raise UsageError(f"--hparams {pair}: {name} occurs twice.")
        hparams[name] = None if value in NONE_SPELLINGS else parse_value(value)
    return HParams(**hparams)
