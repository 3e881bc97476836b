"""Signal handlers: Ctrl-C, SIGTERM and SIGUSR1 ask the run to stop, and then end the program; a second Ctrl-C stops at once.

A signal for which the program has a handler of its own is left to that handler. Signals to a process group also kill
DataLoader workers. After a request to stop this is expected and no error: `worker_exit`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from attrs import define

from fsmtrain.errors import users_traceback
from fsmtrain.runtime.data.worker_exit import worker_exits
from fsmtrain.views.console.stderr import print_stderr

# Ctrl-C; what terminates processes; what job schedulers send some time before that, on systems that have it.
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)

ANNOUNCING_SECONDS = 1.0


@define
class ReceivedSignal:
    """The first signal that asked a run to stop. False as long as there was none."""

    signal: int = 0  # its number; 0: none

    @property
    def exit_code(self) -> int:
        """Exit code of a process that this signal ended, as in shells: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    @property
    def name(self) -> str:
        """Its name: ``SIGTERM``."""
        return signal.Signals(self.signal).name

    def interrupt(self, message: str) -> KeyboardInterrupt | SystemExit:
        """Return the exception that ends the program as the signal would have: for Ctrl-C with this message."""
        if self.signal != signal.SIGINT:
            return SystemExit(self.exit_code)
        interrupt: Any = KeyboardInterrupt(message)  # no subclass: Python exits otherwise with another code
        interrupt._render_traceback_ = _users_traceback_now  # what a notebook shows
        return interrupt  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self.signal != 0


def _users_traceback_now() -> list[str]:
    error = sys.exception()  # which a notebook is handling; the error itself would refer to itself, and live on
    return [] if error is None else users_traceback(error)


class _StopHandler:
    """A signal handler that calls `stop` once, and after the first Ctrl-C restores its previous handler."""

    def __init__(self, stop: Callable[[], None], received: ReceivedSignal) -> None:
        self._stop, self._received = stop, received
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}  # handlers by signal number
        self._announcer: threading.Thread | None = None

    def install(self, signals: Iterable[signal.Signals]) -> None:
        """Handle these signals from now on, except those that the process ignores or handles itself."""
        for number in signals:
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                self._previous[number] = handler
                signal.signal(number, self)

    def remove(self) -> None:
        """Restore the previous handlers."""
        for number in self._previous:
            self._restore(number)
        if self._announcer is not None:
            self._announcer.join(ANNOUNCING_SECONDS)  # the program may end now

    def _restore(self, number: int) -> None:
        current: object = signal.getsignal(number)
        if current is self:  # not if another handler was set in the meantime
            signal.signal(number, self._previous[number])

    def __call__(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        is_first = not self._received
        if number == signal.SIGINT:
            self._restore(number)
        if not is_first:
            return
        self._received.signal = number
        worker_exits.ignore()
        self._stop()
        # Printed by a thread, since the signal may have interrupted a write to the same stream.
        text = "stopping at the next transition" + ("; press Ctrl-C again to stop at once" if number == signal.SIGINT else "")
        self._announcer = threading.Thread(target=print_stderr, args=(text,), daemon=True)
        self._announcer.start()


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None], signals: Iterable[signal.Signals] = STOP_SIGNALS) -> Iterator[ReceivedSignal]:
    """Call `stop` at the first of these signals; a second Ctrl-C acts as it did before the context.

    Has no effect outside of the main thread, where Python handles no signals; in forked processes, such as DataLoader workers;
    on signals that the process ignores, as shells make background jobs ignore Ctrl-C, or handles itself; and inside another
    such context.

    Args:
        stop: Called in the main thread, between any two bytecode instructions.
        signals: Those that are requests to stop.

    Yields:
        The signal that was received.
    """
    received = ReceivedSignal()
    handler = _StopHandler(stop, received)
    is_nested = any(isinstance(signal.getsignal(number), _StopHandler) for number in STOP_SIGNALS)
    if threading.current_thread() is threading.main_thread() and not is_nested:
        handler.install(signals)
    try:
        yield received
    finally:
        handler.remove()
        if received:
            worker_exits.reset()
