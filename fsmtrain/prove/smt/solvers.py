"""The solvers, imported where they are first needed: they belong to the extra ``prove``."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from fsmtrain.errors import UsageError


def _needed(module: str, distribution: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"Proofs need {distribution}, which is not installed. Install the extra: pip install 'fsmtrain[prove]'."
        ) from error


@functools.cache
def z3() -> Any:
    """Z3's Python module.

    Raises:
        UsageError: It is not installed.
    """
    return _needed("z3", "z3-solver")


@functools.cache
def cvc5() -> Any:
    """cvc5's Python module.

    Raises:
        UsageError: It is not installed.
    """
    return _needed("cvc5", "cvc5")
