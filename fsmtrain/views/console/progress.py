"""`Progress`: a callback that shows a run while it goes on, as a bar on a terminal and in a few plain lines elsewhere.

It has no hook that is called for each batch or transition. How the two are written belongs in `bar` and `lines`, and what both
say in `standing`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from fsmtrain.views.console.plain_lines import Lines
from fsmtrain.views.console.progress_text import Run, closing_line
from fsmtrain.views.console.stderr import is_terminal


class _Shown(Protocol):
    """A run that is shown."""

    def epoch_ended(self) -> None:
        """An epoch has ended, or was cut short."""
        ...

    def close(self, ending: str) -> None:
        """The run is over; the sentence says why."""
        ...


@define(eq=False)
class Progress:
    """Shows runs on standard error: a bar where that is a terminal, elsewhere a line for an epoch, at most one a second.

    Epochs and batches count from 1 here, for people: the last of 20 epochs is "epoch 20/20". Counters and hooks count from 0.

    The bar says, as far as the terminal is wide enough: the epoch; the batch under way, of how many (unknown of a stream); the
    state; how many batches a second training, the check or the test has lately done; and the metrics under the model's
    ``"progress_bar"``. ``(12 s)`` behind a state is how long this one visit has taken so far.

    One object may show several runs, also at the same time. On a terminal the run that began last is the one that is seen.

    Args:
        clock: Gives the time, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _runs: dict[int, tuple[_Shown, float]] = field(factory=dict, init=False, repr=False)  # by id, with the time of the start

    def on_run_start(self, machine: Run) -> None:
        """Begin to show a run."""
        self._runs[id(machine)] = self._begin(machine), self.clock()

    def on_epoch_end(self, machine: Run) -> None:
        """Show that an epoch has ended."""
        self._runs[id(machine)][0].epoch_ended()

    def on_run_end(self, machine: Run) -> None:
        """Show why the run has ended, and leave the terminal as it was."""
        if id(machine) in self._runs:  # not so where another callback's on_run_start failed before
            shown, begun = self._runs.pop(id(machine))
            shown.close(closing_line(machine, self.clock() - begun, sys.exception()))

    def _begin(self, machine: Run) -> _Shown:
        if is_terminal(sys.stderr):
            from fsmtrain.views.console.progress_bar import Bar  # only here: tqdm takes time to import

            return Bar(machine, sys.stderr, self.clock)
        return Lines(machine, self.clock)
