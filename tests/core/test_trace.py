"""The trace by itself, before, within and after its blocks. That it replays the positions of a run is in `test_dispatch`."""

from __future__ import annotations

from collections import Counter

import pytest

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.trace import BLOCK, Trace
from fsmtrain.errors import UsageError
from fsmtrain.loop import Loop
from fsmtrain.options import Options

LOOP = Loop(Options(max_nb_epochs=3, accumulate_grad_batches=3), Sizes(train=200, val=(2,)))


def begun() -> Dispatcher:
    """A run of several blocks."""
    return Dispatcher(LOOP.table, LOOP.limits, Counters.begin(1), Signals(), {})


def test_before_the_first_transition_the_trace_has_none() -> None:
    trace = begun().trace
    assert (len(trace), trace.total, list(trace), sum(trace.taken)) == (0, 0, [], 0)
    assert (trace.last_row, trace.source) == (None, None)
    with pytest.raises(UsageError, match="no transition yet"):
        trace.last()


def test_the_last_transition_of_a_trace_is_right_at_any_time() -> None:
    """Also right after a block has been begun, and is still empty."""
    run, taken = begun(), Counter[int]()
    while not run.is_finished:
        state, before = run.state, run.counters.copy()
        transition = run.advance()
        taken[transition.row] += 1
        if run.trace.total % BLOCK == 300:
            run.trace.turn(run.counters)
        assert run.trace.source is state
        assert run.trace.last_row == transition.row
        assert run.trace.taken == tuple(taken[row] for row in range(len(run.table)))
        if run.trace.total % 41 == 0 or not run.trace.rows:
            assert run.trace.last() == (state, before)
    assert run.trace.total > 3 * BLOCK


def test_looking_at_the_trace_changes_nothing() -> None:
    run = begun()
    for _ in range(BLOCK + 100):
        run.advance()
    first = run.trace.last(), list(run.trace)
    assert (run.trace.last(), list(run.trace)) == first


def test_the_trace_is_of_the_counters_as_they_were_when_it_began() -> None:
    counters = Counters.begin(1)
    trace = Trace(LOOP.table, LOOP.limits, counters)
    trace.rows.append(0)
    counters.batch_nb = 7
    assert next(iter(trace)).batch_nb == trace.last()[1].batch_nb == 0
    later = trace.turn(counters)
    later.append(0)
    counters.batch_nb = 9
    assert [transition.batch_nb for transition in trace] == [0, 7]
    assert trace.last() == (State.START, Counters(batch_nb=7))


def test_one_block_is_kept_behind_the_one_that_is_filled() -> None:
    trace = Trace(LOOP.table, LOOP.limits, Counters.begin(1))
    for rows in ([0, 1], [2, 2], [0]):
        trace.turn(Counters.begin(1)).extend(rows)
    assert [transition.row for transition in trace] == [2, 2, 0]
    assert (len(trace), trace.total, trace.taken[:4]) == (3, 5, (2, 1, 2, 0))


def test_rows_added_during_an_iteration_of_the_trace_come_in_the_next_iteration() -> None:
    """A hook may tell the trace while the run goes on."""
    trace = Trace(LOOP.table, LOOP.limits, Counters.begin(1))
    trace.rows.extend([0, 0])
    told = iter(trace)
    next(told)
    trace.rows.append(0)
    assert len(list(told)) == 1
    assert len(list(trace)) == 3
