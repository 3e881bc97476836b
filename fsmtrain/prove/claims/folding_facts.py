"""The facts that `core.folding` takes for granted, as claims."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import ALL_STATES, IN_ROUND, Claim
from fsmtrain.prove.loop_model.ghost_state import GhostState


def one_optimizer_is_number_0(limits: Limits, counters: Counters) -> bool:
    return limits.optimizers != 1 or counters.optimizer_i == 0


def without_bptt_splits_is_one(limits: Limits, signals: Signals) -> bool:
    return limits.splits_batches or signals.splits == 1


def without_bptt_split_nb_is_0(limits: Limits, counters: Counters) -> bool:
    return limits.splits_batches or counters.split_nb == 0


def only_a_stream_ends(limits: Limits, signals: Signals) -> bool:
    return limits.train_is_stream or not signals.stream_ended


def only_a_pass_with_a_stream_ends(limits: Limits, signals: Signals) -> bool:
    return limits.evaluates_stream or not signals.pass_ended


def only_early_stopping_has_patience(limits: Limits, signals: Signals) -> bool:
    return limits.stops_early or not signals.patience_exhausted


def only_early_stopping_cuts(limits: Limits, counters: Counters) -> bool:
    return limits.stops_early or not counters.epoch_ended_early


def only_a_scaler_skips(limits: Limits, signals: Signals) -> bool:
    return limits.skips_steps or not signals.step_skipped


def only_a_policy_rolls_back(limits: Limits, signals: Signals) -> bool:
    return limits.rolls_back or not signals.nonfinite


def without_accumulation_the_window_is_one(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.window_length == 1


def without_accumulation_one_is_gathered(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.gathered == 1


def without_accumulation_no_window_is_open(counters: Counters, ghost: GhostState) -> bool:
    return not ghost.never_accumulates or counters.open_windows == 0


def one_window_for_all_epochs(counters: Counters, ghost: GhostState) -> bool:
    return ghost.same_window == 0 or counters.window_length == ghost.same_window


def every_epoch_has_checks(limits: Limits, counters: Counters) -> bool:
    return limits.val_check_epochs != 1 or counters.epochs_since_validation == 1


def nothing_is_saved(counters: Counters) -> bool:
    return not counters.saved


FACTS: tuple[Claim, ...] = (
    Claim("with one optimizer, optimizer_i is 0", one_optimizer_is_number_0),
    Claim("without truncated BPTT, splits is 1", without_bptt_splits_is_one),
    Claim("... and split_nb is 0", without_bptt_split_nb_is_0),
    Claim("stream_ended is false without a train stream", only_a_stream_ends),
    Claim("pass_ended is false without a val or test stream", only_a_pass_with_a_stream_ends),
    Claim("patience_exhausted is false without early stopping", only_early_stopping_has_patience),
    Claim("cut is false without early stopping and stop guard", only_early_stopping_cuts, built_in="stop"),
    Claim("step_skipped is false where nothing skips steps", only_a_scaler_skips),
    Claim("nonfinite is false where nothing rolls back", only_a_policy_rolls_back),
    Claim("window is 1 where nothing accumulates", without_accumulation_the_window_is_one, built_in="step"),
    Claim("... one backward is gathered in backward", without_accumulation_one_is_gathered, frozenset({State.BACKWARD}),
          built_in="step"),
    Claim("... and no window is open at the end of a turn", without_accumulation_no_window_is_open,
          ALL_STATES - (IN_ROUND - {State.TRAIN_BATCH, State.ROUND_END}) - {State.ROLLED_BACK}, built_in="step"),
    Claim("window is K in backward where all epochs have the same K", one_window_for_all_epochs, frozenset({State.BACKWARD})),
    Claim("epochs_since_validation is 1 in round_end where every epoch has checks", every_epoch_has_checks,
          frozenset({State.ROUND_END})),
    Claim("saved is false without a save guard", nothing_is_saved, built_in="save"),
)  # fmt: skip
