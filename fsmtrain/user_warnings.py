"""Warnings that point at the user's line instead of one of ours, and listeners that also receive them, such as the log file."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)

Listener = Callable[[str], None]
_listeners: list[Listener] = []  # of the process: any thread may warn, from functions that know no run


def warn(message: str) -> None:
    """Warn about a probable mistake, at the innermost line outside of this package."""
    for listener in tuple(_listeners):
        listener(message)
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def add_listener(listener: Listener) -> None:
    """Pass every warning to a listener from now on, whatever Python's warning filters say."""
    _listeners.append(listener)


def remove_listener(listener: Listener) -> None:
    """Remove a listener. Does nothing if it was not added."""
    _listeners[:] = [other for other in _listeners if other != listener]


@contextmanager
def capture_warnings(listener: Listener) -> Iterator[None]:
    """Pass the warnings of a block to a listener."""
    add_listener(listener)
    try:
        yield
    finally:
        remove_listener(listener)
