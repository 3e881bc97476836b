"""What proofs write down beside a run: `Seen`, and the functions that keep it. Nothing in a run ever looks at it.

The counters of a run are made for speed: they restart and are taken over. The witness counts the same things in the
plainest way, visit by visit, so that a claim can compare the two.

One optimizer is watched, any of them: `me` is its index and never changes. What holds for it holds for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State


@define
class GhostState:
    """The witness of one run."""

    watched_i: int = 0  # the optimizer that is watched
    never_accumulates: bool = False  # whether every epoch's K is 1 and no optimizer has a guard of its own

    same_window: int = 0  # K, where it is the same in every epoch; else 0

    # To come: what the data will yield, fixed before anybody can know it.
    batches_left: int = 1  # of the epoch
    sanity_left: int = 1
    validation_left: int = 1  # of this check, or of the next one
    test_left: int = 1
    epoch_window: int = 1  # K of the epoch
    saves_left: int = 1  # of this batch

    # Past: counted by visits.
    epochs_begun: int = 0
    epochs_finished: int = 0
    fetched: int = 0
    fetched_in_epoch: int = 0
    rounds: int = 0
    rounds_with_step: int = 0
    stepped: bool = False  # whether the round under way had a step
    steps: int = 0  # by the optimizer that is watched
    last_step: int = -1  # the round of it
    skipped: int = 0
    validations: int = 0
    pending: int = 0  # backwards of the optimizer that is watched, since its last visit to `step`
    open_windows: int = 0  # optimizers with a backward since their last visit to `step`

    # fetched_in_epoch == batches_in_intervals + batches_in_interval, where the first is a multiple of val_check_batches and the
    # second lies between 1 and val_check_batches; the same of the epochs.
    batches_in_intervals: int = 0
    batches_in_interval: int = 0
    epochs_in_intervals: int = 0
    epochs_in_interval: int = 0


@define
class Inputs:
    """What nobody can foresee: each visit sees new values, anything within `environment.chances_are_legal`."""

    stop: bool = False  # somebody asks the run to stop
    patience_exhausted: bool = False
    step_skipped: bool = False
    nonfinite: bool = False  # a number of the window that is to be stepped
    splits: int = 1  # of the batch that is fetched
    batches: int = 1  # of the next epoch, a stream's too: data is finite
    sanity_batches: int = 1
    val_check_batches: int = 1  # of the next check
    test_batches: int = 1
    window: int = 1  # K of the next epoch
    gathered: int = 0  # by an optimizer that is not watched, when its turn comes


# ---- on a visit, after the state's work and before its guards


def record_fetch(limits: Limits, ghost: GhostState) -> None:
    """A batch, perhaps the first of its epoch."""
    if ghost.fetched_in_epoch == 0:
        ghost.epochs_begun += 1
        if ghost.epochs_in_interval == limits.val_check_epochs:
            ghost.epochs_in_intervals += limits.val_check_epochs
            ghost.epochs_in_interval = 0
        ghost.epochs_in_interval += 1
        ghost.batches_in_intervals = 0
        ghost.batches_in_interval = 0
    ghost.fetched += 1
    ghost.fetched_in_epoch += 1
    if ghost.batches_in_interval == limits.val_check_batches:
        ghost.batches_in_intervals += limits.val_check_batches
        ghost.batches_in_interval = 0
    ghost.batches_in_interval += 1
    ghost.saves_left = 1


def record_forward(counters: Counters, ghost: GhostState) -> None:
    """A round begins with the first optimizer's forward."""
    if counters.optimizer_i == 0:
        ghost.rounds += 1


def record_backward(counters: Counters, ghost: GhostState) -> None:
    """A backward of the optimizer that is watched."""
    if counters.optimizer_i == ghost.watched_i:
        ghost.pending += 1


def record_round_end(limits: Limits, counters: Counters, ghost: GhostState) -> None:
    """The end of an optimizer's turn; with the last one's the round ends."""
    if counters.optimizer_i + 1 == limits.optimizers:
        if ghost.stepped:
            ghost.rounds_with_step += 1
        ghost.stepped = False


def record_save(ghost: GhostState) -> None:
    """A checkpoint of this batch."""
    ghost.saves_left -= 1


BEFORE_GUARDS: Mapping[State, Callable[..., None]] = {
    State.FETCH: record_fetch,
    State.TRAIN_BATCH: record_forward,
    State.BACKWARD: record_backward,
    State.ROUND_END: record_round_end,
    State.SAVE: record_save,
}


# ---- on leaving, after the guards and before the effects


def open_window(counters: Counters, ghost: GhostState) -> None:
    """The backward that follows opens a window where there was none."""
    if counters.gathered == 0:
        ghost.open_windows += 1


def close_window(counters: Counters, signals: Signals, ghost: GhostState) -> None:
    """A window is closed, unless the run ends here to go back to a checkpoint: then all stays as it is."""
    if not signals.nonfinite:
        ghost.open_windows -= 1
        ghost.stepped = True
        if signals.step_skipped:
            ghost.skipped += 1
        if counters.optimizer_i == ghost.watched_i:
            ghost.pending = 0
            if not signals.step_skipped:
                ghost.steps += 1
                ghost.last_step = ghost.rounds


def end_validation(ghost: GhostState, inputs: Inputs) -> None:
    """With its last batch the check is done, and the next one's length is open."""
    if ghost.validation_left == 0:
        ghost.validation_left = inputs.val_check_batches
        ghost.validations += 1


def end_epoch(ghost: GhostState, inputs: Inputs) -> None:
    """The next epoch's length and window are open."""
    if ghost.batches_left == 0:
        ghost.epochs_finished += 1
    ghost.fetched_in_epoch = 0
    ghost.batches_left = inputs.batches
    ghost.epoch_window = inputs.window


AFTER_GUARDS: Mapping[State, Callable[..., None]] = {
    State.TRAIN_BATCH: open_window,
    State.STEP: close_window,
    State.VAL_CHECK: end_validation,
    State.EPOCH_END: end_epoch,
}
