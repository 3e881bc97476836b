"""How far a run is, in words."""

from __future__ import annotations

from typing import Literal

import pytest

from fsmtrain.core.counters import Counters
from fsmtrain.core.states import State
from fsmtrain.views.console.run_position import snapshot
from tests.views.console.shown_runs import FrozenRun


def test_people_count_from_1_the_epoch_and_the_current_batch() -> None:
    at = snapshot(FrozenRun(State.BACKWARD, Counters(current_epoch=2, batch_nb=16)))
    assert (at.epoch, at.label, at.activity, at.done, at.total) == ("epoch 3/20", "batch 17/45", "backward", 16, 45)
    assert (at.run_done, at.run_total) == (2 * 45 + 16, 20 * 45)


@pytest.mark.parametrize(
    ("state", "label", "activity", "done", "total"),
    [
        (State.SANITY_VAL, "trying validation 3/5", "trying validation 3/5", 2, 5),
        (State.VAL_CHECK, "batch 17/45", "validating 3/12", 17, 45),
        (State.TEST, "testing 3/7", "testing 3/7", 2, 7),
        (State.EPOCH_END, "batch 17/45", "epoch_end", 17, 45),
        (State.DONE, "batch 17/45", "done", 17, 45),
    ],
)
def test_a_pass_over_other_batches_counts_its_own(state: State, label: str, activity: str, done: int, total: int) -> None:
    at = snapshot(FrozenRun(state, Counters(batch_nb=16, eval_nb=2)))
    assert (at.label, at.activity, at.done, at.total) == (label, activity, done, total)


def test_streams_have_no_total() -> None:
    at = snapshot(FrozenRun(State.VAL_CHECK, Counters(batch_nb=16, eval_nb=2), train=None, val=[None]))
    assert (at.label, at.activity, at.total, at.run_total) == ("batch 17", "validating 3", 0, 0)


@pytest.mark.parametrize(("evaluates", "activity"), [("val", "validating 3/7"), ("predict", "predicting 3/7")])
def test_a_run_that_only_validates_or_predicts_says_so(evaluates: Literal["val", "predict"], activity: str) -> None:
    run = FrozenRun(State.TEST, Counters(eval_nb=2), fits=False)
    run.evaluates = evaluates
    assert snapshot(run).label == activity
