"""Signals that ask a run to stop: one is a request, taken at the next transition. A second Ctrl-C stops at once.

A group's signals reach a loader's workers too, and they die of it. After a request that is expected, and no error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from attrs import define

from fsmtrain.runtime.data import worker_exit
from fsmtrain.views.console.stderr import print_stderr

# Ctrl-C; what ends processes; what a scheduler sends ahead of its end, where there is such a signal.
REQUESTS: tuple[signal.Signals, ...] = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)

_open = 0  # how many contexts have taken signals over


@define
class ReceivedSignal:
    """What has come: the number of the signal, 0 for none."""

    signal: int = 0

    @property
    def exit_code(self) -> int:
        """The exit code of a process that a signal ended, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    def __bool__(self) -> bool:
        return self.signal != 0


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None], signals: Iterable[signal.Signals] = REQUESTS) -> Iterator[ReceivedSignal]:
    """While this is open, these signals call `stop`; once Ctrl-C has come, the next one does what it did before.

    Nothing happens outside of the main thread, where Python gives out no signals, in processes that were forked meanwhile, such
    as a loader's workers, and for signals that are ignored, as a shell does for what runs in the background.
    Within another one that is open nothing happens either: the signals are taken over already.
    """
    global _open
    came, owner = ReceivedSignal(), os.getpid()
    before: dict[int, Any] = {}
    takes_over = threading.current_thread() is threading.main_thread() and not _open
    if takes_over:
        handlers = ((number, signal.getsignal(number)) for number in signals)
        before = {number: handler for number, handler in handlers if handler not in (signal.SIG_IGN, None)}

    def ask(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        is_first = not came
        came.signal = came.signal or number
        if number == signal.SIGINT:
            put_back(number)
        if not is_first:
            return
        worker_exit.ignore_worker_exits()
        stop()
        # By a thread: the run may be in the middle of writing to the same stream.
        text = "stopping at the next transition" + ("; once more stops at once" if number == signal.SIGINT else "")
        threading.Thread(target=print_stderr, args=(text,), daemon=True).start()

    def put_back(number: int) -> None:
        if signal.getsignal(number) is ask:
            signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask)
    _open += takes_over
    try:
        yield came
    finally:
        _open -= takes_over
        for number in before:
            put_back(number)
        if came:
            worker_exit.reset()
