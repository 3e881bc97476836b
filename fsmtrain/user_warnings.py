"""Warnings that point at the user's line, not at one of ours; and who else is told of them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)

Listener = Callable[[str], None]
_listeners: list[Listener] = []


def warn(message: str) -> None:
    """Warn of something that is probably not meant, at the line outside of this package that led to it."""
    for listener in tuple(_listeners):
        listener(message)
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def add_listener(listener: Listener) -> None:
    """Tell a listener of every warning from now on, until `ignore`."""
    _listeners.append(listener)


def remove_listener(listener: Listener) -> None:
    """Tell this listener no more. Harmless where it does not listen."""
    _listeners[:] = [other for other in _listeners if other != listener]


@contextmanager
def capture_warnings(listener: Listener) -> Iterator[None]:
    """Tell a listener of the warnings that come up within."""
    add_listener(listener)
    try:
        yield
    finally:
        remove_listener(listener)
