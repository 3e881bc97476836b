"""Progress as plain lines, for log files and pipes: one for each epoch and each validation, and why the run ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.views.console.batch_rate import BatchRates
from fsmtrain.views.console.run_position import MAX_WAIT_SECONDS, snapshot
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.views.line_rate import LineRate
from fsmtrain.views.number_format import duration, metric, rate
from fsmtrain.views.run_view import PendingMetrics, RunView

POLLING_SECONDS = 0.02
SOON = 0.1  # of an epoch; the default interval of validations is 0.95 of it


class PlainLines:
    """A run's lines, from now to `close`.

    If the metrics of a line are still on a device, a thread prints it when they have arrived. The run does not wait.
    """

    def __init__(self, run: RunView, clock: Callable[[], float]) -> None:
        self._run, self._clock = run, clock
        self._line_rate = LineRate()
        self._rates = BatchRates()
        self._postponed: _Line | None = None
        self._writer: threading.Thread | None = None
        self._is_over = threading.Event()
        run.keep_losses()

    def on_validation_end(self) -> None:
        """Print a line about the validation; the last one of an epoch is in the line about the epoch if that comes soon."""
        at = snapshot(self._run)
        line = self._line(f"{at.epoch}, {at.label}")
        left = at.total - at.done
        if at.total and left < self._run.spec.limits.val_check_batches and left <= SOON * at.total:
            self._postponed = line
        else:
            self._print_or_postpone(line)

    def on_epoch_end(self) -> None:
        """Print a line about the epoch, unless there have been too many lately."""
        self._print_or_postpone(self._line(snapshot(self._run).epoch))

    def flush(self) -> None:
        """Print the postponed line, if there is one, and wait briefly for lines whose metrics are still on a device."""
        if self._postponed is not None:
            self._print(self._postponed)
            self._postponed = None
        if self._writer is not None:
            self._writer.join(MAX_WAIT_SECONDS)

    def close(self, ending: str) -> None:
        """Print the lines that are left, and the last sentence."""
        self.flush()
        self._is_over.set()
        if self._writer is not None:
            self._writer.join()
        print_stderr(ending)

    def _line(self, position: str) -> _Line:
        """Return a line about this moment. The rate is that of all batches since the last line."""
        self._rates.add_sample(self._run.times)
        speed = rate(self._rates.batches_per_second(State.FETCH))
        text = ", ".join(filter(None, (f"{position} after {duration(self._run.wall_seconds)}", speed)))
        return _Line(text, self._run.line_metrics_async())

    def _print_or_postpone(self, line: _Line) -> None:
        if not self._line_rate.allows(self._clock()):
            self._postponed = line
            return
        self._postponed = None
        self._rates.restart()
        self._print(line)

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
    """A line about an epoch or a validation, whose metrics may not have arrived yet."""

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
