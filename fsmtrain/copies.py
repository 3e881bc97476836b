"""Copies and pickles: what of a value can be pickled, and the error for what cannot."""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from attrs import frozen

from fsmtrain.errors import CopyError

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

_CALL = "fsmtrain_call"  # the attribute of a function that `remember_call` sets


class _Pickling(threading.local):
    """The values that this thread is trying to pickle, by id: one may contain itself."""

    def __init__(self) -> None:
        self.under_way: set[int] = set()


_pickling = _Pickling()


def require_picklable(value: object, name: str, way_out: str) -> None:
    """Raise a `CopyError` that names a value which cannot be pickled.

    Args:
        value: The value.
        name: How the user passed it, as in ``Guards(stop=...)``.
        way_out: What to do instead, as a sentence.
    """
    if id(value) in _pickling.under_way:
        return
    _pickling.under_way.add(id(value))
    try:
        pickle.dumps(value)
    except Exception as error:  # any: pickle calls the value's own methods
        raise CopyError(f"{name}: {value!r} cannot be pickled: {error}. {way_out}") from error
    finally:
        _pickling.under_way.remove(id(value))


@frozen
class Call:
    """A call of a module's function, to be made again: pickled in place of the function that it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        """The call as it is written in a program."""
        arguments = (*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items()))
        return f"{self.function.__name__}({', '.join(arguments)})"

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)


def remember_call(factory: Callable[P, F]) -> Callable[P, F]:
    """Decorate a factory of functions so that what it returns can be pickled, as the call that made it."""

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> F:
        made = factory(*args, **kwargs)
        setattr(made, _CALL, Call(make, args, kwargs))
        return made

    return make


def call_that_made(value: object) -> Call | None:
    """Return the remembered call that returned a function; None for any other value."""
    call = getattr(value, _CALL, None)
    return call if isinstance(call, Call) else None
