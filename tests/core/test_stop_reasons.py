"""Why a run ended, from the state in which it did and what it has counted."""

from __future__ import annotations

import pytest

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import resolve
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason, stop_reason
from fsmtrain.options import Options

TWO = (Options(max_nb_epochs=2), Sizes(train=3, test=[1]))


@pytest.mark.parametrize("state", [state for state in State if not state.is_final or state is State.ROLLED_BACK])
def test_a_run_that_has_not_ended_has_no_reason(state: State) -> None:
    assert stop_reason(state, resolve(*TWO), Counters(epochs_done=2), Signals(), has_stop_guard=False) is None


@pytest.mark.parametrize(
    ("options", "sizes", "state", "epochs_done", "exhausted", "reason"),
    [
        (*TWO, State.STOPPED, 2, True, StopReason.REQUESTED),
        (*TWO, State.DONE, 2, True, StopReason.MAX_EPOCHS),
        (*TWO, State.DONE, 1, True, StopReason.EARLY_STOPPING),
        (*TWO, State.DONE, 1, False, StopReason.STOP_GUARD),
        (Options(max_nb_epochs=1), Sizes(train=3), State.DONE, 1, False, StopReason.MAX_EPOCHS),
        (Options(max_nb_epochs=0), Sizes(train=3), State.DONE, 0, False, StopReason.NO_EPOCHS),
        (Options(max_nb_epochs=0), Sizes(train=3, test=[1]), State.DONE, 0, False, StopReason.NO_EPOCHS),
        (Options(), Sizes(test=[1], fits=False), State.DONE, 0, False, StopReason.TESTED),
        (Options(), Sizes(fits=False), State.DONE, 0, False, StopReason.NO_EPOCHS),
    ],
)
def test_the_reason_of_an_end(
    options: Options, sizes: Sizes, state: State, epochs_done: int, exhausted: bool, reason: StopReason
) -> None:
    counters, signals = Counters(epochs_done=epochs_done), Signals(patience_exhausted=exhausted)
    assert stop_reason(state, resolve(options, sizes), counters, signals, has_stop_guard=True) is reason


def test_patience_that_recovers_while_a_stop_waits_is_the_reason() -> None:
    reason = stop_reason(State.DONE, resolve(*TWO), Counters(epochs_done=1), Signals(), has_stop_guard=False)
    assert reason is StopReason.EARLY_STOPPING
