"""The live lines at the bottom of a terminal: redrawn in place, while output of others goes above them.

What the lines say does not belong here. `rich.live_render` draws them; this module shares the terminal, which `rich.live` does
not do well enough (`docs/decisions/progress.md`, and a test for each case). Only the lines opened last are visible.

The lines are redrawn from a thread, so three others need care:

- **Writers** (``print``, ``logging``, ``warnings``, another bar, in any thread) find the lines erased and the cursor in the
  first column. While lines are open, ``write`` and ``flush`` of both standard streams are replaced: on the stream object, not
  in ``sys``, because log handlers keep the stream that they were created with.
- **Prompts** (``input``, a debugger) flush the streams first and then bypass them. So after a flush the lines are not drawn
  again until the run has moved on.
- **Forks** (workers of a loader) wait while the lines are drawn. Otherwise the child would inherit a lock that nothing unlocks.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO, TextIOWrapper
from typing import TextIO

from rich.console import Console
from rich.live_render import LiveRender
from rich.text import Text

from fsmtrain.views.console.stderr import is_terminal

DEFAULT_SIZE = os.terminal_size((80, 24))  # if the terminal does not report its own
MARGIN = 3  # columns that stay free, for the cursor and for the ^C of an interrupt

_LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


class _SharedStream:
    """A stream whose ``write`` and ``flush`` make room for the output of others first."""

    def __init__(self, stream: TextIO, terminal: SharedTerminal) -> None:
        self.stream, self.terminal = stream, terminal
        self.raw_write, self.raw_flush = stream.write, stream.flush
        self._replaced = dict(vars(stream))
        self._methods = {"write": self.write, "flush": self.flush}
        vars(stream).update(self._methods)

    def write(self, text: str, /) -> int:
        with _LOCK:
            self.terminal.make_room(text)
            return self.raw_write(text)

    def flush(self) -> None:
        with _LOCK:
            self.terminal.make_room("")
            self.raw_flush()

    def release(self) -> None:
        """Restore the methods, except one that somebody else has replaced since: with no lines open, ours is harmless."""
        attributes = vars(self.stream)
        for name, method in self._methods.items():
            if attributes.get(name) == method:
                del attributes[name]
                if name in self._replaced:
                    attributes[name] = self._replaced[name]


class SharedTerminal:
    """A terminal that live lines share with everybody else who writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self.open_lines: list[LiveLines] = []  # in the order of opening
        self.cursor_is_known = True  # false after half a line of somebody else
        self._shared = [_SharedStream(each, self) for each in _streams_of_terminal(stream)]

    @classmethod
    def of(cls, stream: TextIO) -> SharedTerminal:
        """Return the terminal to which a stream writes: the one whose lines are open there, or a new one."""
        shared = getattr(vars(stream).get("write"), "__self__", None) if hasattr(stream, "__dict__") else None
        return shared.terminal if isinstance(shared, _SharedStream) else cls(stream)

    def make_room(self, text: str) -> None:
        """Erase the lines, because somebody else is about to write this text, or to flush (no text)."""
        for lines in self.open_lines[-1:]:
            lines.erase()
            if text:
                self.cursor_is_known = text[-1] in "\n\r"
            else:
                lines.wait_for_progress()

    def raw_methods(self, stream: TextIO) -> tuple[Callable[[str], int], Callable[[], None]]:
        """Return the ``write`` and ``flush`` that reach the stream directly."""
        for shared in self._shared:
            if shared.stream is stream:
                return shared.raw_write, shared.raw_flush
        return stream.write, stream.flush

    def flush(self) -> None:
        """Write what the streams still hold back."""
        for shared in self._shared:
            shared.raw_flush()

    def release(self) -> None:
        """Give the streams back."""
        while self._shared:
            self._shared.pop().release()


class LiveLines:
    """Lines at the bottom of a terminal, from now to `close`. They never raise if the terminal is gone.

    Args:
        stream: The terminal, usually ``sys.stderr``.
        position: Returns how far the run is, in any form; it is compared to detect that the run has moved on.
    """

    def __init__(self, stream: TextIO, position: Callable[[], object]) -> None:
        self._stream, self._position = stream, position
        self._prompt_position: object = None  # the position at which somebody may have prompted the user
        self._drawn: LiveRender | None = None
        # A file of the same encoding, which decides between blocks and ASCII. Nothing is written to it.
        encoded = TextIOWrapper(BytesIO(), encoding=stream.encoding or "ascii")
        self.console = Console(file=encoded, force_terminal=True, force_jupyter=False, highlight=False)
        with _LOCK:
            self._terminal = SharedTerminal.of(stream)
            for lines in self._terminal.open_lines[-1:]:
                lines.erase()
            self._write, self._flush = self._terminal.raw_methods(stream)
            self._terminal.open_lines.append(self)

    @property
    def columns(self) -> int:
        """The columns that a line may have, as wide as the terminal is now."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            size = DEFAULT_SIZE
        self.console.size = size.columns or DEFAULT_SIZE.columns, size.lines or DEFAULT_SIZE.lines
        return max(1, self.console.width - MARGIN)

    def draw(self, text: Text, position: object) -> None:
        """Show a text about a position, unless somebody else is writing or prompting."""
        with _LOCK:
            is_changed = self._drawn is None or text != self._drawn.renderable
            is_visible = self._terminal.open_lines[-1:] == [self] and self._terminal.cursor_is_known
            if is_changed and is_visible and position != self._prompt_position:
                erasing = self._erasing()
                self._drawn = LiveRender(text)
                self._put(erasing + self._rendered(self._drawn))

    def erase(self) -> None:
        """Erase the lines, and leave the cursor at the beginning of the first."""
        with _LOCK:
            self._put(self._erasing())
            self._drawn = None

    def wait_for_progress(self) -> None:
        """Do not draw before the run has moved on: somebody may be prompting the user."""
        self._prompt_position = self._position()

    def close(self, *texts: Text) -> None:
        """Leave these texts, each on lines of its own, and restore the terminal. Harmless twice."""
        with _LOCK:
            terminal = self._terminal
            if self not in terminal.open_lines:
                return
            try:
                terminal.open_lines[-1].erase()
                with suppress(OSError, ValueError):
                    terminal.flush()
                lines = "".join(self._rendered(text) + "\n" for text in texts)
                self._put(lines if terminal.cursor_is_known else "\n" + lines)
            finally:
                terminal.open_lines.remove(self)
                if not terminal.open_lines:
                    terminal.release()

    def _erasing(self) -> str:
        return "" if self._drawn is None else str(self._drawn.position_cursor())

    def _rendered(self, text: Text | LiveRender) -> str:
        with self.console.capture() as capture:
            self.console.print(text, end="", soft_wrap=isinstance(text, Text))
        return capture.get()

    def _put(self, text: str) -> None:
        if text:
            with suppress(OSError, ValueError):
                self._write(text)
                self._flush()


def can_redraw(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that can move its cursor."""
    if not is_terminal(stream):
        return False
    console = Console(file=stream)
    return not (console.is_dumb_terminal or console.legacy_windows)


def _streams_of_terminal(stream: TextIO) -> list[TextIO]:
    """Return the standard streams that are terminals, each once, if their methods can be replaced."""
    terminals = (each for each in (stream, sys.stderr, sys.stdout) if is_terminal(each) and hasattr(each, "__dict__"))
    return list({id(each): each for each in terminals}.values())
