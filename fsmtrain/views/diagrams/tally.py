"""`Tally`: how often a run took each row of its table, and the time in each state: the numbers that a diagram shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from attrs import field, frozen

from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.guard_copies import with_guard_copies
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.core.states import State
from fsmtrain.core.trace import Trace
from fsmtrain.core.transition_table import Table
from fsmtrain.errors import UsageError
from fsmtrain.views.number_format import duration, percent, repeat_count


@frozen(slots=False)
class Tally:
    """What a run has done, or would do, in numbers.

    Args:
        table: The table of the run.
        row_counts: How often each of its rows was taken, in their order.
        seconds: The wall time of each state; empty if nothing was measured.
    """

    table: Table = field(repr=False)
    row_counts: tuple[int, ...]
    seconds: Mapping[State, float] = field(factory=dict)

    @cached_property
    def visits(self) -> dict[State, int]:
        """How often each state was visited, or entered if it is final."""
        visits = dict.fromkeys(self.table.states, 0)
        for row, count in zip(self.table, self.row_counts, strict=True):
            visits[row.source] += count
            if row.to.is_final:
                visits[row.to] += count
        return visits

    @cached_property
    def total_seconds(self) -> float:
        """The wall time of all states together."""
        return sum(self.seconds.values())

    def time_share(self, state: State) -> float:
        """Return the share of a state in the total time, from 0 to 1."""
        return self.seconds.get(state, 0.0) / self.total_seconds if self.total_seconds else 0.0

    @property
    def stop_count(self) -> int:
        """How often a stop request ended the run: 0 or 1, or more if several runs are added up."""
        return sum(count for row, count in zip(self.table, self.row_counts, strict=True) if row.to is State.STOPPED)


Counts = Tally | Plan | Trace  # what a tally can be made from


def tally_of(counts: Counts, loop: LoopSpec) -> Tally:
    """Return the numbers of a plan, a trace or a run, for a diagram of this loop.

    Raises:
        UsageError: They belong to a loop with another table.
    """
    match counts:
        case Tally():
            tally = counts
        case Plan():
            tally = planned_tally(counts)
        case Trace():
            tally = Tally(counts.table, counts.taken)
    if _shape(tally.table) != _shape(loop.table):
        raise UsageError(
            f"counts={type(counts).__name__}: its table has other rows than this loop's, so its numbers belong to other edges. "
            f"Draw the loop that it was made from."
        )
    return tally


def planned_tally(plan: Plan) -> Tally:
    """Return the numbers of a run that nothing stops early.

    >>> from fsmtrain.options import Options
    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.core.planning.compute_plan import make_plan
    >>> tally = planned_tally(make_plan(LoopSpec(Options(accumulate_grad_batches=4, max_nb_epochs=2), Sizes(train=9))))
    >>> tally.visits[State.TRAIN_BATCH], tally.visits[State.STEP], tally.visits[State.ACCUMULATE]
    (18, 6, 12)
    """
    loop = with_guard_copies(plan.loop)
    begun = loop.beginning
    run = Dispatcher(loop.table, loop.limits, begun.counters.copy(), begun.signals.copy(), {}, state=begun.state)
    run.run()
    return Tally(loop.table, run.trace.taken)


def _shape(table: Table) -> list[tuple[State, State]]:
    return [(row.source, row.to) for row in table]


def state_numbers(tally: Tally, state: State) -> str:
    """Return the numbers of one state in one line; the time only if it was measured.

    >>> state_numbers(Tally(Table(()), (), {State.STEP: 1.5, State.FETCH: 4.5}), State.STEP)
    '0×  1.5 s  25 %'
    """
    visits = repeat_count(tally.visits.get(state, 0))
    if state not in tally.seconds:
        return visits
    return f"{visits}  {duration(tally.seconds[state])}  {percent(tally.time_share(state))}"
