"""Claims that `core.folding` relies on: facts about the counters and signals of a configuration.

A fact that a rule of folding uses needs a claim here; a test compares the two lists.
"""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState


def one_optimizer_is_number_0(limits: Limits, counters: Counters) -> bool:
    return limits.optimizers != 1 or counters.optimizer_i == 0


def without_bptt_splits_is_1(limits: Limits, signals: Signals) -> bool:
    return limits.splits_batches or signals.splits == 1


def without_bptt_batch_splits_is_1(limits: Limits, counters: Counters) -> bool:
    return limits.splits_batches or counters.batch_splits == 1


def without_bptt_split_nb_is_0(limits: Limits, counters: Counters) -> bool:
    return limits.splits_batches or counters.split_nb == 0


def only_a_stream_signals_its_end(limits: Limits, signals: Signals) -> bool:
    return limits.train_is_stream or not signals.stream_ended


def the_sanity_pass_is_on(limits: Limits) -> bool:
    return limits.has_sanity


def validations_are_on(limits: Limits) -> bool:
    return limits.validates


def only_a_pass_with_a_stream_signals_its_end(limits: Limits, signals: Signals) -> bool:
    return limits.evaluates_stream or not signals.pass_ended


def only_early_stopping_has_patience(limits: Limits, signals: Signals) -> bool:
    return limits.stops_early or not signals.patience_exhausted


def only_max_time_is_up(limits: Limits, signals: Signals) -> bool:
    return limits.has_max_time or not signals.time_is_up


def only_early_stopping_ends_epochs_early(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        limits.stops_early or limits.max_steps >= 1 or limits.has_max_time or limits.is_past_last_epoch
        or not counters.epoch_ended_early or ghost.is_resumed_in_test
    )  # fmt: skip


def only_a_step_that_may_return_none_has_no_loss(limits: Limits, signals: Signals) -> bool:
    return limits.may_return_none or not signals.loss_is_none


def only_a_scaler_or_policy_skips_steps(limits: Limits, signals: Signals) -> bool:
    return limits.skips_steps or not signals.step_skipped


def only_an_own_step_makes_another_number_of_steps(limits: Limits, signals: Signals) -> bool:
    return limits.has_own_step or signals.own_steps == 1


def without_an_own_step_steps_made_is_1(limits: Limits, counters: Counters) -> bool:
    return limits.has_own_step or counters.steps_made == 1


def only_a_rollback_policy_rolls_back(limits: Limits, signals: Signals) -> bool:
    return limits.rolls_back or not signals.nonfinite


def the_window_of_an_epoch_is_legal(ghost: GhostState) -> bool:
    return (
        ghost.epoch_window >= 1
        and (not ghost.never_accumulates or ghost.epoch_window == 1)
        and (ghost.same_window == 0 or ghost.epoch_window == ghost.same_window)
    )


def without_accumulation_window_length_is_1(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.window_length == 1


def without_accumulation_gathered_is_0(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.gathered == 0


def without_accumulation_gathered_is_1(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.gathered == 1


def without_accumulation_no_window_is_open(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.open_windows == 0


def without_accumulation_one_window_is_open(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.open_windows == 1


def one_k_for_all_epochs(counters: Counters, ghost: GhostState) -> bool:
    return ghost.same_window == 0 or counters.window_length == ghost.same_window


def every_epoch_has_validation(limits: Limits, counters: Counters) -> bool:
    return limits.val_check_epochs != 1 or counters.epochs_since_validation == 1


def without_early_stopping_no_stop_waits(limits: Limits, counters: Counters) -> bool:
    return (
        limits.stops_early or limits.max_steps >= 1 or limits.has_max_time or limits.is_past_last_epoch
        or counters.batches_waited == 0
    )  # fmt: skip


def without_accumulation_no_stop_waits(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.batches_waited == 0


def saved_is_false(limits: Limits, counters: Counters) -> bool:
    return limits.saves_end or not counters.saved


def without_an_end_to_save_ending_is_0(limits: Limits, counters: Counters) -> bool:
    return limits.saves_end or counters.ending == 0


# Other claims need these, so they are proved first.
FIRST_FACTS: tuple[Claim, ...] = (
    Claim("with one optimizer, optimizer_i is 0", one_optimizer_is_number_0),
    Claim("without a train stream, stream_ended is false", only_a_stream_signals_its_end),
    Claim("K of an epoch is legal", the_window_of_an_epoch_is_legal),
    Claim("without accumulation, window_length is 1", without_accumulation_window_length_is_1, built_in="step"),
    Claim("without truncated BPTT, splits is 1", without_bptt_splits_is_1),
    Claim("without truncated BPTT, batch_splits is 1", without_bptt_batch_splits_is_1),
    Claim("without truncated BPTT, split_nb is 0", without_bptt_split_nb_is_0),
    Claim("if training_step never returns None, loss_is_none is false", only_a_step_that_may_return_none_has_no_loss),
    Claim("if nothing skips steps, step_skipped is false", only_a_scaler_or_policy_skips_steps),
    Claim("without an optimizer_step of the model's own, a visit to step is one step",
          only_an_own_step_makes_another_number_of_steps),
    Claim("without an optimizer_step of the model's own, steps_made is 1", without_an_own_step_steps_made_is_1),
    Claim("if nothing rolls back, nonfinite is false", only_a_rollback_policy_rolls_back),
)  # fmt: skip
LAST_FACTS: tuple[Claim, ...] = (
    Claim("the sanity pass runs only if it is on", the_sanity_pass_is_on, at=State.SANITY_VAL),
    Claim("a validation runs only if there is something to validate", validations_are_on, at=State.VAL_CHECK),
    Claim("without a val or test stream, pass_ended is false", only_a_pass_with_a_stream_signals_its_end),
    Claim("without early stopping, patience_exhausted is false", only_early_stopping_has_patience),
    Claim("without max_time, time_is_up is false", only_max_time_is_up),
    Claim("without early stopping, stop guard, max_steps and max_time, batches_waited is 0",
          without_early_stopping_no_stop_waits, built_in="stop"),
    Claim("without early stopping, stop guard, max_steps and max_time, epoch_ended_early is false",
          only_early_stopping_ends_epochs_early, built_in="stop"),
    Claim("without accumulation, gathered is 0 in train_batch", without_accumulation_gathered_is_0, at=State.TRAIN_BATCH,
          built_in="step"),
    Claim("without accumulation, gathered is 1 in backward", without_accumulation_gathered_is_1, at=State.BACKWARD,
          built_in="step"),
    Claim("without accumulation, open_windows is 1 in an optimizer's turn", without_accumulation_one_window_is_open,
          at={State.BACKWARD, State.ACCUMULATE, State.STEP}, built_in="step", group="single"),
    Claim("without accumulation, open_windows is 0 after an optimizer's turn", without_accumulation_no_window_is_open,
          at=all_except(State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROLLED_BACK), built_in="step",
          group="single"),
    Claim("without accumulation, batches_waited is 0", without_accumulation_no_stop_waits, built_in="step"),
    Claim("with one K for all epochs, window_length is K in backward", one_k_for_all_epochs, at=State.BACKWARD),
    Claim("with validation in every epoch, epochs_since_validation is 1 in round_end", every_epoch_has_validation,
          at=State.ROUND_END),
    Claim("without a save guard and an end to save, saved is false", saved_is_false, built_in="save"),
    Claim("without an end to save, ending is 0", without_an_end_to_save_ending_is_0),
)  # fmt: skip
