"""Report that a part of the record has failed, which the run survives."""

from __future__ import annotations

from fsmtrain.user_warnings import notify_listeners
from fsmtrain.views.console.stderr import print_stderr


def report_failure(message: str) -> None:
    """Print a message on standard error, and add it to the logs of runs. Never raises; any thread may call it.

    Neither `logging` nor `warnings` is asked: whatever handlers and filters a program has, data that is lost is reported. So it
    is with ``quiet``, too.
    """
    print_stderr(f"warning: {message}")
    notify_listeners(message)


def describe(error: BaseException) -> str:
    """Return the type and the first line of an error, also of one that cannot say what it is."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
