"""The table at the end of a run: how often each state was visited, what that took, what held it up, and why it stopped."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Protocol

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.wording import plural

WIDTH = 80
HEADINGS = ("state", "visits", "time (s)", "share", "µs per visit")


class Timed(Protocol):
    """What is read of a run that has ended."""

    @property
    def times(self) -> dict[State, Timing]:
        """What each state has taken."""
        ...

    @property
    def counters(self) -> Counters:
        """Where the run stands, in numbers."""
        ...

    @property
    def rollbacks(self) -> Sequence[object]:
        """The batches that rollbacks have left out."""
        ...

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the run ended; None where an error ended it."""
        ...

    @property
    def data_wait(self) -> Timing:
        """The batches that loaders gave, and the time for which they were waited for."""
        ...

    @property
    def device_times(self) -> dict[State, Timing]:
        """The time of a GPU in each state."""
        ...

    @property
    def wall_seconds(self) -> float:
        """The time from the beginning of the run to its end."""
        ...


class RunSummary:
    """A callback that shows the table on standard error when a run that trained has come to its end.

    Args:
        tells_why: Whether it says why the run ended, where nobody else does.
    """

    def __init__(self, *, tells_why: bool = True) -> None:
        self._tells_why = tells_why

    def on_run_end(self, machine: Timed) -> None:
        """Show it."""
        if machine.stop_reason is not None and State.FETCH in machine.times:
            print_stderr("\n" + run_table(machine, tells_why=self._tells_why))


def run_table(run: Timed, *, tells_why: bool = True) -> str:
    """The table of a run, with all that is known of its time, and why it ended."""
    return states_table(
        run.times,
        run.stop_reason,
        tells_why=tells_why,
        loading=run.data_wait,
        wall_seconds=run.wall_seconds,
        device_times=run.device_times,
        told=not_finite(run.counters.steps_skipped, run.rollbacks),
    )


def states_table(
    times: Mapping[State, Timing],
    stop_reason: StopReason | None,
    *,
    tells_why: bool = True,
    loading: Timing | None = None,
    wall_seconds: float | None = None,
    device_times: Mapping[State, Timing] | None = None,
    told: str = "",
) -> str:
    """A row for each state that was visited, their total, and sentences, in lines of at most 80 columns.

    Args:
        times: What the states took: ``machine.times``, or a result's.
        stop_reason: Why the run ended; None for one that has not, or that an error ended.
        tells_why: Whether the last sentence says why the run ended.
        loading: The time for which loaders were waited for, which is a part of that of some states.
        wall_seconds: The time from the beginning of the run to its end, so that what lies between the visits is told too.
        device_times: The time of a GPU in each state, as far as it is known.
        told: A sentence on the run's numbers; empty for none.

    The share is that of the wall time. The time of work that a device does meanwhile shows where somebody waits for it.

    >>> from fsmtrain.core.states import State
    >>> times = {State.FETCH: Spent(90, 0.25), State.STEP: Spent(45, 0.75)}
    >>> print(states_table(times, StopReason.REQUESTED, loading=Spent(90, 0.1)))
    state                visits  time (s)   share  µs per visit
    fetch                    90     0.250   25.0%         2,778
    step                     45     0.750   75.0%        16,667
    total                   135     1.000  100.0%
      of it for loaders      90     0.100   10.0%         1,111
    Why it stopped: a stop was requested.
    """
    inside = Timing(sum(spent.count for spent in times.values()), sum(spent.seconds for spent in times.values()))
    whole = Timing(inside.count, max(inside.seconds, wall_seconds or 0.0))
    rows = [_row(state.value, times[state], whole.seconds, device_times, state) for state in State if state in times]
    between = whole.seconds - inside.seconds
    if whole.seconds and between / whole.seconds >= 0.001:
        rows.append(_cut(_row("(between visits)", Timing(0, between), whole.seconds), visits=False))
    rows.append(_cut(_row("total", whole, whole.seconds)))
    if loading is not None and loading.count:
        rows.append(_row("  of it for loaders", loading, whole.seconds))
    headings = (*HEADINGS, "GPU (s)") if device_times else HEADINGS
    rows.insert(0, headings)
    widths = [max(map(len, column)) for column in zip(*(_filled(row, len(headings)) for row in rows), strict=True)]
    lines = []
    for name, *numbers in (_filled(row, len(headings)) for row in rows):
        cells = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join((name.ljust(widths[0]), *cells)).rstrip())
    sentences = [told, bottleneck(times, loading, whole.seconds)]
    if tells_why:
        sentences.append("The run did not come to its end." if stop_reason is None else f"Why it stopped: {stop_reason}.")
    return "\n".join((*lines, *(line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH))))


def _row(
    name: str, spent: Timing, whole: float, device_times: Mapping[State, Timing] | None = None, state: State | None = None
) -> tuple[str, ...]:
    share = f"{spent.seconds / whole:.1%}" if whole else ""
    per_visit = spent.seconds / spent.count * 1e6 if spent.count else 0.0
    row = (
        name,
        f"{spent.count:,}",
        f"{spent.seconds:,.3f}",
        share,
        f"{per_visit:,.0f}" if per_visit >= 100 else f"{per_visit:.1f}",
    )
    if device_times and state is not None and state in device_times:
        return (*row, f"{device_times[state].seconds:,.3f}")
    return row


def _cut(row: tuple[str, ...], *, visits: bool = True) -> tuple[str, ...]:
    """A row without the time of a visit, and without visits where there are none to count."""
    return (row[0], row[1] if visits else "", *row[2:4], "")


def _filled(row: tuple[str, ...], columns: int) -> tuple[str, ...]:
    return row + ("",) * (columns - len(row))


# ---- what was not as it should be


def not_finite(steps_skipped: int, rollbacks: Sequence[object]) -> str:
    """What became of numbers that were not finite; empty where there were none.

    >>> not_finite(2, ["the loss of epoch 0, batch 3, optimizer 0"])
    'Numbers that were not finite: 2 steps skipped, 1 rollback, for the loss of epoch 0, batch 3, optimizer 0.'
    """
    parts = [plural(steps_skipped, "step") + " skipped"] if steps_skipped else []
    if rollbacks:
        parts.append(f"{plural(len(rollbacks), 'rollback')}, for {'; '.join(map(str, rollbacks))}")
    return f"Numbers that were not finite: {', '.join(parts)}." if parts else ""


# ---- what held it up

SHORT = 1.0  # seconds; a shorter run has no bottleneck that anybody cares about
LOADERS, CHECKS, SAVES, BETWEEN = 0.2, 0.5, 0.2, 0.2  # the least shares of the wall time that are told


def bottleneck(times: Mapping[State, Timing], loading: Timing | None, wall_seconds: float) -> str:
    """A sentence on what took more of a run's time than one expects, the largest share first; empty where nothing did.

    >>> bottleneck({State.FETCH: Spent(90, 4.0), State.STEP: Spent(90, 6.0)}, Spent(90, 4.1), 10.0)
    'Bottleneck: 41 % of the time waiting for the loader; DataLoader(num_workers=...) with more workers may help.'
    """
    if wall_seconds < SHORT:
        return ""
    spent = {state: times[state].seconds if state in times else 0.0 for state in (State.VAL_CHECK, State.SAVE)}
    between = wall_seconds - sum(each.seconds for each in times.values())
    found = [
        (loading.seconds if loading else 0.0, LOADERS, LOADER_WAY_OUT),
        (spent[State.VAL_CHECK], CHECKS, "in checks; val_check_interval and val_percent_check make them fewer and shorter."),
        (spent[State.SAVE], SAVES, "saving checkpoints; Guards(save=...) can ask for fewer."),
        (between, BETWEEN, "between the visits to states: in callbacks, or in the code that advances the machine."),
    ]
    told = [(seconds, sentence) for seconds, least, sentence in found if seconds >= least * wall_seconds]
    if not told:
        return ""
    seconds, sentence = max(told)
    return f"Bottleneck: {seconds / wall_seconds * 100:.0f} % of the time {sentence}"


LOADER_WAY_OUT = "waiting for the loader; DataLoader(num_workers=...) with more workers may help."
