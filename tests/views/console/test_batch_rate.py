"""How fast a run goes."""

from __future__ import annotations

import pytest

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.views.console.batch_rate import BatchRates


def test_a_rate_is_that_of_the_last_batches_and_a_validation_does_not_slow_the_training_down() -> None:
    rates = BatchRates()
    assert rates.batches_per_second(State.FETCH) == 0
    rates.add_sample({State.FETCH: Timing(10, 1.0), State.STEP: Timing(10, 1.0), State.VAL_CHECK: Timing(4, 100.0)})
    assert rates.batches_per_second(State.BACKWARD) == 5
    assert rates.batches_per_second(State.VAL_CHECK) == 0.04
    rates.restart()
    rates.add_sample({State.FETCH: Timing(20, 1.5), State.STEP: Timing(20, 1.5), State.VAL_CHECK: Timing(4, 100.0)})
    assert rates.batches_per_second(State.BACKWARD) == 10


def test_a_rate_forgets_what_is_long_past() -> None:
    rates = BatchRates()
    for i in range(100):
        rates.add_sample({State.FETCH: Timing(i, i / 10)})
    for i in range(100):
        rates.add_sample({State.FETCH: Timing(100 + i, 10 + i / 50)})
    assert rates.batches_per_second(State.FETCH) == pytest.approx(50)
