"""Parse the values of command line flags by the type of the flag. `Options` validates them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from fsmtrain.cli.value_reader import WORDS, quoted, read_prefix, read_value
from fsmtrain.errors import UsageError
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.model_files.hparams import HParams

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
        if NoneType in kinds and is_none(text):
            return None
        if is_text:
            return text
        if allows_mapping(hint) and ":" in text and not text.lstrip().startswith("{"):
            return read_value(f"{{{text}}}")
        try:
            return read_value(text)
        except UsageError:
            return text  # which `Options` refuses, with the rule of this flag

    return parse


def is_none(text: str) -> bool:
    """Return whether a text is a spelling of None."""
    return WORDS.get(text.lower(), text) is None


def parse_sizes(texts: Sequence[str]) -> tuple[int | None, ...]:
    """Parse the numbers of batches of one or more loaders; None for a loader without a length.

    >>> parse_sizes(["12", "6,stream"])
    (12, 6, None)
    """
    return tuple(_parse_size(size.strip()) for text in texts for size in text.split(","))


def _parse_size(text: str) -> int | None:
    if text == STREAM:
        return None
    size = value_parser(int)(text)
    if not is_integer(size):
        raise UsageError(f"{text!r} is not a number of batches. Pass an int, or {STREAM} for a loader without a length.")
    return size


_PAIR = re.compile(r"\s*([^\W\d]\w*)\s*=")  # name=
_COMMA = re.compile(rf"\s*,(?={_PAIR.pattern})")  # between two pairs


def parse_hparams(texts: Sequence[str], flag: str = "hparams") -> HParams:
    """Parse the hyperparameters of a flag, each ``name=value``, separated by commas that another ``name=`` follows.

    >>> vars(parse_hparams(["lr=0.1,hidden=32", "betas=[0.9,0.99],name=a,b"]))
    {'lr': 0.1, 'hidden': 32, 'betas': [0.9, 0.99], 'name': 'a,b'}
    """
    hparams: dict[str, Any] = {}
    for text in texts:
        at = 0
        while at < max(1, len(text)):
            pair = _PAIR.match(text, at)
            if pair is None:
                raise UsageError(f"--{flag} {text[at:]}: must be name=value, as in --{flag} lr=0.1,hidden=32.")
            name = pair.group(1)
            if name in hparams:
                raise UsageError(f"--{flag} {text[at:]}: {name} occurs twice.")
            hparams[name], at = _parse_hparam(text, name, pair.end(), flag)
    return HParams(**hparams)


def _parse_hparam(text: str, name: str, begin: int, flag: str) -> tuple[Any, int]:
    """Return the value that begins at an index, and the index of the next pair."""
    comma = _COMMA.search(text, begin)
    typed = text[begin : comma.start() if comma else len(text)].strip()
    try:
        value, end = read_prefix(text, begin, _COMMA)
        comma = _COMMA.match(text, end)
        if comma is None and text[end:].strip():
            raise UsageError(f"{text[end:].strip()} follows after the value.")
    except UsageError as error:
        raise UsageError(f"--{flag} {name}={typed}: {error} For a text type --{flag} '{name}={quoted(typed)}'.") from error
    return value, comma.end() if comma else len(text)
