"""Claims about accumulation windows and optimizer steps: each backward is in exactly one step, which comes when it is due."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import IN_EPOCH, IN_ROUND, Claim, a_limit_is_reached, all_except, the_minima_are_reached
from fsmtrain.prove.loop_model.ghost_state import GhostState


def window_length_is_k(counters: Counters, ghost: GhostState) -> bool:
    return (counters.ending == 1 and ghost.fetched_in_epoch == 0) or (
        counters.window_length >= 1 and counters.window_length == ghost.epoch_window
    )


def window_length_is_k_within_an_epoch(counters: Counters, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or (counters.window_length >= 1 and counters.window_length == ghost.epoch_window)


def no_window_is_negative(counters: Counters, ghost: GhostState) -> bool:
    return (
        ghost.pending >= 0 and counters.gathered >= 0 and counters.gathered_by[ghost.watched_i] >= 0
        and ghost.gathered_before >= 0
    )  # fmt: skip


def gathered_counts_pending_backwards(counters: Counters, ghost: GhostState) -> bool:
    return (counters.optimizer_i == ghost.watched_i and counters.gathered == ghost.pending) or (
        counters.optimizer_i != ghost.watched_i and counters.gathered_by[ghost.watched_i] == ghost.pending
    )


def the_backward_is_gathered(counters: Counters, ghost: GhostState) -> bool:
    return counters.gathered >= 1 and (counters.optimizer_i != ghost.watched_i or ghost.pending >= 1)


def open_windows_counts_open_windows(counters: Counters, ghost: GhostState) -> bool:
    return counters.open_windows == ghost.open_windows


def open_windows_includes_known_windows(counters: Counters, ghost: GhostState) -> bool:
    return (
        ghost.open_windows >= 0 and (ghost.pending == 0 or ghost.open_windows >= 1)
        and (counters.optimizer_i == ghost.watched_i or counters.gathered == 0 or ghost.open_windows >= 1)
        and (counters.optimizer_i == ghost.watched_i or counters.gathered == 0 or ghost.pending == 0 or ghost.open_windows >= 2)
    )  # fmt: skip


def no_window_is_open(ghost: GhostState) -> bool:
    return ghost.pending == 0


def the_end_within_an_epoch_is_allowed(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return counters.ending == 0 or ghost.fetched_in_epoch == 0 or (
        ghost.pending == 0
        and (the_minima_are_reached(limits, counters, signals) or a_limit_is_reached(limits, counters, signals))
        and (counters.open_windows == 0 or counters.batches_waited > limits.longest_window or limits.is_past_last_epoch)
    )  # fmt: skip


def ending_the_epoch_early_is_allowed(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return not counters.epoch_ended_early or ghost.is_resumed_in_test or (
        ghost.pending == 0
        and (the_minima_are_reached(limits, counters, signals) or a_limit_is_reached(limits, counters, signals))
        and (counters.open_windows == 0 or counters.batches_waited > limits.longest_window or limits.is_past_last_epoch)
    )  # fmt: skip


def a_window_has_room(counters: Counters, ghost: GhostState) -> bool:
    return ghost.pending + 1 <= counters.window_length or ghost.pending <= ghost.gathered_before


def a_window_has_room_within_an_epoch(counters: Counters, ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or ghost.pending + 1 <= counters.window_length or ghost.pending <= ghost.gathered_before


def a_window_is_at_most_full(counters: Counters, ghost: GhostState) -> bool:
    return (
        ghost.pending + 1 <= counters.window_length or ghost.pending <= ghost.gathered_before
        or (counters.optimizer_i == ghost.watched_i
            and (ghost.pending == counters.window_length or ghost.pending == ghost.gathered_before + 1))
    )  # fmt: skip


def without_accumulation_no_window_stays_open(ghost: GhostState) -> bool:
    return not ghost.never_accumulates or ghost.pending == 0


def no_window_is_open_at_the_first_fetch(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch >= 2 or ghost.pending == 0


def no_window_is_open_between_epochs(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch >= 1 or ghost.pending == 0


def the_last_round_closes_the_window(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        counters.ending == 1
        or (ghost.batches_left >= 1 and counters.batches_waited <= limits.longest_window)
        or counters.split_nb + 1 < counters.batch_splits
        or counters.optimizer_i < ghost.watched_i
        or ghost.pending == 0
    )


def the_window_is_closed_in_later_turns(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        (ghost.batches_left >= 1 and counters.batches_waited <= limits.longest_window)
        or counters.split_nb + 1 < counters.batch_splits
        or counters.optimizer_i <= ghost.watched_i
        or ghost.pending == 0
    )


def step_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.gathered >= counters.window_length or (
        ((counters.batch_nb + 1 >= counters.epoch_batches and counters.epoch_batches >= 1) or signals.stream_ended
         or counters.batches_waited > limits.longest_window)
        and counters.split_nb + 1 >= counters.batch_splits
    )  # fmt: skip


def step_is_not_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return not step_is_due(limits, counters, signals)


def backwards_are_left(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.split_nb + 1 < counters.batch_splits or (
        ghost.batches_left >= 1 and counters.batches_waited <= limits.longest_window
    )


def a_forward_without_a_loss_closes_only_an_open_window(counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return signals.loss_is_none and counters.gathered >= 1 and (counters.optimizer_i != ghost.watched_i or ghost.pending >= 1)


def a_forward_without_a_loss_leaves_the_window_or_none_is_open(
    limits: Limits, counters: Counters, signals: Signals, ghost: GhostState
) -> bool:
    return limits.manual_optimization or (signals.loss_is_none and (
        counters.gathered == 0
        or counters.split_nb + 1 < counters.batch_splits
        or (ghost.batches_left >= 1 and counters.batches_waited <= limits.longest_window)
    ))  # fmt: skip


def a_forward_without_a_loss_leaves_no_full_window(limits: Limits, counters: Counters) -> bool:
    return limits.manual_optimization or counters.gathered < counters.window_length


def left_out_counts_forwards_without_a_loss(counters: Counters, ghost: GhostState) -> bool:
    return counters.left_out[ghost.watched_i] == ghost.left_out and ghost.left_out >= 0


def no_forward_is_left_out_of_a_closed_window(ghost: GhostState) -> bool:
    return ghost.pending >= 1 or ghost.left_out == 0


def the_window_holds_each_batch(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        limits.splits_batches or ghost.gathered_before >= 1 or ghost.pending == 0
        or counters.batch_nb + 1 - ghost.pending - ghost.left_out == ghost.opened_nb
    )  # fmt: skip


def the_window_holds_each_batch_before(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        limits.splits_batches or ghost.gathered_before >= 1 or ghost.pending == 0
        or counters.batch_nb - ghost.pending - ghost.left_out == ghost.opened_nb
    )  # fmt: skip


def the_window_holds_each_batch_up_to_the_turn(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        limits.splits_batches or ghost.gathered_before >= 1 or ghost.pending == 0
        or (counters.optimizer_i >= ghost.watched_i
            and counters.batch_nb + 1 - ghost.pending - ghost.left_out == ghost.opened_nb)
        or (counters.optimizer_i < ghost.watched_i and counters.batch_nb - ghost.pending - ghost.left_out == ghost.opened_nb)
    )  # fmt: skip


def the_window_holds_each_batch_before_the_forward(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        limits.splits_batches or ghost.gathered_before >= 1 or ghost.pending == 0
        or (counters.optimizer_i > ghost.watched_i
            and counters.batch_nb + 1 - ghost.pending - ghost.left_out == ghost.opened_nb)
        or (counters.optimizer_i <= ghost.watched_i and counters.batch_nb - ghost.pending - ghost.left_out == ghost.opened_nb)
    )  # fmt: skip


def the_window_began_with_the_batch_that_opened_it(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        limits.splits_batches
        or ghost.gathered_before >= 1
        or counters.optimizer_i != ghost.watched_i
        or counters.batch_nb + 1 - counters.gathered - counters.left_out[ghost.watched_i] == ghost.opened_nb
    )


def steps_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.optimizer_steps[ghost.watched_i] == ghost.steps and counters.steps_skipped == ghost.skipped


def stepped_in_is_the_last_step(counters: Counters, ghost: GhostState) -> bool:
    return counters.stepped_in[ghost.watched_i] == ghost.last_step


def stepped_is_about_this_round(counters: Counters, ghost: GhostState) -> bool:
    return (counters.stepped == 1 and ghost.stepped) or (counters.stepped == 0 and not ghost.stepped)


def no_step_is_uncounted(counters: Counters, ghost: GhostState) -> bool:
    return counters.stepped == 0 and not ghost.stepped


def global_step_counts_steps(counters: Counters, ghost: GhostState) -> bool:
    return counters.global_step == ghost.counted_steps


def optimization_is_automatic(limits: Limits) -> bool:
    return not limits.manual_optimization


def manual_optimization_has_no_window(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return not limits.manual_optimization or (
        counters.gathered == 0 and counters.gathered_by[ghost.watched_i] == 0 and ghost.pending == 0 and ghost.open_windows == 0
    )


ACCUMULATION: tuple[Claim, ...] = (
    Claim("window_length is the K of the epoch, at least 1", window_length_is_k, at=IN_EPOCH, group="K"),
    Claim("window_length is the K of the epoch after a validation, too", window_length_is_k_within_an_epoch,
          at=State.EARLY_STOP, group="K"),
    Claim("no window has a negative number of backwards", no_window_is_negative),
    Claim("each backward is kept in its optimizer's window until a step", gathered_counts_pending_backwards),
    Claim("after a backward, its window is not empty", the_backward_is_gathered,
          at={State.BACKWARD, State.ACCUMULATE, State.STEP}),
    Claim("open_windows counts the optimizers with an open window", open_windows_counts_open_windows),
    Claim("open_windows includes each window that is known to be open", open_windows_includes_known_windows),
    Claim("with manual optimization no window opens", manual_optimization_has_no_window),
    Claim("an optimizer's last backward before the end of an epoch or a stop leads to a step", backwards_are_left,
          at=State.ACCUMULATE),
    Claim("an optimizer's last backward before the end of an epoch or a stop closes its window",
          the_last_round_closes_the_window, at={State.ROUND_END, State.SAVE, State.VAL_CHECK, State.EARLY_STOP},
          group="closing"),
    Claim("after an optimizer's last turn before the end of an epoch or a stop, its window is closed",
          the_window_is_closed_in_later_turns, at={State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP},
          group="closing"),
    Claim("a run is saved at its end within an epoch only with no window open, and after the minima, max_steps or max_time",
          the_end_within_an_epoch_is_allowed, at=State.SAVE, group="closing"),
    Claim("an epoch ends early only with no window open, and after min_nb_epochs and min_steps, max_steps or max_time",
          ending_the_epoch_early_is_allowed, group="closing"),
    Claim("no window is open at the end of an epoch", no_window_is_open, at=State.EPOCH_END, group="closing"),
    Claim("no window is open between two epochs", no_window_is_open_between_epochs, at={State.EARLY_STOP, State.SAVE},
          group="closing"),
    Claim("no window is open before training, in the test, or when a run is done", no_window_is_open,
          at={State.START, State.SANITY_VAL, State.TEST, State.DONE}),
    Claim("no window is open when the first batch of an epoch is fetched", no_window_is_open_at_the_first_fetch,
          at=State.FETCH),
    Claim("before a backward, its window has fewer than K", a_window_has_room, at=IN_EPOCH - {State.BACKWARD, State.STEP},
          built_in="step", group="room"),
    Claim("after a validation, a window has fewer than K", a_window_has_room_within_an_epoch, at=State.EARLY_STOP,
          built_in="step", group="room"),
    Claim("no window has more than K backwards", a_window_is_at_most_full, at={State.BACKWARD, State.STEP}, built_in="step",
          group="room"),
    Claim("a step happens only if it is due: on a full window or the last backward of an epoch or before a stop", step_is_due,
          at=State.STEP, built_in="step"),
    Claim("no step that is due is omitted", step_is_not_due, at=State.ACCUMULATE, built_in="step"),
    Claim("without accumulation, no window stays open after an optimizer's turn", without_accumulation_no_window_stays_open,
          at=all_except(State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROLLED_BACK), built_in="step"),
    Claim("a forward without a loss steps only an open window", a_forward_without_a_loss_closes_only_an_open_window,
          at=State.TRAIN_BATCH, to={State.STEP}),
    Claim("the last forward before the end of an epoch or a stop closes an open window, even without a loss",
          a_forward_without_a_loss_leaves_the_window_or_none_is_open, at=State.TRAIN_BATCH, to={State.ROUND_END}),
    Claim("a forward without a loss leaves no full window open", a_forward_without_a_loss_leaves_no_full_window,
          at=State.TRAIN_BATCH, to={State.ROUND_END}, built_in="step"),
    Claim("left_out counts the forwards without a loss in an open window", left_out_counts_forwards_without_a_loss),
    Claim("left_out is 0 while no window is open", no_forward_is_left_out_of_a_closed_window),
    Claim("without truncated BPTT, a window holds each batch since it opened, or left it out",
          the_window_holds_each_batch, at={State.SAVE, State.VAL_CHECK, State.EARLY_STOP}, group="opened"),
    Claim("without truncated BPTT, a window holds each batch before the one that is fetched",
          the_window_holds_each_batch_before, at=State.FETCH, group="opened"),
    Claim("without truncated BPTT, a window holds each batch before an optimizer's turn, and this one after it",
          the_window_holds_each_batch_up_to_the_turn, at=IN_ROUND - {State.TRAIN_BATCH}, group="opened"),
    Claim("without truncated BPTT, a window holds each batch before its optimizer's forward",
          the_window_holds_each_batch_before_the_forward, at=State.TRAIN_BATCH, group="opened"),
    Claim("without truncated BPTT, batch_nb + 1 - gathered - left_out is the batch with which the window opened",
          the_window_began_with_the_batch_that_opened_it, at={State.BACKWARD, State.ACCUMULATE, State.STEP},
          group="opened"),
    Claim("optimizer_steps and steps_skipped count the visits to step", steps_are_counted),
    Claim("stepped_in is the round of the optimizer's last step", stepped_in_is_the_last_step),
    Claim("between two rounds, no step waits to be counted", no_step_is_uncounted,
          at=all_except(State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROUND_END, State.ROLLED_BACK,
                        State.STOPPED), group="stepped"),
    Claim("stepped is 1 exactly if an optimizer has visited step in this round", stepped_is_about_this_round, group="stepped"),
    Claim("global_step counts the rounds with a visit to step; with manual optimization, the steps of training_step",
          global_step_counts_steps),
    Claim("with manual optimization there is no backward and no step but those of training_step", optimization_is_automatic,
          at={State.BACKWARD, State.ACCUMULATE, State.STEP}),
)  # fmt: skip
