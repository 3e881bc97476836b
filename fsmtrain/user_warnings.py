"""Warnings that point at the user's line instead of one of ours, and listeners that also receive them, such as the log file."""

from __future__ import annotations

import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fsmtrain.errors import FsmtrainWarning

_PACKAGE = str(Path(__file__).parent) + os.sep
_PYTHON = sysconfig.get_path("stdlib") + os.sep
_INSTALLED = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)

Listener = Callable[[str], None]
_listeners: list[Listener] = []  # of the process: any thread may warn, from functions that know no run


def warn(message: str) -> None:
    """Warn about a probable mistake, at the innermost line of the user's."""
    notify_listeners(message)
    warnings.warn(message, FsmtrainWarning, stacklevel=1 + _level_of_user(sys._getframe(0)))


def _level_of_user(own: FrameType) -> int:
    """Return how many frames above a frame of ours the user's innermost one is.

    Frames of Python's library, of torch and of generated code may stand in between. In a thread of ours there is no user's
    frame; then it is the innermost one that is not in this package.
    """
    levels: list[int] = []  # of the frames that are not in this package
    level, frame = 0, own.f_back
    while frame is not None:
        level += 1
        name = frame.f_code.co_filename
        if not name.startswith((_PACKAGE, "<attrs generated")):
            levels.append(level)
            if not _is_library(name):
                return level
        frame = frame.f_back
    return levels[0] if levels else level


def _is_library(filename: str) -> bool:
    """Return whether a file belongs to Python's library, to torch or to another installed package."""
    return filename.startswith((_PYTHON, "<frozen ")) or any(part in filename for part in _INSTALLED)


def notify_listeners(message: str) -> None:
    """Pass a message to the listeners alone, for what is reported in another way than by Python's warnings."""
    for listener in tuple(_listeners):
        listener(message)


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
