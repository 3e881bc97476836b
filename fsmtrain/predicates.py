"""Predicates on single values: integer, real number, object with a state_dict. Shared by all validation."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value has an integer type, such as NumPy's, other than bool. 2.0 has not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_stateful(value: object) -> bool:
    """Return whether an object can save and restore its state: it has ``state_dict`` and ``load_state_dict``."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def is_real(value: object) -> TypeGuard[float]:
    """Return whether a value has a real number type other than bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number that a float can hold: not inf, not NaN, not ``10**400``."""
    try:
        return is_real(value) and math.isfinite(value)
    except OverflowError:
        return False
