"""What is known of a run's windows before it begins. What follows for losses and gradients is in `test_loop`."""

from __future__ import annotations

from typing import Any

import pytest

from fsmtrain.core.accumulation_scaling import gradient_scale, windows_are_foreseen, windows_are_single
from fsmtrain.core.counters import Counters
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.interval_guards import every_n_batches
from fsmtrain.core.limits import resolve
from fsmtrain.core.sizes import Sizes
from fsmtrain.options import Options

OWN = Guards(step={0: every_n_batches(1)})


@pytest.mark.parametrize(
    ("k", "flags", "train", "guards", "single", "foreseen"),
    [
        (1, {}, 9, Guards(), True, True),
        (2, {}, 9, Guards(), False, True),
        ({0: 1, 5: 2}, {}, 9, Guards(), False, True),
        # Where an epoch may end at any batch, or a batch has any number of splits, only single windows are foreseen.
        (1, {}, None, Guards(), True, True),
        (2, {}, None, Guards(), False, False),
        (1, {"truncated_bptt_steps": 5}, 9, Guards(), True, True),
        (2, {"truncated_bptt_steps": 5}, 9, Guards(), False, False),
        # Nobody knows what a guard of the user's will say.
        (1, {}, 9, OWN, False, False),
        (2, {}, 9, OWN, False, False),
    ],
)
def test_window_lengths_are_known_if_nothing_can_end_them_early(
    k: Any, flags: dict[str, Any], train: int | None, guards: Guards, single: bool, foreseen: bool
) -> None:
    limits = resolve(Options(accumulate_grad_batches=k, **flags), Sizes(train=train))
    assert (windows_are_single(limits, guards), windows_are_foreseen(limits, guards)) == (single, foreseen)


def test_a_window_of_which_backwards_were_left_out_is_the_mean_of_the_others() -> None:
    limits = resolve(Options(accumulate_grad_batches=4, max_nb_epochs=1), Sizes(train=8))
    counters = Counters.begin(1)
    counters.epoch_batches, counters.window_length, counters.gathered = 8, 4, 4
    assert gradient_scale(limits, Guards(), counters, excluded=1) == 4 / 3
