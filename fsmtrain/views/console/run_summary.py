"""The table that a run prints at its end: visits and time of each state, the bottleneck, and why it stopped."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.plurals import plural
from fsmtrain.views.console.in_notebook import print_about_run
from fsmtrain.views.loader_workers import LoaderWorkers
from fsmtrain.views.run_view import RunView

COLUMNS = 80
HEADINGS = ("state", "visits", "time (s)", "share", "µs per visit")


class RunSummary:
    """A callback that prints the table to standard error after a run that trained, unless an error ended it.

    Args:
        shows_stop_reason: Whether the last sentence says why the run ended, because nothing else does.
    """

    def __init__(self, *, shows_stop_reason: bool = True) -> None:
        self._shows_stop_reason = shows_stop_reason

    def on_run_end(self, machine: RunView) -> None:
        """Print the table."""
        if machine.stop_reason is not None and State.FETCH in machine.times:
            table = states_table(
                machine.times,
                machine.stop_reason,
                shows_stop_reason=self._shows_stop_reason,
                data_wait=machine.data_wait,
                wall_seconds=machine.wall_seconds,
                device_times=machine.device_times,
                workers=LoaderWorkers.of(machine.loaders),
                remark=" ".join(filter(None, (_nonfinite(machine), tested_remark(machine)))),
            )
            print_about_run("\n" + table)


def _nonfinite(run: RunView) -> str:
    return nonfinite_remark(run.counters.steps_skipped, run.rollbacks)


def tested_remark(run: RunView) -> str:
    """Return which weights the test after the training was of; empty if there was none, or no choice."""
    if State.TEST not in run.times:
        return ""
    best = run.best_checkpoint
    if run.tested is not None:
        return f"Tested: the weights of {run.tested}."
    return "" if best is None else f"Tested: the weights with which training ended, not those of {best}."


def states_table(
    times: Mapping[State, Timing],
    stop_reason: StopReason | None,
    *,
    shows_stop_reason: bool = True,
    data_wait: Timing | None = None,
    wall_seconds: float | None = None,
    device_times: Mapping[State, Timing] | None = None,
    workers: LoaderWorkers | None = None,
    remark: str = "",
) -> str:
    """Return a row for each visited state, their total, and sentences, in lines of at most 80 columns.

    The share is that of the wall time. Asynchronous work of a device shows in the state that waits for it.

    Args:
        times: Visits and wall time of the states: ``machine.times``, or a result's.
        stop_reason: Why the run ended; None if it has not, or an error ended it.
        shows_stop_reason: Whether the last sentence is the stop reason.
        data_wait: Batches fetched from loaders, and the time spent waiting for them, which is part of the states' time.
        wall_seconds: The time from the run's beginning to its end. The time between visits gets a row of its own.
        device_times: GPU time of the states, as far as it is known.
        workers: The worker processes of the loaders; None if not known.
        remark: A sentence below the table; empty for none.

    >>> times = {State.FETCH: Timing(90, 0.25), State.STEP: Timing(45, 0.75)}
    >>> print(states_table(times, StopReason.REQUESTED, data_wait=Timing(90, 0.1)))
    state                  visits  time (s)   share  µs per visit
    fetch                      90     0.250   25.0%         2,778
    step                       45     0.750   75.0%        16,667
    total                     135     1.000  100.0%
      waiting for loaders      90     0.100   10.0%         1,111
    Why it stopped: a stop was requested.
    """
    inside = Timing(sum(timing.count for timing in times.values()), sum(timing.seconds for timing in times.values()))
    total = Timing(inside.count, max(inside.seconds, wall_seconds or 0.0))
    rows = [_row(state.value, times[state], total.seconds) for state in State if state in times]
    if device_times:
        gpu = {state.value: f"{timing.seconds:,.3f}" for state, timing in device_times.items()}
        rows = [(*row, gpu.get(row[0], "")) for row in rows]
    between = total.seconds - inside.seconds
    if total.seconds and between / total.seconds >= 0.001:
        name, _, seconds, share, _ = _row("(between visits)", Timing(0, between), total.seconds)
        rows.append((name, "", seconds, share))
    rows.append(_row("total", total, total.seconds)[:4])
    if data_wait is not None and data_wait.count:
        rows.append(_row("  waiting for loaders", data_wait, total.seconds))
    sentences = [remark, bottleneck(times, data_wait, total.seconds, workers)]
    if shows_stop_reason:
        sentences.append("The run did not finish." if stop_reason is None else f"Why it stopped: {stop_reason}.")
    headings = (*HEADINGS, "GPU (s)") if device_times else HEADINGS
    return "\n".join((*_aligned([headings, *rows]), *(line for text in sentences for line in textwrap.wrap(text, COLUMNS))))


def _row(name: str, timing: Timing, total_seconds: float) -> tuple[str, ...]:
    share = f"{timing.seconds / total_seconds:.1%}" if total_seconds else ""
    per_visit = timing.seconds / timing.count * 1e6 if timing.count else 0.0
    average = f"{per_visit:,.0f}" if per_visit >= 100 else f"{per_visit:.1f}"
    return name, f"{timing.count:,}", f"{timing.seconds:,.3f}", share, average


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, names to the left and numbers to the right; missing cells are empty."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for name, *numbers in rows:
        cells = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=False))
        lines.append("  ".join((name.ljust(widths[0]), *cells)).rstrip())
    return lines


def nonfinite_remark(steps_skipped: int, rollbacks: Sequence[object]) -> str:
    """Return what was done about losses and gradients that were not finite; empty if there were none.

    >>> nonfinite_remark(2, ["the loss of epoch 0, batch 3, optimizer 0"])
    'Not finite: 2 steps skipped, 1 rollback, for the loss of epoch 0, batch 3, optimizer 0.'
    """
    parts = [plural(steps_skipped, "step") + " skipped"] if steps_skipped else []
    if rollbacks:
        parts.append(f"{plural(len(rollbacks), 'rollback')}, for {'; '.join(map(str, rollbacks))}")
    return f"Not finite: {', '.join(parts)}." if parts else ""


# ---- the bottleneck

MIN_WALL_SECONDS = 1.0  # a shorter run has no bottleneck that matters


def bottleneck(
    times: Mapping[State, Timing], data_wait: Timing | None, wall_seconds: float, workers: LoaderWorkers | None = None
) -> str:
    """Return a sentence on what took an unexpectedly large share of the time, the largest first; empty if nothing did.

    >>> times = {State.FETCH: Timing(90, 4.0), State.STEP: Timing(90, 6.0)}
    >>> bottleneck(times, Timing(90, 4.1), 10.0, LoaderWorkers(num_workers=1, cpus=4))
    'Bottleneck: 41 % of the time waiting for the loader with num_workers=1; more may help, up to 4, the number of CPUs.'
    """
    if wall_seconds < MIN_WALL_SECONDS:
        return ""
    seconds = {state: times[state].seconds if state in times else 0.0 for state in State}
    waiting = data_wait.seconds if data_wait else 0.0
    epochs = times[State.EPOCH_END].count if State.EPOCH_END in times else 0
    candidates = [  # seconds, the least share that is unexpected, and what to do about it
        (waiting, 0.2, (workers or LoaderWorkers()).advice(epochs)),
        (seconds[State.VAL_CHECK], 0.5, "validating; a larger val_check_interval or a smaller val_percent_check reduces it."),
        (seconds[State.SAVE], 0.2, "saving checkpoints; Guards(save=...) can ask for fewer."),
        (wall_seconds - sum(seconds.values()), 0.2, "between visits: in callbacks, or in the code that advances the machine."),
    ]
    found = [(spent, remedy) for spent, min_share, remedy in candidates if spent >= min_share * wall_seconds]
    if not found:
        return ""
    spent, remedy = max(found)
    return f"Bottleneck: {spent / wall_seconds * 100:.0f} % of the time {remedy}"
