"""Law 7 without a model: both engines make the same transitions, whatever the flags and signals."""

from __future__ import annotations

import itertools

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmtrain import State
from fsmtrain.adapters.transitions import as_transitions
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.limits import Limits
from fsmtrain.core.trace import Transition
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Table
from tests.adapters.bare_runs import dispatcher_of
from tests.strategies import Case, cases


@given(cases(skips_steps=True), st.booleans())
@settings(max_examples=150, deadline=None)
def test_both_engines_make_the_same_transitions(case: Case, fold: bool) -> None:
    """For all flags, guards, stream ends, metrics, skipped steps and stop requests."""
    table = case.folded_table if fold else case.full_table
    ours, other = case.dispatcher(table), case.dispatcher(table)
    ours.run()
    theirs = as_transitions(other).model
    for _ in range(ours.trace.total):
        theirs.advance()
    assert theirs.is_finished
    assert list(theirs.trace) == list(ours.trace)
    assert (theirs.counters, theirs.signals) == (ours.counters, ours.signals)
    assert State(theirs.state) is ours.state
    assert {s: timing.count for s, timing in other.times.items()} == {s: timing.count for s, timing in ours.times.items()}


@given(cases(), st.lists(st.booleans(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_either_engine_continues_from_the_state_of_the_other(case: Case, turns: list[bool]) -> None:
    straight, mixed = case.dispatcher(case.folded_table), case.dispatcher(case.folded_table)
    expected, seen = observed(straight), observed(mixed)
    straight.run()
    run = as_transitions(mixed).model
    for theirs in itertools.cycle(turns):
        if mixed.is_finished:
            break
        before = mixed.state
        assert run.state == before.value
        if theirs:
            assert run.advance()
        else:
            mixed.advance()
        assert seen[-1].source is before
    assert seen == expected
    assert run.is_finished


def observed(dispatcher: Dispatcher) -> list[Transition]:
    """Return a list to which the run's observer will append each transition."""
    seen: list[Transition] = []
    dispatcher.observer = seen.append
    return seen


class GuardRecorder:
    """Records which guards of a table are evaluated at which visit."""

    def __init__(self) -> None:
        self.visits = 0
        self.asked: list[tuple[int, int]] = []
        self._watched: dict[int, Guard] = {}

    def table(self, table: Table) -> Table:
        """Return the same table with recorded guards."""
        return Table(
            tuple(
                evolve(r, when=None if r.when is None else self.guard(r.when), unless=tuple(map(self.guard, r.unless)))
                for r in table
            )
        )

    def guard(self, guard: Guard) -> Guard:
        """Return the recorded guard; the same one for the same guard."""
        number = len(self._watched)

        def watched(limits: Limits, counters: Counters, signals: Signals) -> bool:
            self.asked.append((self.visits, number))
            return guard(limits, counters, signals)

        return self._watched.setdefault(id(guard), watched)

    def look(self, *_: object) -> None:
        """Count a visit."""
        self.visits += 1


@given(cases(skips_steps=True), st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_engines_evaluate_the_same_guards_at_most_once_a_visit(case: Case, fold: bool) -> None:
    table = case.folded_table if fold else case.full_table
    ours, theirs = GuardRecorder(), GuardRecorder()
    case.dispatcher(ours.table(table), ours.look).run()
    as_transitions(case.dispatcher(theirs.table(table), theirs.look)).model.run()
    assert theirs.asked == ours.asked
    assert len(set(theirs.asked)) == len(theirs.asked) > 0


def test_the_trace_keeps_as_many_transitions_as_that_of_the_dispatcher() -> None:
    ours, theirs = dispatcher_of(max_nb_epochs=50), dispatcher_of(max_nb_epochs=50)
    ours.run()
    as_transitions(theirs).model.run()
    assert len(theirs.trace) == len(ours.trace) < ours.trace.total == theirs.trace.total
    assert list(theirs.trace) == list(ours.trace)
