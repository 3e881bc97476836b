"""Law 1 in the second engine: if not exactly one row holds, it raises instead of choosing.

The library would take the first of two possible transitions, and do nothing if there is none.
"""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsmtrain import State
from fsmtrain.adapters.transitions import as_transitions
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import GuardError
from tests.adapters.bare_runs import dispatcher_of
from tests.models import state_notes
from tests.strategies import Case, cases


@given(cases(skips_steps=True), st.data())
@settings(max_examples=120, deadline=None)
def test_a_broken_table_raises_at_the_first_visit_without_exactly_one_row(case: Case, data: st.DataObject) -> None:
    """A row is missing, or has lost its `unless`. To know where, all rows are evaluated one by one."""
    rows = list((case.folded_table if data.draw(st.booleans()) else case.full_table).rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    broken = Table(tuple(rows[:at] + data.draw(st.sampled_from([[], [evolve(rows[at], unless=())]])) + rows[at + 1 :]))
    assume({row.to for row in broken} <= {State.DONE, State.STOPPED} | {row.source for row in broken})

    asked: list[list[Row]] = []

    def look(state: State, counters: Counters, signals: Signals) -> None:
        asked.append([row for row in broken.leaving(state) if row.holds(case.limits, counters, signals)])

    run = as_transitions(case.dispatcher(broken, look)).model
    try:
        while not run.is_finished and len(asked) < 400:
            state = State(run.state)
            run.advance()
            assert len(asked[-1]) == 1
    except GuardError as error:
        assert len(asked[-1]) != 1
        assert [len(holding) for holding in asked[:-1]] == [1] * run.trace.total
        message = str(error)
        assert f"state {state}" in message
        guards = {guard for row in broken.leaving(state) for guard in (row.when, *row.unless) if guard is not None}
        answers = {f"{guard_name(g)}: {g(run.limits, run.counters, run.signals)}" for g in guards}
        assert all(answer in message for answer in answers)
        assert all(str(row.to) in message for row in asked[-1])
        assert run.state == state.value


def yes(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return true."""
    return True


def at_first(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether no batch has begun."""
    return counters.batches_begun == 0


def later(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether a batch has begun."""
    return counters.batches_begun > 0


def test_two_rows_that_hold_at_once_are_an_error_that_lists_the_guards() -> None:
    table = Table(
        (
            Row(State.START, when=yes, to=State.FETCH),
            Row(State.START, when=later, to=State.TEST),
            Row(State.START, when=at_first, unless=later, to=State.DONE),
        )
    )
    run = as_transitions(dispatcher_of(table)).model
    with pytest.raises(GuardError, match="2 transitions leave the state start at once, to fetch, done") as raised:
        run.advance()
    assert "yes: True, later: False, at_first: True" in str(raised.value)
    assert state_notes(raised.value) == ["in state start, epoch 0, batch 0, optimizer 0"]
    assert (run.state, len(run.trace), run.counters) == ("start", 0, evolve(Counters.begin(1), epoch_batches=5))


def test_no_row_that_holds_is_an_error_that_lists_the_guards() -> None:
    """For the list, a guard is evaluated that was not needed before."""
    table = Table((Row(State.START, unless=yes, to=State.DONE), Row(State.START, when=later, unless=yes, to=State.FETCH)))
    run = as_transitions(dispatcher_of(table)).model
    with pytest.raises(
        GuardError, match=r"no transition leaves the state start: none of its guards holds \(yes: True, later: False\)"
    ):
        run.advance()
    assert run.state == "start"


def test_a_guard_that_would_answer_differently_the_second_time_is_evaluated_once() -> None:
    answers = iter([True])

    def once(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return next(answers)

    table = Table((Row(State.START, unless=once, to=State.FETCH), Row(State.START, when=once, to=State.DONE)))
    machine = as_transitions(dispatcher_of(table, {State.START: lambda: again()}))
    machine.add_transition("enter_again", "start", "=")  # during the visit

    def again() -> None:
        machine.model.trigger("enter_again")

    machine.model.run()
    assert machine.model.state == "done"
