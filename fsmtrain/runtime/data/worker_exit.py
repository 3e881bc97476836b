"""Exits of DataLoader workers after a stop request: they are expected, and not an error.

A signal to the process group also ends the workers. Torch would then raise from its SIGCHLD handler, at whatever line the main
thread has reached. From a stop request on that handler is replaced, so an exit only surfaces where the next batch is awaited.
"""

from __future__ import annotations

import signal
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any


class WorkerExits:
    """The process's SIGCHLD handler: torch's, or one that does nothing."""

    def __init__(self) -> None:
        self._ignored = False
        self._replaced: Any = None  # torch's handler, to be put back

    def ignore(self) -> None:
        """Ignore worker exits from now on. Call it in the main thread."""
        self._ignored = True
        self._replace()

    def after_start(self) -> None:
        """Replace the handler that torch sets once it has started workers, if exits are ignored."""
        if self._ignored and threading.current_thread() is threading.main_thread():
            self._replace()

    def reset(self) -> None:
        """Put the replaced handler back, if there is one. Idempotent."""
        replaced, self._ignored, self._replaced = self._replaced, False, None
        if replaced is not None and signal.getsignal(signal.SIGCHLD) is _noop:
            signal.signal(signal.SIGCHLD, replaced)

    def _replace(self) -> None:
        if not hasattr(signal, "SIGCHLD"):
            return
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and handler is not _noop:
            self._replaced = handler
            signal.signal(signal.SIGCHLD, _noop)


worker_exits = WorkerExits()  # one for the module, since a process has one SIGCHLD handler


def _noop(number: int, frame: FrameType | None) -> None:
    """Do nothing.

    With the default handler in place, torch would report a worker that has exited already as lost.
    """


def is_worker_exit(error: BaseException) -> bool:
    """Return whether torch's loader raised an error because one of its workers is gone.

    Either its message says so, or reading from the worker failed.
    """
    if "DataLoader worker" in str(error):
        return isinstance(error, (RuntimeError, KeyboardInterrupt))
    frames = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, (OSError, EOFError)) and any("torch/utils/data" in Path(name).as_posix() for name in frames)
