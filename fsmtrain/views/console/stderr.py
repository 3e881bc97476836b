"""Standard error, which may be a terminal, a pipe, replaced, closed, or not there at all."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is there, open, and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError, AttributeError):
        return False


def print_stderr(text: str) -> None:
    """Write a line to what is standard error now. Where nobody can read it any more, the run goes on without."""
    stream: TextIO | None = sys.stderr
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.write(text + "\n")
            stream.flush()
