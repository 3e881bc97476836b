"""Standard error, which may be a terminal, a pipe, replaced, closed, or None."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is open and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def print_stderr(text: str) -> None:
    """Print a line to the current standard error. Does nothing if that is closed, and the run continues."""
    stream: TextIO | None = sys.stderr
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.write(text + "\n")
            stream.flush()
