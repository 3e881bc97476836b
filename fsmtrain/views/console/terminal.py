"""The last line of a terminal: redrawn in place, while what others print goes above it.

What the line says does not belong here. One line is drawn at a time: of several, the one that was opened last.

The line is redrawn from a thread, so others have to be kept out of its way, and it out of theirs:

- **Who prints** (``print``, ``logging``, ``warnings``, another bar, in any thread) finds the line gone and the cursor where it
  began. To see all of it, ``write`` and ``flush`` of the two standard streams are replaced while a line is open: on the
  stream, not in ``sys``, for loggers keep the stream that they once got.
- **Who asks** (``input``, a debugger) flushes the streams first, and then writes past them. So after a flush the line is not
  drawn again until what it tells of has moved on.
- **Who forks** (a loader's workers) does not while the line is drawn: the child would have the lock and nobody to unlock it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from tqdm.utils import disp_len

from fsmtrain.views.console.stderr import is_terminal

WIDTH = 80  # where a terminal does not tell its own
MARGIN = 3  # columns that stay free, for the cursor and for the ^C of an impatient person

_LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class _Shared:
    """A stream of the terminal that others write to as well."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.write, self.flush = stream, stream.write, stream.flush

        def write(text: str, /) -> int:
            with _LOCK:
                for line in _lines[-1:]:
                    line.give_way(text)
                return self.write(text)

        def flush() -> None:
            with _LOCK:
                for line in _lines[-1:]:
                    line.give_way("")
                self.flush()

        self._before = dict(vars(stream))
        self._own = {"write": write, "flush": flush}
        for name, method in self._own.items():
            setattr(stream, name, method)

    def put_back(self) -> None:
        """Let the stream be as it was, unless somebody has replaced the replacement: with no line open it is harmless."""
        for name, method in self._own.items():
            if vars(self.stream).get(name) is not method:
                continue
            if name in self._before:
                setattr(self.stream, name, self._before[name])
            else:
                delattr(self.stream, name)


_lines: list[LastLine] = []
_shared: list[_Shared] = []
_column_is_known = True  # whether the cursor is at the beginning of a line, or of the drawn one's end


class LastLine:
    """One line at the bottom of a terminal.

    Args:
        stream: The terminal, usually ``sys.stderr``.
        position: Where that stands of which the line tells.

    Nothing here raises where the terminal is gone: there is nobody left to tell.
    """

    def __init__(self, stream: TextIO, position: Callable[[], object]) -> None:
        self._stream, self._position = stream, position
        self._write, self._flush = stream.write, stream.flush
        self._asked_at: object = None  # the position at which somebody may last have asked a person something
        self._drawn = ""

    @property
    def columns(self) -> int:
        """The columns of the terminal, as wide as it is now."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError):
            return WIDTH

    def open(self) -> None:
        """Take the last line; a line that was open already rests until this one is closed."""
        global _column_is_known
        with _LOCK:
            if _lines:
                _lines[-1].clear()
            else:
                _column_is_known = True
                _shared.extend(_Shared(stream) for stream in _streams(self._stream))
            for shared in _shared:
                if shared.stream is self._stream:
                    self._write, self._flush = shared.write, shared.flush
            _lines.append(self)

    def draw(self, text: str, position: object) -> None:
        """Show a text of at most ``columns - MARGIN`` columns, about a position, unless somebody is in the way."""
        with _LOCK:
            if text != self._drawn and _lines[-1:] == [self] and position != self._asked_at and _column_is_known:
                self._put("\r" + self._filled(text))
                self._drawn = text

    def clear(self) -> None:
        """Leave an empty line, with the cursor at its beginning."""
        with _LOCK:
            if self._drawn:
                self._put("\r" + self._filled("") + "\r")
                self._drawn = ""

    def give_way(self, text: str) -> None:
        """Let somebody else write this text, or flush (no text)."""
        global _column_is_known
        self.clear()
        if text:
            _column_is_known = text[-1] in "\n\r"
        else:
            self._asked_at = self._position()

    def close(self, *texts: str) -> None:
        """Leave these texts, a line each, and give the terminal back as it was."""
        with _LOCK:
            if self not in _lines:
                return
            begin = "\r" if _column_is_known else "\n"
            try:
                _lines[-1].clear()
                if texts:
                    with suppress(OSError, ValueError):
                        for shared in _shared:
                            shared.flush()
                    self._put(begin + "".join(self._filled(text) + "\n" for text in texts))
            finally:
                _lines.remove(self)
                while _shared and not _lines:
                    _shared.pop().put_back()

    def _filled(self, text: str) -> str:
        """The text, and blanks up to the last column but one, with the cursor after the text."""
        blanks = max(0, self.columns - 1 - columns_of(text))
        return text + " " * blanks + "\b" * blanks

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._write(text)
            self._flush()


def columns_of(text: str) -> int:
    """The columns that a text takes: some characters take two."""
    return len(text) if text.isascii() else disp_len(text)


def _streams(stream: TextIO) -> list[TextIO]:
    """The streams of the terminal, each once, that can be shared."""
    found: list[TextIO] = []
    for candidate in (stream, sys.stderr, sys.stdout):
        if is_terminal(candidate) and hasattr(candidate, "__dict__") and all(candidate is not known for known in found):
            found.append(candidate)
    return found
