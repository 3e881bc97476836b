"""Deaths of a loader's workers: after a request to stop they are expected, and no error. A group's signals reach workers too.

Torch raises an error wherever the main thread is when a worker dies, by a handler that it sets once it has started some.
From a request on that handler is kept out, so that a death shows only where a batch is waited for, and nothing is in the
middle of anything there.
"""

from __future__ import annotations

import signal
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

_expected = False
_before: Any = None  # the handler that was kept out


def ignore_worker_exits() -> None:
    """From now on let workers die in silence. In the main thread."""
    global _expected
    _expected = True
    _keep_out()


def workers_have_begun() -> None:
    """Torch may have set its handler: where deaths are expected, it is kept out as well."""
    if _expected and threading.current_thread() is threading.main_thread():
        _keep_out()


def reset() -> None:
    """Put the handler back. Harmless where none was kept out."""
    global _expected, _before
    before, _expected, _before = _before, False, None
    if before is not None and signal.getsignal(signal.SIGCHLD) is _noop:
        signal.signal(signal.SIGCHLD, before)


def _keep_out() -> None:
    global _before
    if not hasattr(signal, "SIGCHLD"):
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if callable(handler) and handler is not _noop:
        _before = handler
        signal.signal(signal.SIGCHLD, _noop)


def _noop(number: int, frame: FrameType | None) -> None:
    """No handler of ours is the default one: a death that has come already would be told as lost."""


def is_worker_exit(error: BaseException) -> bool:
    """Whether an error came up in torch's loader because a worker of it was not there any more.

    Torch says so in as many words, or what it was reading from the worker has ended.
    """
    if "DataLoader worker" in str(error):
        return isinstance(error, (RuntimeError, KeyboardInterrupt))
    frames = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, (OSError, EOFError)) and any("torch/utils/data" in Path(name).as_posix() for name in frames)
