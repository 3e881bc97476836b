"""The claims about a whole run: its epochs, batches, windows, steps, checks and passes, and how it ends.

They stand in an order: in the proof of one, those above it may be used. All are proved.
"""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.proving.claim import AFTER_FETCH, IN_EPOCH, IN_TURN, STOPPABLE, Claim, but
from fsmtrain.proving.witness import Seen

# ---- epochs and batches


def the_epoch_is_under_way(counters: Counters) -> bool:
    return counters.current_epoch == counters.epochs_done


def an_epoch_is_under_way_or_finished(counters: Counters, seen: Seen) -> bool:
    return (seen.fetched_in_epoch == 0 and counters.epochs_done == counters.current_epoch + 1) or (
        seen.fetched_in_epoch >= 1 and counters.epochs_done == counters.current_epoch
    )


def an_epoch_under_way_has_batches_left(seen: Seen) -> bool:
    return seen.fetched_in_epoch == 0 or seen.batches_left >= 1


def epochs_are_counted(counters: Counters, seen: Seen) -> bool:
    return counters.epochs_done == seen.epochs_finished


def epochs_are_numbered(counters: Counters, seen: Seen) -> bool:
    return counters.current_epoch + 1 == seen.epochs_begun


def another_epoch_is_due(limits: Limits, counters: Counters) -> bool:
    return counters.epochs_done + 1 <= limits.epochs


def epochs_are_at_most_max(limits: Limits, counters: Counters) -> bool:
    return counters.epochs_done >= 0 and counters.epochs_done <= limits.epochs


def epochs_are_at_least_min(limits: Limits, counters: Counters) -> bool:
    return limits.epochs == 0 or counters.epochs_done >= limits.min_epochs


def batches_are_numbered(counters: Counters, seen: Seen) -> bool:
    return counters.batch_nb + 1 == seen.fetched_in_epoch and counters.batch_nb >= 0


def a_sized_epoch_has_its_batches(limits: Limits, seen: Seen) -> bool:
    return limits.train_is_stream or seen.fetched_in_epoch + seen.batches_left == limits.train_batches


def a_stream_ends_with_its_last_batch(limits: Limits, signals: Signals, seen: Seen) -> bool:
    return seen.batches_left >= 0 and (
        (limits.train_is_stream and (signals.stream_ended == (seen.batches_left == 0)))
        or (not limits.train_is_stream and not signals.stream_ended)
    )


def an_epoch_ends_with_its_last_batch_or_is_cut(counters: Counters, seen: Seen) -> bool:
    return (counters.cut and seen.batches_left >= 1) or (not counters.cut and seen.batches_left == 0)


def batches_are_counted(counters: Counters, seen: Seen) -> bool:
    return counters.batches_begun == seen.fetched


def turns_are_in_range(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return (
        counters.optimizer_i >= 0 and counters.optimizer_i + 1 <= limits.optimizers
        and counters.split_nb >= 0 and counters.split_nb + 1 <= signals.splits
    )  # fmt: skip


def the_batch_is_complete(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 == signals.splits


def rounds_are_counted(counters: Counters, seen: Seen) -> bool:
    return counters.round_nb == seen.rounds


# ---- windows and steps


def the_window_is_that_of_the_epoch(counters: Counters, seen: Seen) -> bool:
    return counters.window == seen.epoch_window and counters.window >= 1


def nothing_is_negative(counters: Counters, seen: Seen) -> bool:
    return seen.pending >= 0 and counters.gathered >= 0


def gathered_is_what_waits(counters: Counters, seen: Seen) -> bool:
    return (counters.optimizer_i == seen.me and counters.gathered == seen.pending) or (
        counters.optimizer_i != seen.me and counters.gathered_by[seen.me] == seen.pending
    )


def the_backward_under_way_is_gathered(counters: Counters, seen: Seen) -> bool:
    return counters.gathered >= 1 and (counters.optimizer_i != seen.me or seen.pending >= 1)


def open_windows_are_counted(counters: Counters, seen: Seen) -> bool:
    return counters.open_windows == seen.open_windows


def an_open_window_is_among_them(counters: Counters, seen: Seen) -> bool:
    return (
        seen.open_windows >= 0 and (seen.pending == 0 or seen.open_windows >= 1)
        and (counters.optimizer_i == seen.me or counters.gathered == 0 or seen.open_windows >= 1)
        and (counters.optimizer_i == seen.me or counters.gathered == 0 or seen.pending == 0 or seen.open_windows >= 2)
    )  # fmt: skip


def no_window_is_left_open(seen: Seen) -> bool:
    return seen.pending == 0


def a_window_has_room(counters: Counters, seen: Seen) -> bool:
    return seen.pending + 1 <= counters.window


def a_window_is_at_most_full(counters: Counters, seen: Seen) -> bool:
    return seen.pending + 1 <= counters.window or (counters.optimizer_i == seen.me and seen.pending == counters.window)


def windows_of_one_are_never_left_open(seen: Seen) -> bool:
    return not seen.never_accumulates or seen.pending == 0


def no_window_crosses_an_epoch(seen: Seen) -> bool:
    return seen.fetched_in_epoch >= 2 or seen.pending == 0


def no_window_is_open_between_epochs(seen: Seen) -> bool:
    return seen.fetched_in_epoch >= 1 or seen.pending == 0


def the_last_round_leaves_no_window(counters: Counters, signals: Signals, seen: Seen) -> bool:
    return (
        seen.batches_left >= 1 or counters.split_nb + 1 < signals.splits or counters.optimizer_i < seen.me or seen.pending == 0
    )


def a_step_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.gathered == counters.window or (
        (counters.batch_nb + 1 == limits.train_batches or signals.stream_ended) and counters.split_nb + 1 == signals.splits
    )


def no_step_is_due(limits: Limits, counters: Counters, signals: Signals, seen: Seen) -> bool:
    return (
        counters.gathered != counters.window
        and ((counters.batch_nb + 1 != limits.train_batches and not signals.stream_ended) or counters.split_nb + 1 != signals.splits)
    )  # fmt: skip


def the_last_backward_is_stepped(counters: Counters, signals: Signals, seen: Seen) -> bool:
    return seen.batches_left >= 1 or counters.split_nb + 1 < signals.splits


def steps_are_counted(counters: Counters, seen: Seen) -> bool:
    return counters.optimizer_steps[seen.me] == seen.steps and counters.steps_skipped == seen.skipped


def the_last_step_is_noted(counters: Counters, seen: Seen) -> bool:
    return counters.stepped_in[seen.me] == seen.last_step


def the_round_has_stepped(counters: Counters, seen: Seen) -> bool:
    return (counters.stepped == 1 and seen.stepped) or (counters.stepped == 0 and not seen.stepped)


def global_step_is_the_rounds_with_a_step(counters: Counters, seen: Seen) -> bool:
    return counters.global_step == seen.rounds_with_step


# ---- checks and passes


def batches_are_whole_intervals_and_one_under_way(limits: Limits, seen: Seen) -> bool:
    return not limits.validates or (
        seen.fetched_in_epoch == seen.batches_in_intervals + seen.batches_in_interval
        and seen.batches_in_interval >= 1 and seen.batches_in_interval <= limits.check_batches
    )  # fmt: skip


def epochs_are_whole_intervals_and_one_under_way(limits: Limits, seen: Seen) -> bool:
    return (
        seen.epochs_begun == seen.epochs_in_intervals + seen.epochs_in_interval
        and seen.epochs_in_interval >= 1 and seen.epochs_in_interval <= limits.check_epochs
    )  # fmt: skip


def epochs_since_checks_are_the_intervals(counters: Counters, seen: Seen) -> bool:
    return counters.epochs_since_checks == seen.epochs_in_interval


def batches_since_check_are_the_intervals(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_checks != limits.check_epochs
        or counters.batches_since_check == seen.batches_in_interval
    )


def a_check_is_due(limits: Limits, seen: Seen) -> bool:
    return (
        limits.validates and seen.batches_in_interval == limits.check_batches and seen.epochs_in_interval == limits.check_epochs
    )


def no_check_is_due(limits: Limits, seen: Seen) -> bool:
    return (
        not limits.validates
        or seen.batches_in_interval != limits.check_batches
        or seen.epochs_in_interval != limits.check_epochs
    )


def after_a_check_its_interval_is_over(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return counters.batches_since_check == 0 and seen.batches_in_interval == limits.check_batches


def batches_since_check_wait_for_the_next(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_checks != limits.check_epochs
        or counters.batches_since_check + 1 == seen.batches_in_interval
    )


def batches_since_check_are_the_intervals_or_none(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_checks != limits.check_epochs
        or seen.fetched_in_epoch == 0
        or (counters.batches_since_check == seen.batches_in_interval and seen.batches_in_interval != limits.check_batches)
        or (counters.batches_since_check == 0 and seen.batches_in_interval == limits.check_batches)
    )


def a_sanity_pass_is_ahead(limits: Limits, seen: Seen) -> bool:
    return seen.sanity_left >= 1 and (limits.sanity_batches == 0 or seen.sanity_left == limits.sanity_batches)


def a_check_is_ahead(limits: Limits, seen: Seen) -> bool:
    return seen.check_left >= 1 and (limits.val_batches == 0 or seen.check_left == limits.val_batches)


def a_test_is_ahead(limits: Limits, seen: Seen) -> bool:
    return seen.test_left >= 1 and (limits.test_batches == 0 or seen.test_left == limits.test_batches)


def no_sanity_pass_was_asked_for(limits: Limits) -> bool:
    return not limits.has_sanity


def the_sanity_pass_has_its_batches(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return seen.sanity_left >= 0 and (
        limits.sanity_batches == 0 or counters.eval_nb + 1 + seen.sanity_left == limits.sanity_batches
    )


def the_sanity_pass_is_over(seen: Seen) -> bool:
    return seen.sanity_left == 0


def a_check_has_its_batches(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return seen.check_left >= 0 and (limits.val_batches == 0 or counters.eval_nb + 1 + seen.check_left == limits.val_batches)


def a_check_is_over(seen: Seen) -> bool:
    return seen.check_left == 0


def the_test_has_its_batches(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return seen.test_left >= 0 and (limits.test_batches == 0 or counters.eval_nb + 1 + seen.test_left == limits.test_batches)


def the_test_is_over(seen: Seen) -> bool:
    return seen.test_left == 0


def checks_are_counted(counters: Counters, seen: Seen) -> bool:
    return counters.checks_done == seen.checks


def a_batch_is_saved_once(counters: Counters, seen: Seen) -> bool:
    return (counters.saved and seen.saves_left == 0) or (not counters.saved and seen.saves_left == 1)


# ---- the end


def no_stop_is_requested(signals: Signals) -> bool:
    return not signals.stop_requested


def a_stop_is_requested(signals: Signals) -> bool:
    return signals.stop_requested


def a_cut_is_allowed(limits: Limits, counters: Counters, seen: Seen) -> bool:
    return not counters.cut or (counters.open_windows == 0 and seen.pending == 0 and counters.epochs_done >= limits.min_epochs)


def patience_cut_the_epoch(counters: Counters, signals: Signals) -> bool:
    return not counters.cut or signals.patience_exhausted


def patience_ended_what_ended_early(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.epochs_done == limits.epochs or signals.patience_exhausted


def a_test_was_asked_for(limits: Limits) -> bool:
    return limits.tests


def no_test_was_asked_for(limits: Limits) -> bool:
    return not limits.tests


# ---- the list

ENDS = frozenset({State.DONE, State.TEST})
BEFORE_CHECKS = IN_TURN | {State.SAVE}

CLAIMS: tuple[Claim, ...] = (
    # batches
    Claim("an epoch is not counted as done while it is under way", the_epoch_is_under_way, IN_EPOCH),
    Claim("early_stop is visited within an epoch or right after one", an_epoch_is_under_way_or_finished, frozenset({State.EARLY_STOP})),
    Claim("batch_nb is the batch's index in its epoch", batches_are_numbered, IN_EPOCH),
    Claim("a sized epoch has train_batches batches", a_sized_epoch_has_its_batches, IN_EPOCH),
    Claim("an epoch goes on as long as there are batches", a_stream_ends_with_its_last_batch, AFTER_FETCH),
    Claim("batches_begun counts the batches of the run", batches_are_counted, but(State.FETCH)),
    Claim("split_nb and optimizer_i stay within their ranges", turns_are_in_range, IN_TURN),
    Claim("a batch's splits and optimizers are all done before it is saved or followed by a check", the_batch_is_complete,
          frozenset({State.SAVE, State.VAL_CHECK})),
    Claim("... and before its epoch ends or goes on", the_batch_is_complete, frozenset({State.ROUND_END}),
          frozenset({State.FETCH, State.EPOCH_END, State.EARLY_STOP})),
    Claim("round_nb counts the rounds", rounds_are_counted),
    Claim("a batch has at most one checkpoint", a_batch_is_saved_once, AFTER_FETCH),
    # epochs
    Claim("an epoch ends after its last batch, or is cut", an_epoch_ends_with_its_last_batch_or_is_cut, frozenset({State.EPOCH_END})),
    Claim("epochs_done counts the epochs whose last batch has been trained", epochs_are_counted),
    Claim("within an epoch, current_epoch is its index from 0", epochs_are_numbered, IN_EPOCH),
    Claim("... within one only where batches are left", an_epoch_under_way_has_batches_left, frozenset({State.EARLY_STOP})),
    Claim("no epoch begins after the last of max_nb_epochs", another_epoch_is_due, IN_EPOCH),
    Claim("epochs_done <= max_nb_epochs", epochs_are_at_most_max),
    # windows and steps
    Claim("window is the K of the epoch, at least 1", the_window_is_that_of_the_epoch, IN_EPOCH),
    Claim("no window holds less than nothing", nothing_is_negative),
    Claim("each backward waits in the window of its optimizer", gathered_is_what_waits),
    Claim("a step takes all backwards since the last one, at least one", the_backward_under_way_is_gathered,
          frozenset({State.BACKWARD, State.ACCUMULATE, State.STEP})),
    Claim("open_windows counts the optimizers with a window open", open_windows_are_counted),
    Claim("a window that is open is counted", an_open_window_is_among_them),
    Claim("an optimizer's last backward of an epoch is stepped, not accumulated", the_last_backward_is_stepped,
          frozenset({State.ACCUMULATE})),
    Claim("with it, its window is closed", the_last_round_leaves_no_window, frozenset({State.ROUND_END, State.SAVE, State.VAL_CHECK})),
    Claim("an epoch is cut only with no window open, and after min_nb_epochs", a_cut_is_allowed),
    Claim("no window is open when an epoch ends", no_window_is_left_open, frozenset({State.EPOCH_END})),
    Claim("nor between two epochs", no_window_is_open_between_epochs, frozenset({State.EARLY_STOP})),
    Claim("nor before an epoch or when the run ends by itself", no_window_is_left_open,
          frozenset({State.START, State.SANITY_VAL, State.TEST, State.DONE})),
    Claim("no window crosses an epoch", no_window_crosses_an_epoch, frozenset({State.FETCH})),
    Claim("before a backward its window holds fewer than K", a_window_has_room,
          IN_EPOCH - {State.BACKWARD, State.STEP}, built_in="step"),
    Claim("no window holds more than K", a_window_is_at_most_full, frozenset({State.BACKWARD, State.STEP}), built_in="step"),
    Claim("a step happens only on a full window or an epoch's last backward", a_step_is_due, frozenset({State.STEP}),
          built_in="step"),
    Claim("no such step is left out", no_step_is_due, frozenset({State.ACCUMULATE}), built_in="step"),
    Claim("windows of one backward are closed by the end of the turn", windows_of_one_are_never_left_open,
          but(State.BACKWARD, State.ACCUMULATE, State.STEP), built_in="step"),
    Claim("optimizer_steps and steps_skipped count the visits to step", steps_are_counted),
    Claim("stepped_in is the round of the last step", the_last_step_is_noted),
    Claim("stepped says whether this round had a step", the_round_has_stepped),
    Claim("global_step counts the rounds with a step", global_step_is_the_rounds_with_a_step),
    # checks and passes
    Claim("batches: whole check intervals and one under way", batches_are_whole_intervals_and_one_under_way, IN_EPOCH,
          built_in="check"),
    Claim("epochs: whole check intervals and one under way", epochs_are_whole_intervals_and_one_under_way,
          IN_EPOCH | {State.EARLY_STOP}),
    Claim("epochs_since_checks is the place in the interval of epochs", epochs_since_checks_are_the_intervals),
    Claim("batches_since_check is the place in the interval of batches", batches_since_check_are_the_intervals, BEFORE_CHECKS,
          built_in="check"),
    Claim("... one less while a batch is fetched", batches_since_check_wait_for_the_next, frozenset({State.FETCH}),
          built_in="check"),
    Claim("... and 0 in a check", after_a_check_its_interval_is_over, frozenset({State.VAL_CHECK}), built_in="check"),
    Claim("... and 0 after a check", batches_since_check_are_the_intervals_or_none, frozenset({State.EARLY_STOP}),
          built_in="check"),
    Claim("a check happens only when it is due", a_check_is_due, frozenset({State.VAL_CHECK}), built_in="check"),
    Claim("no check that is due is left out", no_check_is_due, frozenset({State.ROUND_END}),
          frozenset({State.FETCH, State.EPOCH_END, State.EARLY_STOP}), built_in="check"),
    Claim("before the sanity pass all its batches are ahead", a_sanity_pass_is_ahead, frozenset({State.START})),
    Claim("before the test all its batches are ahead", a_test_is_ahead, but(State.TEST, State.DONE, State.STOPPED)),
    Claim("each visit to sanity_val is one of its batches", the_sanity_pass_has_its_batches, frozenset({State.SANITY_VAL})),
    Claim("the sanity pass ends after its last batch", the_sanity_pass_is_over, frozenset({State.SANITY_VAL}),
          frozenset({State.FETCH, State.TEST, State.DONE})),
    Claim("it is left out only where it is off", no_sanity_pass_was_asked_for, frozenset({State.START}),
          frozenset({State.FETCH, State.TEST, State.DONE})),
    Claim("each visit to val_check is one of its batches", a_check_has_its_batches, frozenset({State.VAL_CHECK})),
    Claim("a check ends after its last batch", a_check_is_over, frozenset({State.VAL_CHECK}),
          frozenset({State.EPOCH_END, State.EARLY_STOP})),
    Claim("between checks all batches of the next are ahead", a_check_is_ahead, but(State.VAL_CHECK, State.STOPPED)),
    Claim("checks_done counts the checks", checks_are_counted),
    Claim("each visit to test is one of its batches", the_test_has_its_batches, frozenset({State.TEST})),
    Claim("the test ends after its last batch", the_test_is_over, frozenset({State.TEST}), frozenset({State.DONE})),
    # the end
    Claim("min_nb_epochs <= epochs_done when a run ends by itself", epochs_are_at_least_min, ENDS),
    Claim("an epoch is cut only for exhausted patience", patience_cut_the_epoch, built_in="stop"),
    Claim("a run ends early only for exhausted patience", patience_ended_what_ended_early, ENDS, built_in="stop"),
    Claim("the test runs only where it was asked for", a_test_was_asked_for, frozenset({State.TEST})),
    Claim("and is left out only where it was not", no_test_was_asked_for, but(State.TEST), frozenset({State.DONE})),
    Claim("a stop request is obeyed wherever it can be", no_stop_is_requested, STOPPABLE, but(State.STOPPED)),
    Claim("and nothing else ends in stopped", a_stop_is_requested, frozenset({State.STOPPED})),
)  # fmt: skip
