"""A pseudo-terminal as standard output and error, so that progress bars are drawn as for a person."""

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
    """Make standard output and error a terminal. Yields a function that returns how many bytes have reached its other end.

    Another process reads the other end, as a real terminal would.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with tempfile.NamedTemporaryFile() as output:
        reader = subprocess.Popen(["cat"], stdin=master, stdout=output, stderr=subprocess.DEVNULL)
        os.close(master)
        before = sys.stdout, sys.stderr
        try:
            with os.fdopen(slave, "w", buffering=1) as stream:
                sys.stdout = sys.stderr = stream
                yield lambda: os.fstat(output.fileno()).st_size
        finally:
            sys.stdout, sys.stderr = before
            reader.wait(10)
