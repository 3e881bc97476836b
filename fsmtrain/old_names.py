"""Old public names: using one raises a `RenamedError` that gives the new name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from fsmtrain.errors import RenamedError

C = TypeVar("C", bound=type)


class _OldAttribute:
    """A descriptor for an attribute that has another name now. Real attributes are as fast as without it."""

    def __init__(self, owner: str, old: str, new: str) -> None:
        self._message = f"{owner}.{old}: there is no such attribute. Its name here is {owner}.{new}."

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise RenamedError(self._message)

    def __set__(self, instance: object, value: object) -> NoReturn:
        raise RenamedError(self._message)


def renamed_attributes(**new_names: str) -> Callable[[C], C]:
    """Decorate a class so that its old attributes raise `RenamedError`: ``@renamed_attributes(old="new")``.

    >>> @renamed_attributes(length="size")
    ... class Box:
    ...     size = 3
    >>> Box().size
    3
    >>> Box().length
    Traceback (most recent call last):
    fsmtrain.errors.RenamedError: box.length: there is no such attribute. Its name here is box.size.
    """

    def decorate(cls: C) -> C:
        for old, new in new_names.items():
            setattr(cls, old, _OldAttribute(cls.__name__.lower(), old, new))
        return cls

    return decorate


def renamed_arguments(**new_names: str) -> Callable[[C], C]:
    """Decorate a class so that old keywords of its constructor raise `RenamedError`: ``@renamed_arguments(old="new")``."""

    def decorate(cls: C) -> C:
        construct: Callable[..., None] = vars(cls)["__init__"]

        @functools.wraps(construct)
        def __init__(self: object, *args: Any, **keywords: Any) -> None:
            for old in new_names.keys() & keywords.keys():
                raise RenamedError(
                    f"{cls.__name__}({old}=...): there is no such argument. Its name here is {new_names[old]}: "
                    f"{cls.__name__}({new_names[old]}=...)."
                )
            construct(self, *args, **keywords)

        setattr(cls, "__init__", __init__)  # noqa: B010 - a type checker refuses an assignment by name
        return cls

    return decorate
