"""Old names of public attributes: using one raises a `RenamedError` that gives the new name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

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
