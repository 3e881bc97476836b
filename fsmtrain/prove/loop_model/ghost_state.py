"""Ghost state: history and prophecy variables that proofs keep beside a run, and the functions that update them.

The run never reads them. Its own counters are made for speed: they restart and are handed from one optimizer to the next. Ghost
state counts the same things in the plainest way, one visit at a time, so that a claim can compare the two.

Proofs cover any number of optimizers by watching one of them, at an arbitrary index: what is proved of it holds for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State


@define
class GhostState:
    """The ghost state of one run."""

    # Parameters, which never change.
    watched_i: int = 0  # index of the optimizer that is watched
    never_accumulates: bool = False  # whether K is 1 in every epoch and no optimizer has a step guard of its own
    same_window: int = 0  # K if it is the same in every epoch, else 0

    # Prophecy: what the data will yield, chosen before the run can know it. Visits count it down.
    batches_left: int = 1  # of this epoch
    sanity_left: int = 1  # batches of the sanity pass
    validation_left: int = 1  # batches of this validation, or of the next one
    test_left: int = 1  # batches of the test
    epoch_window: int = 1  # K of this epoch
    interval: int = 1  # from one validation to the next, in this epoch
    saves_left: int = 1  # of this batch

    # History: counted from 0, one visit at a time.
    epochs_begun: int = 0
    epochs_finished: int = 0
    fetched: int = 0
    fetched_in_epoch: int = 0
    rounds: int = 0
    counted_steps: int = 0  # rounds with a visit to `step`; with manual optimization, the steps of `training_step`
    stepped: bool = False  # whether an optimizer has visited `step` in this round
    steps: int = 0  # of the watched optimizer
    last_step: int = -1  # the round of its last step
    skipped: int = 0
    validations: int = 0
    pending: int = 0  # backwards of the watched optimizer since its last visit to `step`
    open_windows: int = 0  # optimizers with a backward since their last visit to `step`
    stop_was_due: bool = False  # whether patience was exhausted at the end of a batch, with the minima reached
    batches_waited: int = 0  # batches fetched while a stop waits for open windows
    left_out: int = 0  # forwards of the watched optimizer without a loss, since its window opened
    opened_nb: int = 0  # the batch with which its window opened

    # Of a run that was resumed with other limits; the defaults are those of a run from its beginning.
    is_resumed: bool = False
    is_resumed_in_validation: bool = False  # until it ends
    is_resumed_in_test: bool = False
    is_resumed_in_fetch: bool = False  # until the batch that is fetched there
    epochs_before: int = 0  # epochs done when it was resumed
    gathered_before: int = 0  # backwards in the window of the watched optimizer when it was resumed; 0 once that has closed

    # fetched_in_epoch == batches_in_intervals + batches_in_interval: the first is a multiple of the interval, the second lies
    # in 1..interval. Epochs likewise.
    batches_in_intervals: int = 0
    batches_in_interval: int = 0
    interval_under_way: int = 1  # length of the current interval: `interval`, or longer if a resumed run had passed that
    epochs_in_intervals: int = 0
    epochs_in_interval: int = 0


@define
class Inputs:
    """What the environment chooses at each visit: any values that `assumptions.inputs_are_legal` allows."""

    stop: bool = False  # whether a stop is requested now
    patience_exhausted: bool = False
    loss_is_none: bool = False
    time_is_up: bool = False
    step_skipped: bool = False
    nonfinite: bool = False  # whether the window to be stepped has a number that is not finite
    steps_made: int = 1  # by an `optimizer_step` of the model's own, or by `training_step`
    splits: int = 1  # of the batch that is fetched
    batches: int = 1  # of the next epoch; finite for a stream too
    interval: int = 1  # of the epoch that begins: batches from one validation to the next
    sanity_batches: int = 1
    val_check_batches: int = 1  # val batches of the next validation
    test_batches: int = 1
    window: int = 1  # K of the next epoch
    gathered: int = 0  # by an optimizer that is not watched, when its turn comes


# ---- updates after the state's work, before its guards are evaluated


def record_fetch(limits: Limits, counters: Counters, ghost: GhostState) -> None:
    """Count a batch, and an epoch with its first batch; count one for which a stop waits."""
    if counters.batches_waited >= 1:
        ghost.batches_waited += 1
    if ghost.fetched_in_epoch == 0:
        ghost.epochs_begun += 1
        if ghost.epochs_in_interval == limits.val_check_epochs:
            ghost.epochs_in_intervals += limits.val_check_epochs
            ghost.epochs_in_interval = 0
        ghost.epochs_in_interval += 1
        ghost.batches_in_intervals = 0
        ghost.batches_in_interval = 0
        ghost.interval_under_way = ghost.interval
    ghost.fetched += 1
    ghost.fetched_in_epoch += 1
    if ghost.batches_in_interval == ghost.interval_under_way:
        ghost.batches_in_intervals += ghost.interval_under_way
        ghost.batches_in_interval = 0
        ghost.interval_under_way = ghost.interval
    ghost.batches_in_interval += 1
    ghost.saves_left = 1


def record_forward(counters: Counters, ghost: GhostState) -> None:
    """Count a round with the first optimizer's forward."""
    ghost.is_resumed_in_fetch = False
    if counters.optimizer_i == 0:
        ghost.rounds += 1


def record_backward(counters: Counters, ghost: GhostState) -> None:
    """Count a backward of the watched optimizer."""
    if counters.optimizer_i == ghost.watched_i:
        ghost.pending += 1


def record_round_end(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> None:
    """Count a round with a step, at the end of the last optimizer's turn; note that a stop is due."""
    if counters.optimizer_i + 1 == limits.optimizers:
        if ghost.stepped:
            ghost.counted_steps += 1
        ghost.stepped = False
    if signals.patience_exhausted and counters.epochs_done >= limits.min_epochs and counters.global_step >= limits.min_steps:
        ghost.stop_was_due = True


def record_due_stop(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> None:
    """Note that a stop is due: patience is exhausted, and the minima are reached."""
    if signals.patience_exhausted and counters.epochs_done >= limits.min_epochs and counters.global_step >= limits.min_steps:
        ghost.stop_was_due = True


def record_save(ghost: GhostState) -> None:
    """Count a checkpoint of this batch."""
    ghost.saves_left -= 1


BEFORE_GUARDS: Mapping[State, Callable[..., None]] = {
    State.FETCH: record_fetch,
    State.TRAIN_BATCH: record_forward,
    State.BACKWARD: record_backward,
    State.ROUND_END: record_round_end,
    State.SAVE: record_save,
    State.EARLY_STOP: record_due_stop,
}


# ---- updates after the guards are evaluated, before the row's effects


def open_window(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> None:
    """Count an open window if the coming backward is the first in it; count a forward without a loss in an open one.

    With manual optimization there is no window: count the steps.
    """
    if limits.manual_optimization:
        ghost.counted_steps += signals.own_steps
        ghost.steps += signals.own_steps
        if signals.own_steps >= 1:
            ghost.last_step = ghost.rounds
    elif not signals.loss_is_none:
        if counters.gathered == 0:
            ghost.open_windows += 1
            if counters.optimizer_i == ghost.watched_i:
                ghost.opened_nb = counters.batch_nb
    elif counters.optimizer_i == ghost.watched_i and ghost.pending >= 1:
        ghost.left_out += 1


def close_window(counters: Counters, signals: Signals, ghost: GhostState) -> None:
    """Count a closed window. A rollback leaves it open: the run ends there."""
    if not signals.nonfinite:
        ghost.open_windows -= 1
        ghost.stepped = True
        if signals.step_skipped:
            ghost.skipped += 1
        if counters.optimizer_i == ghost.watched_i:
            ghost.pending = 0
            ghost.left_out = 0
            ghost.gathered_before = 0
            if not signals.step_skipped:
                ghost.steps += signals.own_steps
                if signals.own_steps >= 1:
                    ghost.last_step = ghost.rounds


def end_validation(ghost: GhostState, inputs: Inputs) -> None:
    """Count a validation after its last batch, and choose the length of the next one."""
    if ghost.validation_left == 0:
        ghost.validation_left = inputs.val_check_batches
        ghost.validations += 1
        ghost.is_resumed_in_validation = False


def end_epoch(counters: Counters, ghost: GhostState, inputs: Inputs) -> None:
    """Count an epoch whose last batch is done, and choose the length and K of the next one.

    One that a resumed run ends because it lies beyond ``max_nb_epochs`` does not count, even after its last batch.
    """
    if ghost.batches_left == 0 and not counters.epoch_ended_early:
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
