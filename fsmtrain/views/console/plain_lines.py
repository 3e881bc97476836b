"""A run in plain lines, for files and pipes: epochs as they end, and why the run has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.views.console.progress_text import GRACE, Arriving, Rates, Run, duration, metric, rate, snapshot
from fsmtrain.views.console.stderr import print_stderr

QUIET = 1.0  # seconds between two lines about epochs, at least
PATIENCE = 0.02  # seconds from one question whether metrics have arrived to the next


class Lines:
    """A run's lines, from now to `close`.

    A line whose metrics are still on a device is written by a thread of its own when they have arrived. Nobody waits for them.
    """

    def __init__(self, run: Run, clock: Callable[[], float]) -> None:
        self._run, self._clock = run, clock
        self._begun = clock()
        self._last = self._begun - QUIET
        self._rates = Rates()
        self._held_back: _Line | None = None
        self._writer: threading.Thread | None = None
        self._over = threading.Event()

    def epoch_ended(self) -> None:
        """Write a line about the epoch, unless another is only just written."""
        now = self._clock()
        self._rates.note(self._run.times)
        line = _Line(self._about_epoch(now), self._run.progress_bar_metrics_async())
        if now - self._last < QUIET:
            self._held_back = line
            return
        self._held_back, self._last = None, now
        self._rates.begin_again()
        self._write(line)

    def close(self, ending: str) -> None:
        """Write the line that was held back, if there is one, and the sentence."""
        if self._held_back is not None:
            self._write(self._held_back)
        if self._writer is not None:
            self._writer.join(GRACE)
            self._over.set()
            self._writer.join()
        print_stderr(ending)

    def _about_epoch(self, now: float) -> str:
        """All but the metrics. The rate is that of all epochs since the last line."""
        speed = rate(self._rates.of(State.FETCH))
        return ", ".join(filter(None, (f"{snapshot(self._run).epoch} after {duration(now - self._begun)}", speed)))

    def _write(self, line: _Line) -> None:
        if line.is_ready and (self._writer is None or not self._writer.is_alive()):
            print_stderr(str(line))
            return
        name, args = "fsmtrain progress line", (line, self._writer)
        self._writer = threading.Thread(target=self._write_later, args=args, name=name, daemon=True)
        self._writer.start()

    def _write_later(self, line: _Line, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        while not line.is_ready and not self._over.wait(PATIENCE):
            pass
        print_stderr(str(line))


@frozen(eq=False)
class _Line:
    """A line about an epoch, with its metrics on their way."""

    text: str
    metrics: Arriving

    @property
    def is_ready(self) -> bool:
        """Whether there is nothing more to wait for."""
        try:
            return self.metrics.arrived
        except Exception:  # such as that of a device, of which the run itself will have more to say
            return True

    def __str__(self) -> str:
        try:
            values = self.metrics.values()
        except Exception:
            values = {}
        return ", ".join((self.text, *(metric(name, value) for name, value in values.items())))
