"""Claims about validation, the sanity pass and the test: each comes when it is due, and runs exactly its batches."""

from __future__ import annotations

from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import AFTER_FETCH, IN_EPOCH, IN_ROUND, Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState

BEFORE_VALIDATION = IN_ROUND | {State.SAVE}


def batches_are_whole_intervals_and_the_current_one(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return not limits.validates or ghost.fetched_in_epoch == 0 or (
        ghost.fetched_in_epoch == ghost.batches_in_intervals + ghost.batches_in_interval
        and (ghost.batches_in_interval >= 1 or (ghost.is_resumed and ghost.batches_in_interval == 0))
        and ghost.batches_in_interval <= ghost.interval_under_way
    )  # fmt: skip


def the_interval_under_way_is_the_epochs(ghost: GhostState) -> bool:
    return ghost.interval_under_way == ghost.interval


def an_interval_has_a_batch(limits: Limits, ghost: GhostState) -> bool:
    return limits.val_check_batches == 0 or ghost.fetched_in_epoch == 0 or ghost.interval >= 1


def an_interval_that_was_passed_is_over(counters: Counters, ghost: GhostState) -> bool:
    return (
        ghost.fetched_in_epoch == 0
        or counters.ending == 1
        or ghost.interval_under_way == ghost.interval
        or (ghost.interval_under_way >= ghost.interval and ghost.batches_in_interval == ghost.interval_under_way)
    )


def an_interval_that_was_passed_is_over_with_the_next_batch(ghost: GhostState) -> bool:
    return ghost.fetched_in_epoch == 0 or ghost.interval_under_way == ghost.interval or (
        ghost.interval_under_way >= ghost.interval
        and (ghost.batches_in_interval == ghost.interval_under_way
             or ghost.batches_in_interval + 1 == ghost.interval_under_way)
    )  # fmt: skip


def a_batch_was_begun_since_the_validation(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        counters.batches_since_validation >= 1
        or counters.ending == 1
        or (ghost.is_resumed and counters.batches_since_validation == 0)
    )


def no_batch_was_begun_in_a_new_epoch(counters: Counters) -> bool:
    return counters.batch_nb != 0 or counters.batches_since_validation == 0


def batches_since_validation_is_natural(counters: Counters) -> bool:
    return counters.batches_since_validation >= 0


def epochs_are_whole_intervals_and_the_current_one(limits: Limits, ghost: GhostState) -> bool:
    return (
        ghost.epochs_begun == ghost.epochs_in_intervals + ghost.epochs_in_interval
        and ghost.epochs_in_interval >= 1 and ghost.epochs_in_interval <= limits.val_check_epochs
    )  # fmt: skip


def epochs_since_validation_is_in_range(limits: Limits, counters: Counters) -> bool:
    return counters.epochs_since_validation >= 1 and counters.epochs_since_validation <= limits.val_check_epochs


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
        limits.validates and ghost.batches_in_interval == ghost.interval_under_way
        and (ghost.epochs_in_interval == limits.val_check_epochs or ghost.is_resumed_in_validation)
    )  # fmt: skip


def validation_is_not_due(limits: Limits, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or ghost.batches_in_interval != ghost.interval_under_way
        or ghost.epochs_in_interval != limits.val_check_epochs
    )


def batches_since_validation_is_0(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.batches_since_validation == 0 and ghost.batches_in_interval == ghost.interval_under_way


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
        or (counters.batches_since_validation == ghost.batches_in_interval
            and ghost.batches_in_interval != ghost.interval_under_way)
        or (counters.batches_since_validation == 0 and ghost.batches_in_interval == ghost.interval_under_way)
    )  # fmt: skip


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
    Claim("batches_since_validation is never negative", batches_since_validation_is_natural),
    Claim("epochs_since_validation is at least 1 within an epoch, and at most the interval",
          epochs_since_validation_is_in_range, at=IN_EPOCH | {State.EARLY_STOP}),
    Claim("the epochs of a run are whole validation intervals and the current one",
          epochs_are_whole_intervals_and_the_current_one, at=IN_EPOCH | {State.EARLY_STOP}, group="epochs"),
    Claim("epochs_since_validation is the position in the interval of epochs", epochs_since_validation_is_the_position,
          group="epochs"),
    Claim("an interval has a batch", an_interval_has_a_batch, at=AFTER_FETCH | {State.FETCH, State.EARLY_STOP}),
    Claim("within an epoch, the interval under way has its length", the_interval_under_way_is_the_epochs,
          resumed=False),
    Claim("an interval that a resumed run had passed is over with this batch", an_interval_that_was_passed_is_over,
          at=AFTER_FETCH | {State.FETCH}, group="passed"),
    Claim("an interval that a resumed run had passed is over with the next batch at most",
          an_interval_that_was_passed_is_over_with_the_next_batch, at=State.EARLY_STOP, group="passed"),
    Claim("batches_since_validation is 0 when the first batch of an epoch is fetched", no_batch_was_begun_in_a_new_epoch,
          at=State.FETCH),
    Claim("a batch has begun since the last validation", a_batch_was_begun_since_the_validation, at=BEFORE_VALIDATION),
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
    Claim("the batches of an epoch are whole validation intervals and the current one",
          batches_are_whole_intervals_and_the_current_one, at=IN_EPOCH | {State.EARLY_STOP}, built_in="validate",
          group="interval"),
    Claim("batches_since_validation is the position in the interval of batches", batches_since_validation_is_the_position,
          at=BEFORE_VALIDATION, built_in="validate", group="interval"),
    Claim("batches_since_validation is one less while a batch is fetched", batches_since_validation_is_one_behind,
          at=State.FETCH, built_in="validate", group="interval"),
    Claim("batches_since_validation is 0 in a validation", batches_since_validation_is_0, at=State.VAL_CHECK,
          built_in="validate", group="interval"),
    Claim("batches_since_validation is 0 after a validation", batches_since_validation_is_the_position_or_0,
          at=State.EARLY_STOP, built_in="validate", group="interval"),
    Claim("a validation happens only when it is due", validation_is_due, at=State.VAL_CHECK, built_in="validate",
          group="interval"),
    Claim("no validation that is due is omitted", validation_is_not_due, at=State.ROUND_END,
          to={State.FETCH, State.EPOCH_END, State.EARLY_STOP}, built_in="validate"),
    Claim("validations_done counts the validations", validations_done_counts_validations),
    Claim("each visit to test runs one batch of the test", the_test_has_its_batches, at=State.TEST),
    Claim("the test ends after its last batch", the_test_is_over, at=State.TEST, to=State.DONE),
)  # fmt: skip
