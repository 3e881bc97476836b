"""A terminal that is not there: whatever a program would show a person is shown, and nobody looks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator

ROWS, COLUMNS = 40, 120


@contextlib.contextmanager
def terminal() -> Iterator[Callable[[], int]]:
    """Standard output and error are a terminal meanwhile. Gives a function that says how many bytes have come out at its end.

    Its other end is read by another process, so that the terminal is somebody else's work, as it always is.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with tempfile.NamedTemporaryFile() as shown:
        reader = subprocess.Popen(["cat"], stdin=master, stdout=shown, stderr=subprocess.DEVNULL)
        os.close(master)
        before = sys.stdout, sys.stderr
        try:
            with os.fdopen(slave, "w", buffering=1) as stream:
                sys.stdout = sys.stderr = stream
                yield lambda: os.fstat(shown.fileno()).st_size
        finally:
            sys.stdout, sys.stderr = before
            reader.wait(10)
