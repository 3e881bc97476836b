"""``on_nonfinite`` in the table: where a window whose numbers are not finite breaks the run off. The runtime finds them."""

from __future__ import annotations

from typing import Literal

import pytest

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.decisions import decisions
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.iteration import reset_signals
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Table, full_table
from fsmtrain.loop import Loop
from fsmtrain.options import Options


def run_of(on_nonfinite: Literal["skip", "rollback"], *, spoiled: int | None, is_folded: bool) -> Dispatcher:
    """A run of 6 batches to its end, one step of which is not finite."""
    loop = Loop(Options(max_nb_epochs=1, on_nonfinite=on_nonfinite), Sizes(train=6))
    table: Table = loop.table if is_folded else full_table(decisions(loop.guards))

    def step() -> None:
        reset_signals(run.signals, State.STEP)
        if run.counters.batch_nb == spoiled:
            run.signals.nonfinite = run.signals.step_skipped = True

    run = Dispatcher(table, loop.limits, Counters.begin(1), Signals(), {State.STEP: step})
    run.run()
    return run


@pytest.mark.parametrize("is_folded", [True, False])
def test_the_run_is_broken_off_at_the_step_before_anything_of_it_is_counted(is_folded: bool) -> None:
    run = run_of("rollback", spoiled=3, is_folded=is_folded)
    assert run.state is State.ROLLED_BACK
    assert (run.counters.batch_nb, run.counters.optimizer_steps, run.counters.steps_skipped) == (3, [3], 0)


@pytest.mark.parametrize("is_folded", [True, False])
def test_a_run_whose_numbers_are_finite_goes_to_its_end(is_folded: bool) -> None:
    run = run_of("rollback", spoiled=None, is_folded=is_folded)
    assert (run.state, run.counters.optimizer_steps) == (State.DONE, [6])


def test_only_where_the_run_may_go_back_is_it_broken_off() -> None:
    """In the whole table too, where the row is there."""
    run = run_of("skip", spoiled=3, is_folded=False)
    assert (run.state, run.counters.optimizer_steps, run.counters.steps_skipped) == (State.DONE, [5], 1)
