"""Guards: the predicates of the table's transitions, one for each rule, such as `window_is_full`.

A guard is a plain function ``(limits, counters, signals) -> bool``: a docstring, then one ``return`` of comparisons,
arithmetic, ``and/or/not`` and other guards. True always means "take this edge". No guard reads a tensor, a clock or a file,
and none changes anything. The examples show when a guard fires; batches count from 0.
"""

from __future__ import annotations

from typing import Protocol

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits


class Guard(Protocol):
    """A predicate about one moment of a run, built in or a user's own."""

    def __call__(self, limits: Limits, counters: Counters, signals: Signals, /) -> bool:
        """Return whether to take the edge."""
        ...


# ---- the whole run


def stop_is_requested(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether a stop was requested; ``min_nb_epochs`` does not delay it."""
    return signals.stop_requested


def no_epoch_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the run trains no epoch at all: ``max_nb_epochs=0``, or a run that only tests."""
    return limits.epochs == 0


def test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the run has test batches."""
    return limits.tests


def no_epoch_but_test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the run continues with the test without any training."""
    return no_epoch_follows(limits, counters, signals) and test_follows(limits, counters, signals)


# ---- validation and test passes


def sanity_pass_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether some validation batches run before the first epoch.

    Source: semantics, "Sanity pass".
    """
    return limits.has_sanity


def sanity_pass_goes_on(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the sanity pass has another batch."""
    return not (counters.eval_nb + 1 >= limits.sanity_batches > 0 or signals.pass_ended)


def validation_goes_on(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the validation has another batch."""
    return not (counters.eval_nb + 1 >= limits.val_batches > 0 or signals.pass_ended)


def validation_is_interrupted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether a stop was requested before the last batch of a validation."""
    return signals.stop_requested and validation_goes_on(limits, counters, signals)


def test_goes_on(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the test has another batch."""
    return not (counters.eval_nb + 1 >= limits.test_batches > 0 or signals.pass_ended)


def validation_interval_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether a validation is due at the end of this batch. The default of ``Guards(validate=...)``.

    Equal to ``(batch_nb + 1) % val_check_batches == 0 and (current_epoch + 1) % val_check_epochs == 0``.
    The count of batches restarts with each epoch. A resumed run may have passed an interval that was made shorter meanwhile:
    then a validation is due at once.

    Example:
        >>> from fsmtrain import Loop, Options, Sizes, State
        >>> def validations(train, **flags):
        ...     loop = Loop(Options(nb_sanity_val_steps=0, **flags), Sizes(train=train, val=[1]))
        ...     return [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.VAL_CHECK]
        >>> validations(train=7, val_check_interval=0.5, max_nb_epochs=1)
        [(0, 2), (0, 5)]
        >>> validations(train=10, val_check_interval=1.0, check_val_every_n_epoch=2, max_nb_epochs=4)
        [(1, 9), (3, 9)]

    Source: semantics, "A validation is due".
    """
    return (
        counters.batches_since_validation >= counters.epoch_val_check_batches
        and counters.epochs_since_validation >= limits.val_check_epochs
    )


# ---- one batch


def another_optimizer_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether this round has another optimizer's turn."""
    return counters.optimizer_i + 1 < limits.optimizers


def another_split_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether this batch has another split, under truncated BPTT."""
    return counters.split_nb + 1 < counters.batch_splits


def batch_is_last(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the current batch is the last one of its epoch."""
    return counters.batch_nb + 1 >= counters.epoch_batches > 0 or signals.stream_ended


def training_step_steps(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``training_step`` runs backwards and steps by itself: manual optimization. A batch is one visit to it."""
    return limits.manual_optimization


def there_is_a_loss(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``training_step`` returned a loss, and not None to leave out this optimizer's forward."""
    return not signals.loss_is_none


def epoch_has_no_backward_left(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the optimizer has had its last backward of the epoch, so its window closes whatever its length."""
    return batch_is_last(limits, counters, signals) and not another_split_follows(limits, counters, signals)


def epoch_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the epoch is complete. One beyond ``max_nb_epochs`` is never completed: it ends early."""
    return batch_is_last(limits, counters, signals) and not limits.is_past_last_epoch


def window_is_full(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the optimizer's window holds K backwards. The default of ``Guards(step=...)``.

    The epoch's last window may be shorter: it closes with the epoch, and nothing is carried over.

    Example:
        >>> from fsmtrain import Loop, Options, Sizes, State
        >>> loop = Loop(Options(accumulate_grad_batches=4, max_nb_epochs=1), Sizes(train=9))
        >>> [visit.batch_nb for visit in loop if visit.state is State.STEP]
        [3, 7, 8]

    Source: semantics, "accumulate_grad_batches".
    """
    return counters.gathered >= counters.window_length


def stop_has_waited_long_enough(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether this batch closes every open window, as an epoch's last batch does, because a stop waits for them.

    It has waited for the longest configured window, and no optimizer has another backward in this batch.

    Source: semantics, "A stop always comes".
    """
    return counters.batches_waited > limits.longest_window and not another_split_follows(limits, counters, signals)


def step_was_skipped(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the visit to `step` left the weights alone: a gradient, or a loss of the window, was not finite.

    Also true if there was nothing to step, because a rollback has excluded every batch of the window.
    """
    return signals.step_skipped


def window_is_spoiled(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether to load a checkpoint: ``on_nonfinite="rollback"``, and the window has a loss or gradient not finite."""
    return limits.rolls_back and signals.nonfinite


def time_to_save(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the time from one save to the next has passed."""
    return signals.save_wanted


# ---- ending


def end_is_being_saved(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether this save is that of a run that ends by itself here."""
    return counters.ending == 1


def last_epoch_is_saved(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether this save is that of a run that ends after a complete epoch."""
    return end_is_being_saved(limits, counters, signals) and epoch_is_finished(limits, counters, signals)


def last_epoch_is_saved_and_test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether this save is that of a run that continues with the test after a complete epoch."""
    return test_follows(limits, counters, signals) and last_epoch_is_saved(limits, counters, signals)


def epoch_is_finished(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the run is between two epochs: the current one has been counted as done."""
    return counters.epochs_done == counters.current_epoch + 1


def epoch_is_under_way(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the current epoch has not been counted as done. Asked only where a run resumes within its training."""
    return counters.epochs_done == counters.current_epoch


def epoch_ended_early(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether the epoch ends before its last batch."""
    return counters.epoch_ended_early


def epoch_ended_early_and_stop_is_requested(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether a stop was requested at the end of an epoch that ends early."""
    return epoch_ended_early(limits, counters, signals) and stop_is_requested(limits, counters, signals)


def epoch_ended_early_and_test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether a stop within an epoch leads to the test."""
    return epoch_ended_early(limits, counters, signals) and test_follows(limits, counters, signals)


def epochs_are_exhausted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``max_nb_epochs`` epochs are done, or more: a run may be resumed with a limit that it has passed."""
    return counters.epochs_done >= limits.epochs


def windows_are_closed(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether no optimizer has a window open at the end of a batch, so that the epoch may end early.

    The last batch for which a stop waits has closed all, and so has the last one of an epoch that is never completed.
    """
    return (
        counters.open_windows == 0
        or stop_has_waited_long_enough(limits, counters, signals)
        or (limits.is_past_last_epoch and batch_is_last(limits, counters, signals))
    )


def enough_epochs_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``min_nb_epochs`` epochs are done, so that the run may stop early."""
    return counters.epochs_done >= limits.min_epochs


def enough_steps_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``global_step`` has reached ``min_steps``, so that the run may stop early."""
    return counters.global_step >= limits.min_steps


def steps_are_exhausted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``global_step`` has reached ``max_steps``, if there is such a limit.

    Example:
        >>> from fsmtrain import Loop, Options, Sizes, State
        >>> loop = Loop(Options(max_steps=5, accumulate_grad_batches=2), Sizes(train=7))
        >>> [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.STEP]
        [(0, 1), (0, 3), (0, 5), (0, 6), (1, 1)]

    Source: semantics, "max_steps".
    """
    return counters.global_step >= limits.max_steps > 0


def time_is_up(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``max_time`` has passed."""
    return signals.time_is_up


def patience_is_exhausted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether early stopping has waited long enough."""
    return signals.patience_exhausted


def never(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return False: the default of the guards that add a reason."""
    return False
