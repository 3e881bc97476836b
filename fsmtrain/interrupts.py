"""Signals that ask a run to stop: the first one is a request, taken at the next transition; the second one stops at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from attrs import define

from fsmtrain.views.streams import say

REQUESTS: tuple[signal.Signals, ...] = (signal.SIGINT,)


@define
class Interrupt:
    """What has come: the number of the signal, 0 for none."""

    signal: int = 0

    @property
    def exit_code(self) -> int:
        """The exit code of a process that a signal ended, as shells count: 130 for Ctrl-C."""
        return 128 + self.signal

    def __bool__(self) -> bool:
        return self.signal != 0


@contextlib.contextmanager
def stopping(stop: Callable[[], None], signals: Iterable[signal.Signals] = REQUESTS) -> Iterator[Interrupt]:
    """While this is open, the first of these signals calls `stop`, and the next ones do what they did before.

    Nothing happens outside of the main thread, where Python gives out no signals, in processes that were forked meanwhile, such
    as a loader's workers, and for signals that are ignored, as a shell does for what runs in the background.
    """
    came, owner = Interrupt(), os.getpid()
    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = ((number, signal.getsignal(number)) for number in signals)
        before = {number: handler for number, handler in handlers if handler not in (signal.SIG_IGN, None)}

    def ask(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        came.signal = number
        put_back()
        stop()
        # By a thread: the run may be in the middle of writing to the same stream.
        text = "stopping at the next transition; once more stops at once"
        threading.Thread(target=say, args=(text,), daemon=True).start()

    def put_back() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is ask:
                signal.signal(number, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield came
    finally:
        put_back()
