"""Lightning's two packages, ``lightning`` and ``pytorch_lightning``: the same code, and two sets of classes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

from fsmtrain.errors import MissingExtraError

ROOTS = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
SUPPORTED = "2.6"


@functools.cache
def part_of(package: str, module: str = "") -> Any:
    """Return a module of a package, such as ``"trainer.call"``; the package itself for an empty name.

    Raises:
        MissingExtraError: It is not installed, or has another minor version.
    """
    root = ROOTS[package]
    try:
        found = importlib.import_module(root)
    except ImportError as error:
        raise MissingExtraError(
            f"fsmtrain.adapters.lightning: {package} is not installed. Install it: pip install 'fsmtrain[lightning]'."
        ) from error
    if not str(found.__version__).startswith(f"{SUPPORTED}."):
        raise MissingExtraError(
            f"fsmtrain.adapters.lightning: {package} {found.__version__} is installed, and programs of {SUPPORTED} can be run. "
            f"Install that: pip install 'fsmtrain[lightning]'."
        )
    return importlib.import_module(f"{root}.{module}") if module else found


def package_of(objects: Iterable[object]) -> str | None:
    """Return the package whose classes these objects have among their bases; of several the first that is met, or None."""
    for item in objects:
        for cls in type(item).__mro__:
            package = cls.__module__.split(".")[0]
            if package in ROOTS:
                return package
    return None


@functools.cache
def default_package() -> str:
    """Return ``lightning`` if it is installed, else ``pytorch_lightning``."""
    return next((package for package in ROOTS if importlib.util.find_spec(package) is not None), "lightning")
