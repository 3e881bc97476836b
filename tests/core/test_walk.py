"""What is left out of a plan's walk: how far, and that a jump is taken only where one is worth while."""

from __future__ import annotations

from typing import Any

import pytest

from fsmtrain.core.loop import Loop
from fsmtrain.core.planning.walk import Walk
from fsmtrain.core.sizes import Sizes
from fsmtrain.options import Options


def visits(epochs: int, **flags: Any) -> int:
    """The visits that are made to plan so many epochs of 12 batches, each of which is planned."""
    loop = Loop(Options(max_nb_epochs=epochs, **flags), Sizes(train=12, val=[1]))
    walk = Walk(loop.table, loop.limits, loop.splits)
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
