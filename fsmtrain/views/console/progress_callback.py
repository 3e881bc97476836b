"""`Progress`: the callback that shows how far a run is, as a bar on a terminal or in a notebook, otherwise as plain lines."""

from __future__ import annotations

import builtins
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from fsmtrain.core.states import State
from fsmtrain.views.console.plain_lines import PlainLines
from fsmtrain.views.console.run_position import closing_line
from fsmtrain.views.console.stderr import is_terminal
from fsmtrain.views.run_view import RunView

if TYPE_CHECKING:
    from fsmtrain.views.console.progress_bar import Bar


@define(eq=False)
class Progress:
    """Shows runs on standard error: a bar if that is a terminal, else a line for each epoch and each validation:
    20 at any speed, then one per second. It has the monitored metrics, the newest loss, and others of the newest validation.

    It has no hook that is called for each batch or transition.

    Epochs and batches count from 1 here: the last of 20 epochs is "epoch 20/20". Counters and hooks count from 0.

    The bar shows a row for the run and one for the epoch, each with its elapsed and remaining time. Below them stand the state;
    how many batches per second training, the validation or the test has lately done; and the loss and the metrics under the
    model's ``"progress_bar"``. What does not fit is left out. ``(12 s)`` after a state is the time of the current visit so far.
    The remaining time of a run assumes that it is not stopped early.

    One object may show several runs, also at the same time. On a terminal only the run that began last is visible.

    Args:
        clock: Returns the time in seconds.
    """

    may_log_metrics = False  # the metrics of a run are not its own
    can_resume_within_validation = True

    clock: Callable[[], float] = time.monotonic
    _views: dict[int, Bar | PlainLines] = field(factory=dict, init=False, repr=False)  # by the id of the run

    def on_run_start(self, machine: RunView) -> None:
        """Begin to show a run."""
        self._views[id(machine)] = self._open_view(machine)

    def on_epoch_end(self, machine: RunView) -> None:
        """Show that an epoch has ended, unless the run has ended within it."""
        if machine.state is not State.EPOCH_END:
            return
        self._views[id(machine)].on_epoch_end()

    def on_validation_end(self, machine: RunView, metrics: object) -> None:
        """Show what a validation within the training has measured, once it is complete."""
        if machine.state is State.VAL_CHECK and machine.is_running:
            self._views[id(machine)].on_validation_end()

    def on_fit_end(self, machine: RunView) -> None:
        """Show the training whole before what follows it."""
        if id(machine) in self._views:
            self._views[id(machine)].flush()

    def on_run_end(self, machine: RunView) -> None:
        """Show why the run has ended, and restore the terminal."""
        if id(machine) in self._views:  # not if another callback's on_run_start failed before
            view = self._views.pop(id(machine))
            view.close(closing_line(machine, machine.wall_seconds, sys.exception()))

    def _open_view(self, machine: RunView) -> Bar | PlainLines:
        if is_terminal(sys.stderr) or hasattr(builtins, "get_ipython"):
            from fsmtrain.views.console.progress_bar import open_bar  # only here: rich takes time to import

            bar = open_bar(machine, sys.stderr, self.clock)
            if bar is not None:
                return bar
        return PlainLines(machine, self.clock)
