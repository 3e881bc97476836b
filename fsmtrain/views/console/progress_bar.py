"""The progress bar of a terminal or a notebook: rows of `rich.progress`, redrawn by a thread at most five times a second.

The training thread does nothing for it. This module and rich are imported only if a bar is drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from fsmtrain.views.console.batch_rate import BatchRates
from fsmtrain.views.console.in_notebook import is_notebook
from fsmtrain.views.console.notebook import NotebookLines
from fsmtrain.views.console.run_position import ProgressSnapshot, snapshot, wait_briefly
from fsmtrain.views.console.terminal import LiveLines, can_redraw
from fsmtrain.views.number_format import metric, rate
from fsmtrain.views.run_view import RunView

REDRAW_SECONDS = 0.2
LONG_VISIT_SECONDS = 2.0  # a visit that takes longer is shown with its time
AVERAGING_SECONDS = 600.0  # the remaining time follows from the speed of this long, validations included
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 6, 40
ELAPSED, REMAINING = TimeElapsedColumn(), TimeRemainingColumn()

LiveOutput = LiveLines | NotebookLines


def open_bar(run: RunView, stream: TextIO | None, clock: Callable[[], float]) -> Bar | None:
    """Return a bar in this notebook or on this terminal; None if it is neither, or cannot move its cursor."""
    if is_notebook():
        return Bar(run, lambda _: NotebookLines(), clock)
    if stream is None or not can_redraw(stream):
        return None
    return Bar(run, lambda position: LiveLines(stream, position), clock)


class Bar:
    """A run's progress bar, from now to `close`.

    Args:
        run: The run.
        open_output: Opens the lines that the bar draws, given what returns the position of the run.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, run: RunView, open_output: Callable[[Callable[[], object]], LiveOutput], clock: Callable[[], float]
    ) -> None:
        self._run, self._clock = run, clock
        self._rates = BatchRates()
        self._metrics: dict[str, float] = {}
        self._pending = run.progress_bar_metrics_async(with_loss=True)
        self._last_position: object = None
        self._position_since = clock()  # when the run was first seen there
        self._rows = Rows(clock)
        self._output = open_output(self._position)
        self._is_over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._redraw_regularly, name="fsmtrain progress bar", daemon=True)
        self._thread.start()

    def on_epoch_end(self) -> None:
        """Do nothing: the thread sees it."""

    def on_validation_end(self) -> None:
        """Do nothing: the thread sees it."""

    def flush(self) -> None:
        """Do nothing: the bar stays to the end of the run."""

    def close(self, ending: str) -> None:
        """Leave the bar with its last values and a last sentence below it, and restore the terminal."""
        self._is_over.set()
        texts = [Text(ending)]
        try:
            self._thread.join()
            texts.insert(0, self._last_text())
            if self._failure is not None:
                texts.append(Text(f"(progress bar disabled after an error: {self._failure!r})"))
        finally:
            self._output.close(*texts)

    def redraw(self) -> None:
        """Draw the run as it is now."""
        position, now = self._position(), self._clock()
        if position != self._last_position:
            self._last_position, self._position_since = position, now
        if self._pending.arrived:
            self._metrics |= self._pending.values()
            self._pending = self._run.progress_bar_metrics_async(with_loss=True)
        self._metrics |= self._pending.values()
        self._output.draw(self._text(now - self._position_since), position)

    def _redraw_regularly(self) -> None:
        try:
            self.redraw()
            while not self._is_over.wait(REDRAW_SECONDS):
                self.redraw()
        except Exception as failure:  # such as a device error, which the run itself will report
            self._failure = failure
            self._output.erase()

    def _position(self) -> object:
        counters = self._run.counters
        return self._run.state, counters.batches_begun, counters.split_nb, counters.optimizer_i, counters.eval_nb

    def _last_text(self) -> Text:
        """Return the text that stays, with the last metrics if they arrive in time."""
        if self._failure is None:
            try:
                self._pending = self._run.progress_bar_metrics_async(with_loss=True)
                wait_briefly(self._pending)
                self._metrics |= self._pending.values()
            except Exception as failure:
                self._failure = failure
        return self._text(visit_seconds=0.0)

    def _text(self, visit_seconds: float) -> Text:
        at = snapshot(self._run)
        self._rates.add_sample(self._run.times)
        duration = f" ({visit_seconds:.0f} s)" if visit_seconds >= LONG_VISIT_SECONDS else ""
        speed = rate(self._rates.batches_per_second(self._run.state))
        words = [at.activity + duration, speed, *(metric(name, value) for name, value in self._metrics.items())]
        return lay_out(self._rows.update(at), words, self._output.columns, self._output.console)


class Rows:
    """The tasks of `rich.progress` whose bars are shown; they measure elapsed and remaining time.

    One is the run, in train batches of all epochs; the other is the epoch, or the pass over sanity or test batches.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._progress = Progress(auto_refresh=False, get_time=clock, speed_estimate_period=AVERAGING_SECONDS)
        self._tasks: dict[str, tuple[object, TaskID]] = {}  # name of the row -> which epoch or pass it shows, and its task

    def update(self, at: ProgressSnapshot) -> list[Task]:
        """Return the tasks, brought up to date."""
        if at.epoch:
            self._update("run", None, at.epoch, at.run_done, at.run_total)
        self._update("pass", (at.epoch, at.label.startswith("batch")), at.label, at.done, at.total)
        return self._progress.tasks

    def _update(self, row: str, shown: object, label: str, done: int, total: int) -> None:
        before, task_id = self._tasks.get(row, (None, None))
        if task_id is not None and before == shown:
            self._progress.update(task_id, description=label, completed=done)
            return
        if task_id is not None:
            self._progress.remove_task(task_id)
        self._tasks[row] = shown, self._progress.add_task(label, total=total or None, completed=done)


def lay_out(tasks: Sequence[Task], words: Sequence[str], columns: int, console: Console) -> Text:
    """Return a row for each task, with a bar and times, and a row of words, in at most so many columns.

    What does not fit is left out whole: words from the last to the first, then the elapsed time, the remaining time, the bar.

    >>> console = Console(color_system=None, width=60)
    >>> progress = Progress(get_time=lambda: 0.0)
    >>> for label, total in (("epoch 3/20", 900), ("batch 17/45", 45)):
    ...     _ = progress.add_task(label, total=total, completed=total // 3)
    >>> print(lay_out(progress.tasks, ["backward", "212 batches/s", "loss=0.25", "acc=0.9"], 52, console).plain)
    epoch  3/20  ━━━━━             0:00:00  -:--:-- left
    batch 17/45  ━━━━━             0:00:00  -:--:-- left
    backward  212 batches/s  loss=0.25  acc=0.9
    """
    labels = [_aligned(task.description) for task in tasks]
    elapsed = _right_aligned([ELAPSED.render(task).plain for task in tasks])
    remaining = _right_aligned([f"{left} left" if (left := REMAINING.render(task).plain) else "" for task in tasks])
    label_columns, remaining_columns = _widest(labels), _widest(remaining)
    bar_columns = columns - label_columns - remaining_columns - _widest(elapsed) - 6
    if bar_columns < MIN_BAR_COLUMNS:
        bar_columns, elapsed = columns - label_columns - remaining_columns - 4, [""] * len(tasks)
    if bar_columns < MIN_BAR_COLUMNS:
        bar_columns, remaining = columns - label_columns - 2, [""] * len(tasks)
    if bar_columns < MIN_BAR_COLUMNS or all(task.total is None for task in tasks):
        bar_columns = 0
    text = Text(no_wrap=True, overflow="crop")
    for task, label, *times in zip(tasks, labels, elapsed, remaining, strict=True):
        text.append(set_cell_size(label, min(columns, label_columns)))
        _append_bar(text, task, min(bar_columns, MAX_BAR_COLUMNS), console)
        for time, style in zip(times, ("progress.elapsed", "progress.remaining"), strict=True):
            if time.strip():
                text.append("  ").append(time, style)
        text.append("\n")
    shown = [word for word in words if word and word != tasks[-1].description]
    while len(shown) > 1 and cell_len("  ".join(shown)) > columns:
        shown.pop()
    status = "  ".join(shown)
    return text.append(status if cell_len(status) <= columns else set_cell_size(status, columns))


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts))


def _right_aligned(texts: Sequence[str]) -> list[str]:
    return [text.rjust(_widest(texts)) for text in texts]


def _aligned(label: str) -> str:
    """Return a label such as "batch 7/45" with its number padded to the width of the total."""
    name, _, numbers = label.rpartition(" ")
    number, _, total = numbers.partition("/")
    return f"{name} {number:>{len(total)}}/{total}" if name and total else label


def _append_bar(text: Text, task: Task, columns: int, console: Console) -> None:
    """Append the bar of a task; blanks if its total is not known."""
    if not columns:
        return
    start = text.append("  ").cell_len
    if task.total is not None:
        bar, options = BarColumn(bar_width=columns).render(task), console.options.update_width(columns)
        for segment in console.render(bar, options):
            text.append(segment.text, segment.style)
    text.append(" " * (start + columns - text.cell_len))
