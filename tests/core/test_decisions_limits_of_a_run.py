"""``max_steps``, ``min_steps``, ``max_time`` and ``max_nb_epochs=None``: where a run ends, in the bare loop."""

from __future__ import annotations

from typing import Any

import pytest

from fsmtrain import EarlyStopping, Guards, Loop, Options, Sizes, State, after_batches, every_n_batches
from fsmtrain.core.limits import NO_LIMIT
from fsmtrain.errors import OptionsError, SizesError


def end_of(loop: Loop) -> tuple[int, int, int]:
    """The epoch, batch and ``global_step`` at the last visit to `epoch_end`."""
    [*_, last] = [(v.current_epoch, v.batch_nb, v.global_step) for v in loop if v.state is State.EPOCH_END]
    return last


@pytest.mark.parametrize("steps", range(1, 15))
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("train", [1, 4, 5])
def test_with_one_optimizer_and_no_splits_a_run_ends_at_exactly_max_steps(steps: int, k: int, train: int) -> None:
    loop = Loop(Options(max_steps=steps, accumulate_grad_batches=k, min_nb_epochs=3), Sizes(train=train))
    assert end_of(loop)[2] == steps
    plan = loop.plan()
    assert (plan.global_step, plan.optimizer_steps) == (steps, (steps,))


def test_a_stream_that_never_ends_is_trained_for_max_steps() -> None:
    assert end_of(Loop(Options(max_steps=7), Sizes(train=None))) == (0, 6, 7)


def test_without_max_nb_epochs_nothing_but_max_steps_limits_the_epochs() -> None:
    assert Options(max_steps=5).max_nb_epochs is None
    assert Options(max_steps=5, max_nb_epochs=2).max_nb_epochs == 2
    assert Options().max_nb_epochs == 1000
    assert end_of(Loop(Options(max_steps=5_000), Sizes(train=1)))[0] == 4_999
    assert end_of(Loop(Options(max_steps=5_000, max_nb_epochs=2), Sizes(train=3))) == (1, 2, 6)


def test_the_first_limit_that_is_reached_ends_the_run_whatever_min_nb_epochs() -> None:
    assert end_of(Loop(Options(max_steps=4, min_nb_epochs=3, max_nb_epochs=9), Sizes(train=3))) == (1, 0, 4)


def test_patience_and_a_stop_guard_wait_for_min_steps() -> None:
    options = Options(min_steps=7, min_nb_epochs=0, max_nb_epochs=9)
    assert end_of(Loop(options, Sizes(train=4), guards=Guards(stop=after_batches(2)))) == (1, 2, 7)


def test_windows_and_splits_may_go_beyond_max_steps_and_the_plan_says_so() -> None:
    guards = Guards(step={0: every_n_batches(1), 1: every_n_batches(3)})
    loop = Loop(Options(max_steps=4, max_nb_epochs=9), Sizes(train=9, optimizers=2), guards=guards)
    assert end_of(loop) == (0, 5, 6)
    assert "max_steps" in str(loop.plan())
    assert "4 is passed by 2" in str(loop.plan())
    assert "is passed" not in str(Loop(Options(max_steps=4), Sizes(train=9)).plan())


def test_none_without_another_limit_is_an_error_that_names_the_limits() -> None:
    with pytest.raises(OptionsError, match=r"max_nb_epochs=None: nothing would end the run.*max_steps"):
        Loop(Options(max_nb_epochs=None), Sizes(train=3))
    for more in ({"max_steps": 5}, {"max_time": "1:00:00"}, {"early_stop_callback": True}):
        assert Loop(Options(max_nb_epochs=None, **more), Sizes(train=3, val=[1])).limits.epochs == NO_LIMIT
    guards = Guards(stop=after_batches(5))
    assert end_of(Loop(Options(max_nb_epochs=None), Sizes(train=3), guards=guards)) == (1, 1, 5)


def test_a_run_that_only_time_or_patience_ends_cannot_be_planned() -> None:
    for more in ({"max_time": "1:00:00"}, {"early_stop_callback": EarlyStopping()}):
        with pytest.raises(SizesError, match="cannot plan: max_nb_epochs=None"):
            Loop(Options(max_nb_epochs=None, **more), Sizes(train=3, val=[1])).plan()
    plan = Loop(Options(max_nb_epochs=3, max_time="8:00:00"), Sizes(train=3)).plan()
    assert "8:00:00 may end the training before" in str(plan)


def test_the_time_ends_a_run_at_the_end_of_its_batch_where_no_window_is_open() -> None:
    loop = Loop(Options(max_time="0:00:01", max_nb_epochs=5, min_nb_epochs=4, accumulate_grad_batches=3), Sizes(train=9))
    ended = []
    for visit in loop:
        visit.signals.time_is_up = visit.state is State.ROUND_END and visit.batch_nb == 3
        ended += [visit.batch_nb] if visit.state is State.EPOCH_END else []
    assert ended == [5]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_steps": 0}, "max_steps=0: a number of steps"),
        ({"max_steps": 3, "min_steps": 4}, "min_steps=4, max_steps=3: the minimum is greater"),
        ({"max_time": "8 hours"}, "max_time='8 hours': must be a time > 0"),
        ({"max_time": "0:00:00"}, "must be a time > 0"),
        ({"max_time": 90}, "max_time=90: must be a time > 0"),
        ({"limit_train_batches": 0}, "limit_train_batches=0: at most this many batches"),
        ({"limit_val_batches": 0.25}, "For a fraction of them pass val_percent_check=0.1"),
        ({"limit_val_batches": 3, "val_percent_check": 0.5}, "limit_val_batches=3, val_percent_check=0.5: both say"),
        ({"limit_test_batches": 3, "overfit_pct": 0.5}, "limit_test_batches=3, overfit_pct=0.5: both say"),
    ],
)
def test_what_is_no_limit_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Options(**flags)


@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_at_most_so_many_batches_of_each_loader_are_used(most: int) -> None:
    options = Options(limit_train_batches=most, limit_val_batches=most, limit_test_batches=most, nb_sanity_val_steps=9)
    limits = Loop(options, Sizes(train=7, val=[3, 6], test=[8])).limits
    assert limits.train_batches == min(7, most)
    assert limits.val_batches == limits.sanity_batches == min(3, most) + min(6, most)
    assert limits.test_batches == min(8, most)
    assert limits.val_check_batches == max(1, min(7, most) * 95 // 100)


def test_no_val_and_test_batches_at_all() -> None:
    limits = Loop(Options(limit_val_batches=0, limit_test_batches=0), Sizes(train=7, val=[3], test=[8])).limits
    assert (limits.validates, limits.has_sanity, limits.tests) == (False, False, False)


def test_fast_dev_run_takes_the_place_of_the_other_limits() -> None:
    options = Options(fast_dev_run=True, max_nb_epochs=50, val_percent_check=0.5, early_stop_callback=True, max_steps=999)
    plan = Loop(options, Sizes(train=70, val=[30], test=[8])).plan()
    assert (plan.nb_epochs, plan.global_step, plan.validations, plan.validation_batches, plan.test_batches) == (1, 1, 1, 1, 1)
    assert (options.runs_dir, options.logger, plan.sanity_batches) == (None, None, 0)
    assert Loop(Options(fast_dev_run=3), Sizes(train=70, val=[30])).plan().global_step == 3


def test_the_check_tries_the_end_of_a_run_at_each_batch() -> None:
    assert not Loop(Options(max_steps=10**9, accumulate_grad_batches=2), Sizes(train=5)).check().findings
    apart = Guards(step={0: every_n_batches(2), 1: every_n_batches(2, first=0)})
    [finding] = Loop(Options(max_steps=50), Sizes(train=9, optimizers=2), guards=apart).check().findings
    assert "never close together" in finding.text
