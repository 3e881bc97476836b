"""Progress as plain lines, for log files and pipes: one for an epoch, at most one per second, and why the run ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.views.console.batch_rate import BatchRates
from fsmtrain.views.console.run_position import MAX_WAIT_SECONDS, snapshot
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.views.number_format import duration, metric, rate
from fsmtrain.views.run_view import PendingMetrics, RunView

MIN_SECONDS_BETWEEN_LINES = 1.0
POLLING_SECONDS = 0.02


class PlainLines:
    """A run's lines, from now to `close`.

    If the metrics of a line are still on a device, a thread prints it when they have arrived. The run does not wait.
    """

    def __init__(self, run: RunView, clock: Callable[[], float]) -> None:
        self._run, self._clock = run, clock
        self._start = clock()
        self._last = self._start - MIN_SECONDS_BETWEEN_LINES
        self._rates = BatchRates()
        self._postponed: _Line | None = None
        self._writer: threading.Thread | None = None
        self._is_over = threading.Event()

    def on_epoch_end(self) -> None:
        """Print a line about the epoch, unless the last one is too recent."""
        now = self._clock()
        self._rates.add_sample(self._run.times)
        line = _Line(self._epoch_text(now), self._run.progress_bar_metrics_async())
        if now - self._last < MIN_SECONDS_BETWEEN_LINES:
            self._postponed = line
            return
        self._postponed, self._last = None, now
        self._rates.restart()
        self._print(line)

    def close(self, ending: str) -> None:
        """Print the postponed line, if there is one, and the last sentence."""
        if self._postponed is not None:
            self._print(self._postponed)
        if self._writer is not None:
            self._writer.join(MAX_WAIT_SECONDS)
            self._is_over.set()
            self._writer.join()
        print_stderr(ending)

    def _epoch_text(self, now: float) -> str:
        """Return the line without its metrics. The rate is that of all epochs since the last line."""
        speed = rate(self._rates.batches_per_second(State.FETCH))
        return ", ".join(filter(None, (f"{snapshot(self._run).epoch} after {duration(now - self._start)}", speed)))

    def _print(self, line: _Line) -> None:
        if line.is_ready and (self._writer is None or not self._writer.is_alive()):
            print_stderr(str(line))
            return
        name, args = "fsmtrain progress line", (line, self._writer)
        self._writer = threading.Thread(target=self._print_later, args=args, name=name, daemon=True)
        self._writer.start()

    def _print_later(self, line: _Line, previous: threading.Thread | None) -> None:
        if previous is not None:
            previous.join()
        while not line.is_ready and not self._is_over.wait(POLLING_SECONDS):
            pass
        print_stderr(str(line))


@frozen(eq=False)
class _Line:
    """A line about an epoch, whose metrics may not have arrived yet."""

    text: str
    metrics: PendingMetrics

    @property
    def is_ready(self) -> bool:
        """Whether there is nothing to wait for."""
        try:
            return self.metrics.arrived
        except Exception:  # such as a device error, which the run itself will report
            return True

    def __str__(self) -> str:
        try:
            values = self.metrics.values()
        except Exception:
            values = {}
        return ", ".join((self.text, *(metric(name, value) for name, value in values.items())))
