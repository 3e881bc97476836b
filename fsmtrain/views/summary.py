"""The table at the end of a run: how often each state was visited, what that took, and why the run stopped."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from fsmtrain.core.dispatch import Spent
from fsmtrain.core.reasons import StopReason
from fsmtrain.core.states import State

WIDTH = 80
HEADINGS = ("state", "visits", "time (s)", "share", "µs per visit")


def states_table(times: Mapping[State, Spent], stop_reason: StopReason | None) -> str:
    """A row for each state that was visited, their total, and a sentence, in lines of at most 80 columns.

    Args:
        times: What the states took: ``machine.times``, or a result's.
        stop_reason: Why the run ended; None for one that has not, or that an error ended.

    The share is that of the wall time of all visits together. The time of work that a device does meanwhile shows where
    somebody waits for it.

    >>> from fsmtrain.core.states import State
    >>> print(states_table({State.FETCH: Spent(90, 0.25), State.STEP: Spent(45, 0.75)}, StopReason.REQUESTED))
    state  visits  time (s)   share  µs per visit
    fetch      90     0.250   25.0%         2,778
    step       45     0.750   75.0%        16,667
    total     135     1.000  100.0%
    Why it stopped: a stop was requested.
    """
    whole = Spent(sum(spent.visits for spent in times.values()), sum(spent.seconds for spent in times.values()))
    rows = [HEADINGS, *(_row(state.value, times[state], whole.seconds) for state in State if state in times)]
    rows.append((*_row("total", whole, whole.seconds)[:-1], ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        cells = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join((name.ljust(widths[0]), *cells)).rstrip())
    sentence = "The run did not come to its end." if stop_reason is None else f"Why it stopped: {stop_reason}."
    return "\n".join((*lines, *textwrap.wrap(sentence, WIDTH)))


def _row(name: str, spent: Spent, whole: float) -> tuple[str, ...]:
    share = f"{spent.seconds / whole:.1%}" if whole else ""
    per_visit = spent.seconds / spent.visits * 1e6 if spent.visits else 0.0
    return (
        name,
        f"{spent.visits:,}",
        f"{spent.seconds:,.3f}",
        share,
        f"{per_visit:,.0f}" if per_visit >= 100 else f"{per_visit:.1f}",
    )
