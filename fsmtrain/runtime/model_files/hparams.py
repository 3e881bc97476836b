"""Hyperparameters of a model: `HParams`, their plain part for files, and calls of a class with saved ones."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import inspect
import io
import os
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from fsmtrain.errors import ModelError, UsageError
from fsmtrain.plain_files import read_plain_file
from fsmtrain.plurals import a_type_of
from fsmtrain.user_warnings import warn

MAX_TAGS_BYTES = 2**24  # of a meta_tags.csv


class HParams(argparse.Namespace, MutableMapping[str, Any]):  # type: ignore[misc]  # both define __contains__ and __eq__
    """Hyperparameters by attribute or item, and by a dict's methods: ``hparams.lr``, ``hparams["lr"]``."""

    def __init__(self, /, **values: Any) -> None:
        vars(self).update(values)  # one may be named self

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        vars(self)[name] = value

    def __delitem__(self, name: str) -> None:
        del vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


class AttributeDict(dict[str, Any]):
    """A dict whose items are attributes, too: an argument read from a file, which may have been a namespace or a dict."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


# ---- plain data


class _NotPlainError(Exception):
    """A value is not numbers, strings, None, and lists and dicts of them."""


def hparams_to_dict(hparams: Any) -> dict[str, Any]:
    """Return the hyperparameters of a mapping, namespace, attrs object or dataclass as a dict of plain data; None: {}.

    Raises:
        ModelError: It is none of these, or a value is not plain data (numbers, strings, None, lists and dicts of them).
    """
    plain, others = split_plain(hparams)
    for name, value in others.items():
        raise ModelError(
            f"hparams: {name}={value!r} is {a_type_of(value)}, which cannot be saved as plain data. Use numbers, "
            f"strings, None, and lists and dicts of them; keep other objects in other attributes of the model."
        )
    return plain


def split_plain(hparams: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the hyperparameters that are plain data, and the others, which no file can contain.

    Raises:
        ModelError: It is not a mapping, a namespace, an attrs object or a dataclass.
    """
    plain, others = dict[str, Any](), dict[str, Any]()
    for name, value in hparams_items(hparams).items():
        try:
            plain[name] = _to_plain(value)
        except _NotPlainError:
            others[name] = value
    return plain, others


def plain_part(hparams: Any) -> dict[str, Any]:
    """Return the hyperparameters that are plain data; none of an object that holds no hyperparameters."""
    try:
        return split_plain(hparams)[0]
    except ModelError:
        return {}


def hparams_items(hparams: Any) -> dict[str, Any]:
    """Return the hyperparameters of an object by name, as they are; None has none.

    Raises:
        ModelError: It is not a mapping, a namespace, an attrs object or a dataclass.
    """
    if hparams is None:
        return {}
    items = _items(hparams)
    if items is None and hasattr(hparams, "__dict__") and not isinstance(hparams, type):
        items = vars(hparams)
    if items is None:
        raise ModelError(f"hparams={hparams!r}: must be a dict, a namespace, an attrs object or a dataclass.")
    return {str(name): value for name, value in items.items()}


def _items(value: Any) -> Mapping[Any, Any] | None:
    """Return the items of a mapping, a namespace, an attrs object or a dataclass; None for anything else."""
    if isinstance(value, argparse.Namespace):
        return vars(value)
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return None


def _to_plain(value: Any) -> Any:
    """Return a value as numbers, strings, None, and lists, tuples and dicts of them.

    Raises:
        _NotPlainError: It has another part.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return _to_plain(value.item()) if isinstance(value, np.bool_ | np.number) else _refuse()
    for kind in (int, float):
        if isinstance(value, kind):  # an IntEnum, say: files contain no classes
            return kind(value)
    if isinstance(value, str):
        return str.__str__(value)
    items = _items(value)
    if items is not None:
        return {key if type(key) is int else _to_plain_key(key): _to_plain(item) for key, item in items.items()}
    if isinstance(value, tuple):
        return tuple(map(_to_plain, value))
    return [_to_plain(item) for item in value] if isinstance(value, Sequence) else _refuse()


def _to_plain_key(key: Any) -> str:
    return str.__str__(key) if isinstance(key, str) else _refuse()


def _refuse() -> Any:
    raise _NotPlainError


# ---- a class and its saved hyperparameters


def match_hparams(
    cls: Callable[..., Any], hparams: Mapping[str, Any] | None, own: Mapping[str, Any], *, uses_all: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which to call a class or function, from hyperparameters and arguments of the caller.

    A class with a parameter ``hparams`` gets all as one argument, unless one of them has that name. Another class gets those
    for which it has parameters, each by its name; all as one argument if that would leave a parameter without a value.

    Args:
        cls: The class, or a function that makes a model.
        hparams: The hyperparameters; None if there are none.
        own: The caller's arguments, which win.
        uses_all: Whether each hyperparameter must be used, since it was typed for this call; with it the call fails if there is
            no parameter for one. Saved ones may be those of a later version.

    Returns:
        The positional arguments and the keywords.
    """
    if not hparams or not (uses_all or inspect.signature(cls).parameters):
        return (), dict(own)
    parameters, takes_any = _reachable_parameters(cls)
    is_one = "hparams" in parameters and "hparams" not in hparams
    accepted = hparams if takes_any or uses_all else {name: value for name, value in hparams.items() if name in parameters}
    keywords = {**accepted, **own}
    required = {
        name for name, p in inspect.signature(cls).parameters.items() if p.default is p.empty and p.kind not in _VARIABLE
    }
    is_each = uses_all or (bool(accepted) and (required <= keywords.keys() or hparams.keys() <= parameters.keys()))
    if is_one or not is_each:
        return (HParams(**hparams),), dict(own)
    annotations = _annotations(cls.__init__ if isinstance(cls, type) else cls)  # type: ignore[misc]
    return (), {n: v if n in own else _restore(v, annotations.get(n)) for n, v in keywords.items()}


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _reachable_parameters(cls: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the parameters of a class, with those of base classes that ``**kwargs`` reaches; and whether it takes any name."""
    found = dict(inspect.signature(cls).parameters)
    for base in _mro(cls):
        if base.__module__.split(".")[0] in ("torch", "fsmtrain", "builtins"):
            break  # these take no argument of a model
        own = inspect.signature(cls).parameters if base is cls else _parameters(base)
        found = {**own, **found}
        if own and not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            return {name: p for name, p in found.items() if p.kind not in _VARIABLE}, False
    takes_any = any(p.kind is p.VAR_KEYWORD for p in found.values())
    return {name: p for name, p in found.items() if p.kind not in _VARIABLE}, takes_any


def warn_of_unused_hparams(cls: Callable[..., Any], hparams: Mapping[str, Any], keywords: Mapping[str, Any]) -> None:
    """Warn of the saved hyperparameters for which neither the class nor a base class has a parameter."""
    known = {name for base in _mro(cls) for name in _parameters(base)}
    unused = [name for name in hparams if name not in keywords and name not in known]
    if unused:
        listed = ", ".join(f"{name}={hparams[name]!r}" for name in unused)
        warn(f"{getattr(cls, '__name__', cls)} has no parameter for the saved hyperparameters {listed}, so they are not used.")


def _mro(cls: Callable[..., Any]) -> tuple[type, ...]:
    return cls.__mro__ if isinstance(cls, type) else ()


def _parameters(cls: type) -> Mapping[str, Any]:
    init = vars(cls).get("__init__")
    return inspect.signature(init).parameters if inspect.isfunction(init) else {}


def _restore(value: Any, annotation: Any) -> Any:
    """Return a saved argument as what its parameter is annotated with: a dataclass, an attrs class or a namespace."""
    if not isinstance(value, dict):
        return value
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or attrs.has(kind)):
            annotations = _annotations(kind)
            with contextlib.suppress(TypeError):
                return kind(**{name: _restore(item, annotations.get(name)) for name, item in value.items()})
        if isinstance(kind, type) and issubclass(kind, argparse.Namespace):
            return kind(**value)
    return AttributeDict({name: _restore(item, None) for name, item in value.items()})


def _annotations(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name that exists for the type checker alone
        return {}


# ---- text


def read_tags_csv(path: str | os.PathLike[str]) -> HParams:
    """Read the hyperparameters of a ``meta_tags.csv``; values are bools, ints, floats or strings.

    Raises:
        UsageError: It cannot be read, its header is not ``key,value``, or a name is none that a hyperparameter can have.
    """
    try:
        text = read_plain_file(Path(path), MAX_TAGS_BYTES).decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except OSError as error:
        raise UsageError(f"tags_csv={str(path)!r}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"tags_csv={str(path)!r}: the file is not UTF-8 text, at byte {error.start}.") from error
    except csv.Error as error:
        raise UsageError(f"tags_csv={str(path)!r}: the file cannot be read as CSV: {error}.") from error
    if not rows or rows[0] != ["key", "value"]:
        raise UsageError(f"tags_csv={str(path)!r}: the first line of the file must be key,value.")
    values = {row[0]: parse_value(row[1]) for row in rows[1:] if len(row) == 2}
    for name in values:
        if not is_hparam_name(name):
            raise UsageError(f"tags_csv={str(path)!r}: {name[:100]!r} cannot be the name of a hyperparameter.")
    return HParams(**values)


def is_hparam_name(name: str) -> bool:
    """Return whether a hyperparameter can have this name: ``self`` and Python's own attributes are none.

    >>> [is_hparam_name(name) for name in ("lr", "a name", "self", "__class__", "")]
    [True, True, False, False, False]
    """
    return bool(name) and name != "self" and not (name.startswith("__") and name.endswith("__"))


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
