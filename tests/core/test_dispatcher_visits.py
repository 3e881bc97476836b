"""What one visit takes and refuses, and what all of them took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from time import perf_counter, sleep

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher, choose, nodes_of
from fsmtrain.core.effects import bind
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.trace import BLOCK, Transition
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import GuardError, UsageError
from fsmtrain.loop import Loop
from fsmtrain.options import Options

LOOP = Loop(Options(max_nb_epochs=2, accumulate_grad_batches=3), Sizes(train=500, val=[2]))


def dispatcher(at_step: Callable[[Dispatcher], None] | None = None) -> Dispatcher:
    """A run of the loop; what is to happen at the visits to `step`."""

    def act() -> None:
        if at_step is not None:
            at_step(run)

    run = Dispatcher(LOOP.table, LOOP.limits, Counters.begin(1), Signals(), {State.STEP: act})
    return run


def advance_to_the_end(run: Dispatcher) -> None:
    while not run.is_finished:
        run.advance()


WAYS = [Dispatcher.run, advance_to_the_end]


@pytest.mark.parametrize("inner", [Dispatcher.run, Dispatcher.advance])
@pytest.mark.parametrize("outer", WAYS)
def test_no_visit_takes_place_within_another(
    outer: Callable[[Dispatcher], None], inner: Callable[[Dispatcher], object]
) -> None:
    """And a run that was asked for one goes on where it was, once nobody asks any more."""
    refused = 0

    def ask_once(run: Dispatcher) -> None:
        nonlocal refused
        assert len(run.trace.rows) <= BLOCK
        if not refused:
            refused += 1
            inner(run)
            pytest.fail("it went on within a visit")

    run = dispatcher(ask_once)
    with pytest.raises(UsageError, match="while the state step was being visited"):
        outer(run)
    assert (run.state, run.counters.batch_nb, refused) == (State.STEP, 2, 1)
    outer(run)
    assert (run.state, run.counters.epochs_done) == (State.DONE, 2)


@pytest.mark.parametrize("way", WAYS)
def test_each_visit_is_counted_with_the_time_that_it_took(way: Callable[[Dispatcher], None]) -> None:
    run = dispatcher()
    begun = perf_counter()
    way(run)
    elapsed = perf_counter() - begun
    assert {state: spent.count for state, spent in run.times.items()} == Counter(visit.state for visit in LOOP)
    assert run.times[State.BACKWARD].count == 2 * 500
    assert 0 < sum(spent.seconds for spent in run.times.values()) <= elapsed


def test_a_run_that_is_looked_at_comes_to_its_end_too() -> None:
    seen: list[Transition] = []
    run = Dispatcher(LOOP.table, LOOP.limits, Counters.begin(1), Signals(), {}, observer=seen.append)
    run.run()
    assert run.state is State.DONE
    assert len(seen) == run.trace.total


FLAGS: dict[Guard, str] = {
    ask.stop_is_requested: "stop_requested",
    ask.patience_is_exhausted: "patience_exhausted",
    ask.step_was_skipped: "step_skipped",
}
guards = st.sampled_from(list(FLAGS))


@given(
    st.lists(st.tuples(st.none() | guards, st.lists(guards, unique=True, max_size=2)), min_size=1, max_size=4),
    st.fixed_dictionaries(dict.fromkeys(FLAGS.values(), st.booleans())),
)
@example(  # that the first row does not hold says nothing of its `when`
    [(ask.stop_is_requested, [ask.patience_is_exhausted]), (None, [ask.stop_is_requested])], dict.fromkeys(FLAGS.values(), True)
)
def test_the_row_that_is_taken_is_the_first_that_holds(
    rows: list[tuple[Guard | None, list[Guard]]], now: dict[str, bool]
) -> None:
    """Also in a table whose rows do not exclude each other, or leave a moment without a row."""
    table = Table(tuple(Row(State.START, when=when, unless=tuple(unless), to=State.FETCH) for when, unless in rows))
    moment = LOOP.limits, Counters.begin(1), Signals(**now)
    held = [(when is None or when(*moment)) and not any(guard(*moment) for guard in unless) for when, unless in rows]
    assert [case.holds(*moment) for case in table] == held
    start = nodes_of(table, {}, partial(bind, signals=Signals()))[State.START]
    if any(held):
        assert choose(start, *moment).row == held.index(True)
    else:
        with pytest.raises(GuardError, match="none of its guards holds"):
            choose(start, *moment)


# ---- standing somewhere else


def test_set_state_moves_the_run_and_restarts_its_trace() -> None:
    run = dispatcher()
    for _ in range(7):
        run.advance()
    run.set_state(State.FETCH, work_done=False)
    assert (run.state, run.trace.total) == (State.FETCH, 0)
    assert run.advance().source is State.FETCH


def test_a_run_that_goes_back_keeps_its_trace() -> None:
    run = dispatcher()
    for _ in range(7):
        run.advance()
    seen = list(run.trace)
    run.counters.batches_begun = 0
    run.set_state(State.FETCH, work_done=False, keep_trace=True)
    taken = run.advance()
    assert list(run.trace) == [*seen, taken]
    assert run.trace.last()[1].batches_begun == 0  # replayed from where it stood then


def test_work_that_is_done_is_not_done_again_at_the_first_visit_alone() -> None:
    visits: list[int] = []
    run = dispatcher(lambda run: visits.append(run.counters.batch_nb))
    run.counters.gathered = run.counters.open_windows = run.counters.window_length = 1
    run.set_state(State.STEP, work_done=True)
    assert run.work is None
    run.advance()
    assert visits == []
    run.set_state(State.STEP, work_done=False)
    run.advance()
    assert visits == [0]


def test_set_state_refuses_states_outside_the_table_and_calls_during_a_visit() -> None:
    run = dispatcher()
    with pytest.raises(UsageError, match="cannot go to the state test: its table has only start, "):
        run.set_state(State.TEST, work_done=False)
    inside = dispatcher(lambda run: run.set_state(State.FETCH, work_done=False))
    with pytest.raises(UsageError, match="while the state step was being visited"):
        inside.run()


@pytest.mark.parametrize("go_on", WAYS)
def test_a_visit_that_fails_takes_its_time_and_is_no_visit(go_on: Callable[[Dispatcher], None]) -> None:
    def fail(run: Dispatcher) -> None:
        sleep(0.01)
        raise ZeroDivisionError

    run = dispatcher(fail)
    with pytest.raises(ZeroDivisionError):
        go_on(run)
    assert run.times[State.STEP].count == 0
    assert 0.01 <= run.times[State.STEP].seconds < 60
