"""The flags in the docstring of a class that inherits them, so that ``help()`` shows what each of them means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type[Any])

_ARGS, _NEXT_SECTION = "    Args:\n", "\n\n    "


def document_flags_of(base: type[Any]) -> Callable[[C], C]:
    """Decorate a subclass: the arguments that its base documents come before its own in its docstring.

    Example:
        >>> from fsmtrain import Trainer
        >>> "accumulate_grad_batches: Batches for each optimizer step" in Trainer.__doc__
        True
    """

    def decorate(cls: C) -> C:
        flags, own = _arguments(base.__doc__), cls.__doc__
        if flags and own and _ARGS in own:  # without docstrings, as under python -OO, there is nothing to add
            cls.__doc__ = own.replace(_ARGS, f"{_ARGS}{flags}\n", 1)
        return cls

    return decorate


def _arguments(docstring: str | None) -> str:
    """Return the lines of the section Args of a docstring, without its heading."""
    _, heading, rest = (docstring or "").partition(_ARGS)
    return rest.partition(_NEXT_SECTION + "Raises:")[0] if heading else ""
