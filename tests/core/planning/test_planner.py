"""What is left out of a plan's walk: how far, and that a jump is taken only where one is worth while."""

from __future__ import annotations

from typing import Any

import pytest

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.epoch_builder import Epoch
from fsmtrain.core.planning.planner import Walk
from fsmtrain.core.sizes import Sizes
from fsmtrain.loop import Loop
from fsmtrain.options import Options


def visits(epochs: int, **flags: Any) -> int:
    """The visits that are made to plan so many epochs of 12 batches, each of which is planned."""
    loop = Loop(Options(max_nb_epochs=epochs, **flags), Sizes(train=12, val=[1]))
    walk = Walk(loop.table, loop.limits, loop.spec.splits)
    assert sum(count for count, _ in walk.epochs()) == epochs
    return walk.visits


@pytest.mark.parametrize("every", [1, 2, 3])
def test_equal_epochs_are_left_out_also_behind_many_that_are_not(every: int) -> None:
    """No matter how many of them there are: behind 11 windows of different lengths, checked in every n-th epoch."""
    windows = {epoch: epoch + 1 for epoch in range(11)}
    flags = {"accumulate_grad_batches": windows, "check_val_every_n_epoch": every}
    assert visits(3000, **flags) < visits(60, **flags) + 500


def test_epochs_that_repeat_themselves_twice_over_are_left_out_each_time() -> None:
    """After a jump the walk begins to listen anew."""
    windows = {0: 1, 1000: 2, 2000: 3}
    assert visits(3000, accumulate_grad_batches=windows) < 5000


def walked(loop: Loop, exhausted_after: int | None = None, *, jumps: bool) -> tuple[list[Epoch], tuple[object, ...]]:
    """The epochs one by one, and where they end."""
    walk = Walk(loop.table, loop.limits, loop.spec.splits, exhausted_after, jumps=jumps)
    return [epoch for count, epoch in walk.epochs() for _ in range(count)], walk.counters.values()


def test_a_guard_that_comes_earlier_in_later_epochs_is_met_where_it_fires() -> None:
    """One number grows with the batches and another with the epochs: where a jump ends moves from epoch to epoch."""

    def comes_earlier(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 10 * counters.batch_nb + counters.current_epoch > 995

    loop = Loop(Options(max_nb_epochs=40), Sizes(train=128), guards=Guards(save=comes_earlier))
    epochs, end = walked(loop, jumps=True)
    assert [epoch.saves[0] for epoch in epochs] == [(995 - epoch) // 10 + 1 for epoch in range(40)]
    assert (epochs, end) == walked(loop, jumps=False)


@pytest.mark.parametrize("after", range(3, 9))
def test_patience_that_is_lost_in_an_epoch_that_is_only_tried_is_not_lost_before(after: int) -> None:
    options = Options(max_nb_epochs=10, min_nb_epochs=0, val_check_interval=0.5, early_stop_callback=True)
    loop = Loop(options, Sizes(train=4, val=[1]))
    epochs, end = walked(loop, after, jumps=True)
    assert sum(len(epoch.validations) for epoch in epochs) == after
    assert (epochs, end) == walked(loop, after, jumps=False)
