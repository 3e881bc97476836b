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
class Seen:
    """The witness of one run."""

    me: int = 0  # the optimizer that is watched
    never_accumulates: bool = False  # whether every epoch's K is 1 and no optimizer has a guard of its own

    same_window: int = 0  # K, where it is the same in every epoch; else 0

    # To come: what the data will yield, fixed before anybody can know it.
    batches_left: int = 1  # of the epoch
    sanity_left: int = 1
    check_left: int = 1  # of this check, or of the next one
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
    checks: int = 0
    pending: int = 0  # backwards of the optimizer that is watched, since its last visit to `step`
    open_windows: int = 0  # optimizers with a backward since their last visit to `step`

    # fetched_in_epoch == batches_in_intervals + batches_in_interval, where the first is a multiple of val_check_batches and the
    # second lies between 1 and val_check_batches; the same of the epochs.
    batches_in_intervals: int = 0
    batches_in_interval: int = 0
    epochs_in_intervals: int = 0
    epochs_in_interval: int = 0


@define
class Chance:
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


def see_fetch(limits: Limits, seen: Seen) -> None:
    """A batch, perhaps the first of its epoch."""
    if seen.fetched_in_epoch == 0:
        seen.epochs_begun += 1
        if seen.epochs_in_interval == limits.val_check_epochs:
            seen.epochs_in_intervals += limits.val_check_epochs
            seen.epochs_in_interval = 0
        seen.epochs_in_interval += 1
        seen.batches_in_intervals = 0
        seen.batches_in_interval = 0
    seen.fetched += 1
    seen.fetched_in_epoch += 1
    if seen.batches_in_interval == limits.val_check_batches:
        seen.batches_in_intervals += limits.val_check_batches
        seen.batches_in_interval = 0
    seen.batches_in_interval += 1
    seen.saves_left = 1


def see_forward(counters: Counters, seen: Seen) -> None:
    """A round begins with the first optimizer's forward."""
    if counters.optimizer_i == 0:
        seen.rounds += 1


def see_backward(counters: Counters, seen: Seen) -> None:
    """A backward of the optimizer that is watched."""
    if counters.optimizer_i == seen.me:
        seen.pending += 1


def see_round_end(limits: Limits, counters: Counters, seen: Seen) -> None:
    """The end of an optimizer's turn; with the last one's the round ends."""
    if counters.optimizer_i + 1 == limits.optimizers:
        if seen.stepped:
            seen.rounds_with_step += 1
        seen.stepped = False


def see_save(seen: Seen) -> None:
    """A checkpoint of this batch."""
    seen.saves_left -= 1


ON_VISIT: Mapping[State, Callable[..., None]] = {
    State.FETCH: see_fetch,
    State.TRAIN_BATCH: see_forward,
    State.BACKWARD: see_backward,
    State.ROUND_END: see_round_end,
    State.SAVE: see_save,
}


# ---- on leaving, after the guards and before the effects


def leave_forward(counters: Counters, seen: Seen) -> None:
    """The backward that follows opens a window where there was none."""
    if counters.gathered == 0:
        seen.open_windows += 1


def leave_step(counters: Counters, signals: Signals, seen: Seen) -> None:
    """A window is closed, unless the run ends here to go back to a checkpoint: then all stays as it is."""
    if not signals.nonfinite:
        seen.open_windows -= 1
        seen.stepped = True
        if signals.step_skipped:
            seen.skipped += 1
        if counters.optimizer_i == seen.me:
            seen.pending = 0
            if not signals.step_skipped:
                seen.steps += 1
                seen.last_step = seen.rounds


def leave_check(seen: Seen, chance: Chance) -> None:
    """With its last batch the check is done, and the next one's length is open."""
    if seen.check_left == 0:
        seen.check_left = chance.val_check_batches
        seen.checks += 1


def leave_epoch(seen: Seen, chance: Chance) -> None:
    """The next epoch's length and window are open."""
    if seen.batches_left == 0:
        seen.epochs_finished += 1
    seen.fetched_in_epoch = 0
    seen.batches_left = chance.batches
    seen.epoch_window = chance.window


ON_LEAVING: Mapping[State, Callable[..., None]] = {
    State.TRAIN_BATCH: leave_forward,
    State.STEP: leave_step,
    State.VAL_CHECK: leave_check,
    State.EPOCH_END: leave_epoch,
}
