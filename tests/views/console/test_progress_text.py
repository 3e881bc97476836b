"""Where a run stands, in words for people, and how fast it goes."""

from __future__ import annotations

import pytest

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.views.console.progress_text import Rates, snapshot
from tests.views.console.shown_runs import FrozenRun


def test_people_count_from_1_the_epoch_and_the_batch_under_way() -> None:
    at = snapshot(FrozenRun(State.BACKWARD, Counters(current_epoch=2, batch_nb=16)))
    assert (at.epoch, at.batch, at.what, at.done, at.total) == ("epoch 3/20", "17/45", "backward", 16, 45)


@pytest.mark.parametrize(
    ("state", "what", "done", "total"),
    [
        (State.SANITY_VAL, "trying validation 3/5", 2, 5),
        (State.VAL_CHECK, "validating 3/12", 17, 45),
        (State.TEST, "testing 3/7", 2, 7),
        (State.EPOCH_END, "epoch_end", 17, 45),
        (State.DONE, "done", 17, 45),
    ],
)
def test_a_pass_over_other_batches_counts_its_own(state: State, what: str, done: int, total: int) -> None:
    at = snapshot(FrozenRun(state, Counters(batch_nb=16, eval_nb=2)))
    assert (at.what, at.done, at.total) == (what, done, total)


def test_streams_have_no_total() -> None:
    run = FrozenRun(State.VAL_CHECK, Counters(batch_nb=16, eval_nb=2), train=None, val=[None])
    assert (snapshot(run).batch, snapshot(run).what, snapshot(run).total) == ("17", "validating 3", 0)


def test_a_rate_is_that_of_the_last_batches_and_a_check_does_not_slow_the_training_down() -> None:
    rates = Rates()
    assert rates.of(State.FETCH) == 0
    rates.note({State.FETCH: Timing(10, 1.0), State.STEP: Timing(10, 1.0), State.VAL_CHECK: Timing(4, 100.0)})
    assert rates.of(State.BACKWARD) == 5
    assert rates.of(State.VAL_CHECK) == 0.04
    rates.begin_again()
    rates.note({State.FETCH: Timing(20, 1.5), State.STEP: Timing(20, 1.5), State.VAL_CHECK: Timing(4, 100.0)})
    assert rates.of(State.BACKWARD) == 10


def test_a_rate_forgets_what_is_long_past() -> None:
    rates = Rates()
    for i in range(100):
        rates.note({State.FETCH: Timing(i, i / 10)})
    for i in range(100):
        rates.note({State.FETCH: Timing(100 + i, 10 + i / 50)})
    assert rates.of(State.FETCH) == pytest.approx(50)
