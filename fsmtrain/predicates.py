"""Predicates on single values, shared by everything that checks a flag. No flag is named here."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number by its type; a bool is not, nor is 2.0."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_stateful(value: object) -> bool:
    """Return whether an object can save and restore its state: it has ``state_dict`` and ``load_state_dict``."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def is_real(value: object) -> TypeGuard[float]:
    """Whether a value is a real number by its type; a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool)
