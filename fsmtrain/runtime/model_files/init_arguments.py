"""Find the arguments with which an object is being constructed, for ``save_hyperparameters()`` without arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import FrameType
from typing import Any

from attrs import frozen

from fsmtrain.errors import ModelError
from fsmtrain.user_warnings import warn


def select_init_arguments(instance: object, frame: FrameType, names: Sequence[str]) -> dict[str, Any]:
    """Return those arguments of ``__init__`` that have one of these names, or all of them if there are no names.

    Raises:
        ModelError: No ``__init__`` is running, or it has no argument of such a name.
    """
    found = find_init_arguments(instance, frame)
    call = f"save_hyperparameters({', '.join(map(repr, names))})"
    if found is None:
        raise ModelError(f"{call}: it keeps the arguments of __init__, so call it there, or pass values: lr=0.1.")
    for name in names:
        if name not in found.named:
            raise ModelError(f"{call}: __init__ has no argument {name!r}. It has {', '.join(found.named) or 'none'}.")
    if found.unnamed and not names:
        warn(f"{call}: *args of __init__ have no names, so {found.unnamed!r} is not kept. Pass them by their names.")
    return {name: found.named[name] for name in names or found.named}


@frozen
class InitArguments:
    """The arguments of the ``__init__`` methods of an object that are running.

    Attributes:
        named: By name, defaults and ``**kwargs`` included.
        unnamed: Those of ``*args`` that reached no parameter.
    """

    named: dict[str, Any]
    unnamed: list[Any]


def find_init_arguments(instance: object, frame: FrameType | None) -> InitArguments | None:
    """Return the arguments of all ``__init__`` methods of an object that this frame is called from; None if there is none.

    If a base class calls it, those of the subclass are included, and win: it is the subclass that will be called again.
    """
    named, unnamed, is_found = dict[str, Any](), list[Any](), False
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__init__" and code.co_argcount > 0:
            values = frame.f_locals
            own, *names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            if values.get(own) is instance:
                is_found = True
                rest = list(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
                if code.co_flags & inspect.CO_VARARGS:
                    unnamed += values.get(rest.pop(0), ())
                more = values.get(rest.pop(0), {}) if code.co_flags & inspect.CO_VARKEYWORDS else {}
                named |= {name: values[name] for name in names if name in values} | more
        frame = frame.f_back
    reached = {id(value) for value in named.values()}
    return InitArguments(named, [value for value in unnamed if id(value) not in reached]) if is_found else None
