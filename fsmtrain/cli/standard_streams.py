"""Standard output and standard error of a command: closed, full, or a pipe that is no longer read."""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress


def open_missing_streams() -> None:
    """Open the null device in place of each standard stream that is closed, as with ``>&-`` and in daemons.

    Otherwise the next file that is opened would get its number, and would receive what others write there.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:  # the lowest number that was free
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def discard_stdout() -> None:
    """Discard further output, so that Python does not fail at its exit when it writes what is held back."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # it has no number, as in a test
        os.dup2(null, sys.stdout.fileno())
    os.close(null)
    with suppress(OSError, ValueError):
        sys.stdout.flush()


def stdout_is_unread() -> bool:
    """Return whether standard output is a pipe whose reader, such as ``head``, has ended."""
    try:
        sys.stdout.flush()
        if not hasattr(select, "poll"):
            return False
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        return False
