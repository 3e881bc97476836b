"""Recognise objects of Lightning's own classes by name: neither of its two packages is imported."""

from __future__ import annotations

_PACKAGES = frozenset({"lightning", "pytorch_lightning"})


def lightning_class(value: object, name: str) -> str | None:
    """Return the full name of Lightning's class ``name`` if an object is an instance of it; else None."""
    for cls in type(value).__mro__:
        package = cls.__module__.split(".")[0]
        if cls.__name__ == name and package in _PACKAGES:
            return f"{package}.{name}"
    return None
