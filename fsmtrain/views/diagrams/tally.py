"""How often each row of a table is taken, and what its states take: the numbers that a diagram can show."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from attrs import define, field

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.plan import Plan
from fsmtrain.core.states import State
from fsmtrain.core.table import Table
from fsmtrain.core.trace import Trace
from fsmtrain.errors import UsageError
from fsmtrain.views.number_format import duration, percent, repeat_count


@define(frozen=True, slots=False)
class Tally:
    """What a run has done, or would do, in numbers.

    Args:
        table: The table of the run.
        taken: How often each of its rows was taken, in their order.
        seconds: The wall time that the visits to a state took together; empty where nothing was measured.
    """

    table: Table = field(repr=False)
    taken: tuple[int, ...]
    seconds: Mapping[State, float] = field(factory=dict)

    @cached_property
    def visits(self) -> dict[State, int]:
        """How often each state was visited; a final one, how often it was entered."""
        visits = dict.fromkeys(self.table.states, 0)
        for row, taken in zip(self.table, self.taken, strict=True):
            visits[row.source] += taken
            if row.to.is_final:
                visits[row.to] += taken
        return visits

    @cached_property
    def whole(self) -> float:
        """The seconds of all visits together."""
        return sum(self.seconds.values())

    def share(self, state: State) -> float:
        """The part of the whole time that the visits to a state took, from 0 to 1."""
        return self.seconds.get(state, 0.0) / self.whole if self.whole else 0.0

    @property
    def stops(self) -> int:
        """How often a request to stop was followed."""
        return sum(taken for row, taken in zip(self.table, self.taken, strict=True) if row.to is State.STOPPED)


Counts = Tally | Plan | Trace  # what a tally can be made of


def tally_of(counts: Counts, loop: LoopSpec) -> Tally:
    """The numbers of a plan, a trace or a run, for a diagram of this loop.

    Raises:
        UsageError: They are those of a loop with another table.
    """
    match counts:
        case Tally():
            tally = counts
        case Plan():
            tally = foretold(counts)
        case Trace():
            tally = Tally(counts.table, counts.taken)
    if _shape(tally.table) != _shape(loop.table):
        raise UsageError(
            f"counts={type(counts).__name__}: its table has other rows than this loop's, so that its numbers belong to other "
            f"arrows. Draw the loop that it was made from."
        )
    return tally


def foretold(plan: Plan) -> Tally:
    """The numbers of a run that nothing from outside cuts short.

    >>> from fsmtrain.options import Options
    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.core.planning.planner import make_plan
    >>> tally = foretold(make_plan(LoopSpec(Options(accumulate_grad_batches=4, max_nb_epochs=2), Sizes(train=9))))
    >>> tally.visits[State.TRAIN_BATCH], tally.visits[State.STEP], tally.visits[State.ACCUMULATE]
    (18, 6, 12)
    """
    loop = plan.loop
    begin = Counters.begin(loop.limits.optimizers)
    run = Dispatcher(loop.table, loop.limits, begin, Signals(splits=loop.splits), {})
    run.run()
    return Tally(loop.table, run.trace.taken)


def _shape(table: Table) -> list[tuple[State, State]]:
    return [(row.source, row.to) for row in table]


# ---- for people


def told(tally: Tally, state: State) -> str:
    """The numbers of one state, in one line; the time only where it was measured.

    >>> told(Tally(Table(()), (), {State.STEP: 1.5, State.FETCH: 4.5}), State.STEP)
    '0×  1.5 s  25 %'
    """
    visits = repeat_count(tally.visits.get(state, 0))
    if state not in tally.seconds:
        return visits
    return f"{visits}  {duration(tally.seconds[state])}  {percent(tally.share(state))}"
