"""`StopReason`: why a run ended, as an enum of sentences, each with its way out."""

from __future__ import annotations

from enum import Enum

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State


class StopReason(Enum):
    """Why a run ended. The value is a sentence for the user."""

    MAX_EPOCHS = "all epochs are done; raise max_nb_epochs to train longer"
    MAX_STEPS = "max_steps is reached; raise it to train longer"
    MAX_TIME = "max_time is over; raise it to train longer"
    EARLY_STOPPING = "the monitored metric stopped improving; raise the patience, or min_nb_epochs, to train on regardless"
    STOP_GUARD = "the guard given as Guards(stop=...) ended the training"
    REQUESTED = "a stop was requested"
    NO_EPOCHS = "there was no epoch to train (max_nb_epochs=0)"
    TESTED = "all its batches are done"

    def __str__(self) -> str:
        return self.value


def stop_reason(
    state: State, limits: Limits, counters: Counters, signals: Signals, *, has_stop_guard: bool
) -> StopReason | None:
    """Return why the run has ended; None if it has not, or if a loss or gradient that was not finite ended it.

    Patience that was exhausted may have recovered while the stop waited for open windows.
    """
    if not state.is_final or state is State.ROLLED_BACK:
        return None
    if state is State.STOPPED:
        return StopReason.REQUESTED
    if limits.epochs == 0:
        return StopReason.TESTED if limits.tests and not limits.fits else StopReason.NO_EPOCHS
    if counters.epochs_done >= limits.epochs:
        return StopReason.MAX_EPOCHS
    if counters.global_step >= limits.max_steps > 0:
        return StopReason.MAX_STEPS
    if signals.time_is_up:
        return StopReason.MAX_TIME
    return StopReason.EARLY_STOPPING if signals.patience_exhausted or not has_stop_guard else StopReason.STOP_GUARD
