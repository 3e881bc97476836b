"""A terminal for tests: a real pseudo-terminal, and the screen that a user would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import threading
import time
from contextlib import suppress
from typing import TextIO

from rich.cells import cell_len

TIMEOUT_SECONDS = 10.0  # until a test stops waiting


class Screen:
    """The screen after characters were written to it, as far as these tests need it. Nothing scrolls."""

    def __init__(self, columns: int) -> None:
        self.columns, self.row, self.column = columns, 0, 0
        self.cells: list[list[str]] = [[]]

    def feed(self, text: str) -> None:
        """Show a text."""
        complete = re.sub(r"\x1b(\[[?0-9;]*)?$", "", text)  # the end of a sequence may not have arrived yet
        for sequence, character in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z])|(.)", complete, flags=re.DOTALL):
            if sequence:
                self._control(sequence)
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self._next_row()
            elif character == "\b":
                self.column = max(0, self.column - 1)
            else:
                assert character.isprintable(), f"the screen does not know {character!r}"
                self._show(character)

    def _control(self, sequence: str) -> None:
        if sequence == "\x1b[2K":
            self.cells[self.row] = []
        elif sequence == "\x1b[1A":
            self.row -= 1
        else:
            is_ignored = sequence.endswith("m") or sequence in ("\x1b[?25l", "\x1b[?25h")  # colours, and the cursor's look
            assert is_ignored, f"the screen does not know {sequence!r}"

    def _next_row(self) -> None:
        self.row += 1
        if self.row == len(self.cells):
            self.cells.append([])

    def _show(self, character: str) -> None:
        width = cell_len(character)
        if self.column + width > self.columns:
            self._next_row()
            self.column = 0
        row = self.cells[self.row]
        row.extend(" " * (self.column + width - len(row)))
        row[self.column : self.column + width] = [character] + [""] * (width - 1)
        self.column += width

    @property
    def rows(self) -> list[str]:
        """Return the rows from the top to the last that is not empty."""
        rows = ["".join(row).rstrip() for row in self.cells]
        while rows and not rows[-1]:
            rows.pop()
        return rows


class Terminal:
    """A pseudo-terminal whose screen can be read. `stderr` and `stdout` are two streams to it."""

    def __init__(self, columns: int = 100, encoding: str = "utf-8") -> None:
        self._master, self._slave = pty.openpty()
        self._encoding = encoding
        self.columns = columns
        self.resize(columns)
        self.stderr: TextIO = os.fdopen(os.dup(self._slave), "w", encoding=encoding, errors="backslashreplace")
        self.stdout: TextIO = os.fdopen(os.dup(self._slave), "w", encoding=encoding, buffering=1)
        self._before = sys.stderr, sys.stdout
        self._chunks: list[bytes] = []
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._over.is_set():
            if select.select([self._master], [], [], 0.01)[0]:
                self._chunks.append(os.read(self._master, 4096))

    def take_over(self) -> None:
        """Become the terminal of this process until `close`."""
        self._before = sys.stderr, sys.stdout
        sys.stderr, sys.stdout = self.stderr, self.stdout

    def resize(self, columns: int) -> None:
        """Make the window so many columns wide."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def written_since(self, mark: int) -> str:
        """Return what was written after so many characters, without control sequences."""
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.text[mark:])

    @property
    def settings(self) -> list[object]:
        """Return the settings, as ``stty -a`` prints them."""
        return termios.tcgetattr(self._slave)

    @property
    def text(self) -> str:
        """Everything that was written so far."""
        return b"".join(self._chunks).decode(self._encoding, errors="ignore")

    @property
    def screen(self) -> Screen:
        """The screen as it is now."""
        screen = Screen(self.columns)
        screen.feed(self.text)
        return screen

    @property
    def rows(self) -> list[str]:
        """Its rows."""
        return self.screen.rows

    def wait_for(self, what: str) -> str:
        """Wait until a row shows this text; returns the row."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            for row in self.rows:
                if what in f"{row} ":
                    return row
            time.sleep(0.002)
        raise AssertionError(f"{what!r} never came. The screen: {self.rows}")

    def settled(self) -> list[str]:
        """Return the screen after everything that was written has arrived."""
        mark = "~~~ that is all ~~~"
        os.write(self._slave, mark.encode())
        self.wait_for(mark)
        return self.rows[: self.rows.index(mark)]

    def hang_up(self) -> None:
        """Close the window, with its programs still running."""
        if not self._over.is_set():
            self._over.set()
            self._reader.join(TIMEOUT_SECONDS)
            os.close(self._slave)
            os.close(self._master)

    def close(self) -> None:
        """Restore the streams and close the terminal."""
        if sys.stderr is self.stderr:
            sys.stderr, sys.stdout = self._before
        for stream in (self.stderr, self.stdout):
            with suppress(OSError):
                stream.close()
        self.hang_up()
