"""Claims about validation, the sanity pass and the test: each comes when it is due, and runs exactly its batches."""

from __future__ import annotations

from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import IN_EPOCH, IN_ROUND, Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState

BEFORE_VALIDATION = IN_ROUND | {State.SAVE}


def batches_are_whole_intervals_and_the_current_one(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return not limits.validates or (counters.ending == 1 and ghost.fetched_in_epoch == 0) or (
        ghost.fetched_in_epoch == ghost.batches_in_intervals + ghost.batches_in_interval
        and ghost.batches_in_interval >= 1 and ghost.batches_in_interval <= ghost.interval
    )  # fmt: skip


def epochs_are_whole_intervals_and_the_current_one(limits: Limits, ghost: GhostState) -> bool:
    return (
        ghost.epochs_begun == ghost.epochs_in_intervals + ghost.epochs_in_interval
        and ghost.epochs_in_interval >= 1 and ghost.epochs_in_interval <= limits.val_check_epochs
    )  # fmt: skip


def epochs_since_validation_is_the_position(counters: Counters, ghost: GhostState) -> bool:
    return counters.epochs_since_validation == ghost.epochs_in_interval


def batches_since_validation_is_the_position(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or counters.ending == 1
        or counters.epochs_since_validation != limits.val_check_epochs
        or counters.batches_since_validation == ghost.batches_in_interval
    )


def validation_is_due(limits: Limits, ghost: GhostState) -> bool:
    return (
        limits.validates and ghost.batches_in_interval == ghost.interval and ghost.epochs_in_interval == limits.val_check_epochs
    )


def validation_is_not_due(limits: Limits, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or ghost.batches_in_interval != ghost.interval
        or ghost.epochs_in_interval != limits.val_check_epochs
    )


def batches_since_validation_is_0(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.batches_since_validation == 0 and ghost.batches_in_interval == ghost.interval


def batches_since_validation_is_one_behind(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_validation != limits.val_check_epochs
        or counters.batches_since_validation + 1 == ghost.batches_in_interval
    )


def batches_since_validation_is_the_position_or_0(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_validation != limits.val_check_epochs
        or ghost.fetched_in_epoch == 0
        or (counters.batches_since_validation == ghost.batches_in_interval and ghost.batches_in_interval != ghost.interval)
        or (counters.batches_since_validation == 0 and ghost.batches_in_interval == ghost.interval)
    )


def the_sanity_pass_is_ahead(limits: Limits, ghost: GhostState) -> bool:
    return ghost.sanity_left >= 1 and (limits.sanity_batches == 0 or ghost.sanity_left == limits.sanity_batches)


def a_validation_is_ahead(limits: Limits, ghost: GhostState) -> bool:
    return ghost.validation_left >= 1 and (limits.val_batches == 0 or ghost.validation_left == limits.val_batches)


def the_test_is_ahead(limits: Limits, ghost: GhostState) -> bool:
    return ghost.test_left >= 1 and (limits.test_batches == 0 or ghost.test_left == limits.test_batches)


def the_sanity_pass_is_off(limits: Limits) -> bool:
    return not limits.has_sanity


def the_sanity_pass_has_its_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.sanity_left >= 0 and (
        limits.sanity_batches == 0 or counters.eval_nb + 1 + ghost.sanity_left == limits.sanity_batches
    )


def the_sanity_pass_is_over(ghost: GhostState) -> bool:
    return ghost.sanity_left == 0


def a_validation_has_its_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.validation_left >= 0 and (
        limits.val_batches == 0 or counters.eval_nb + 1 + ghost.validation_left == limits.val_batches
    )


def a_validation_is_over(ghost: GhostState) -> bool:
    return ghost.validation_left == 0


def the_test_has_its_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.test_left >= 0 and (limits.test_batches == 0 or counters.eval_nb + 1 + ghost.test_left == limits.test_batches)


def the_test_is_over(ghost: GhostState) -> bool:
    return ghost.test_left == 0


def validations_done_counts_validations(counters: Counters, ghost: GhostState) -> bool:
    return counters.validations_done == ghost.validations


VALIDATION: tuple[Claim, ...] = (
    Claim("the batches of an epoch are whole validation intervals and the current one",
          batches_are_whole_intervals_and_the_current_one, at=IN_EPOCH, built_in="validate"),
    Claim("the epochs of a run are whole validation intervals and the current one",
          epochs_are_whole_intervals_and_the_current_one, at=IN_EPOCH | {State.EARLY_STOP}),
    Claim("epochs_since_validation is the position in the interval of epochs", epochs_since_validation_is_the_position),
    Claim("batches_since_validation is the position in the interval of batches", batches_since_validation_is_the_position,
          at=BEFORE_VALIDATION, built_in="validate"),
    Claim("batches_since_validation is one less while a batch is fetched", batches_since_validation_is_one_behind,
          at=State.FETCH, built_in="validate"),
    Claim("batches_since_validation is 0 in a validation", batches_since_validation_is_0, at=State.VAL_CHECK,
          built_in="validate"),
    Claim("batches_since_validation is 0 after a validation", batches_since_validation_is_the_position_or_0,
          at=State.EARLY_STOP, built_in="validate"),
    Claim("a validation happens only when it is due", validation_is_due, at=State.VAL_CHECK, built_in="validate"),
    Claim("no validation that is due is omitted", validation_is_not_due, at=State.ROUND_END,
          to={State.FETCH, State.EPOCH_END, State.EARLY_STOP}, built_in="validate"),
    Claim("before the sanity pass, all its batches are left", the_sanity_pass_is_ahead, at=State.START),
    Claim("before the test, all its batches are left", the_test_is_ahead, at=all_except(State.TEST, State.DONE, State.STOPPED)),
    Claim("each visit to sanity_val runs one batch of the sanity pass", the_sanity_pass_has_its_batches, at=State.SANITY_VAL),
    Claim("the sanity pass ends after its last batch", the_sanity_pass_is_over, at=State.SANITY_VAL,
          to={State.FETCH, State.TEST, State.DONE}),
    Claim("the sanity pass is omitted only if it is off", the_sanity_pass_is_off, at=State.START,
          to={State.FETCH, State.TEST, State.DONE}),
    Claim("each visit to val_check runs one batch of a validation", a_validation_has_its_batches, at=State.VAL_CHECK),
    Claim("a validation ends after its last batch", a_validation_is_over, at=State.VAL_CHECK,
          to={State.EPOCH_END, State.EARLY_STOP}),
    Claim("before a validation, all its batches are left", a_validation_is_ahead,
          at=all_except(State.VAL_CHECK, State.STOPPED)),
    Claim("validations_done counts the validations", validations_done_counts_validations),
    Claim("each visit to test runs one batch of the test", the_test_has_its_batches, at=State.TEST),
    Claim("the test ends after its last batch", the_test_is_over, at=State.TEST, to=State.DONE),
)  # fmt: skip
