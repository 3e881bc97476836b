"""Claims about checks, the sanity pass and the test: each comes when it is due, and has exactly its batches."""

from __future__ import annotations

from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import IN_EPOCH, IN_ROUND, Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState

BEFORE_CHECKS = IN_ROUND | {State.SAVE}


def batches_are_whole_intervals_and_one_under_way(limits: Limits, ghost: GhostState) -> bool:
    return not limits.validates or (
        ghost.fetched_in_epoch == ghost.batches_in_intervals + ghost.batches_in_interval
        and ghost.batches_in_interval >= 1 and ghost.batches_in_interval <= limits.val_check_batches
    )  # fmt: skip


def epochs_are_whole_intervals_and_one_under_way(limits: Limits, ghost: GhostState) -> bool:
    return (
        ghost.epochs_begun == ghost.epochs_in_intervals + ghost.epochs_in_interval
        and ghost.epochs_in_interval >= 1 and ghost.epochs_in_interval <= limits.val_check_epochs
    )  # fmt: skip


def epochs_since_checks_are_the_intervals(counters: Counters, ghost: GhostState) -> bool:
    return counters.epochs_since_validation == ghost.epochs_in_interval


def batches_since_check_are_the_intervals(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_validation != limits.val_check_epochs
        or counters.batches_since_validation == ghost.batches_in_interval
    )


def a_check_is_due(limits: Limits, ghost: GhostState) -> bool:
    return (
        limits.validates
        and ghost.batches_in_interval == limits.val_check_batches
        and ghost.epochs_in_interval == limits.val_check_epochs
    )


def no_check_is_due(limits: Limits, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or ghost.batches_in_interval != limits.val_check_batches
        or ghost.epochs_in_interval != limits.val_check_epochs
    )


def after_a_check_its_interval_is_over(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return counters.batches_since_validation == 0 and ghost.batches_in_interval == limits.val_check_batches


def batches_since_check_wait_for_the_next(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_validation != limits.val_check_epochs
        or counters.batches_since_validation + 1 == ghost.batches_in_interval
    )


def batches_since_check_are_the_intervals_or_none(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return (
        not limits.validates
        or counters.epochs_since_validation != limits.val_check_epochs
        or ghost.fetched_in_epoch == 0
        or (
            counters.batches_since_validation == ghost.batches_in_interval
            and ghost.batches_in_interval != limits.val_check_batches
        )
        or (counters.batches_since_validation == 0 and ghost.batches_in_interval == limits.val_check_batches)
    )


def a_sanity_pass_is_ahead(limits: Limits, ghost: GhostState) -> bool:
    return ghost.sanity_left >= 1 and (limits.sanity_batches == 0 or ghost.sanity_left == limits.sanity_batches)


def a_check_is_ahead(limits: Limits, ghost: GhostState) -> bool:
    return ghost.validation_left >= 1 and (limits.val_batches == 0 or ghost.validation_left == limits.val_batches)


def a_test_is_ahead(limits: Limits, ghost: GhostState) -> bool:
    return ghost.test_left >= 1 and (limits.test_batches == 0 or ghost.test_left == limits.test_batches)


def no_sanity_pass_was_asked_for(limits: Limits) -> bool:
    return not limits.has_sanity


def the_sanity_pass_has_its_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.sanity_left >= 0 and (
        limits.sanity_batches == 0 or counters.eval_nb + 1 + ghost.sanity_left == limits.sanity_batches
    )


def the_sanity_pass_is_over(ghost: GhostState) -> bool:
    return ghost.sanity_left == 0


def a_check_has_its_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.validation_left >= 0 and (
        limits.val_batches == 0 or counters.eval_nb + 1 + ghost.validation_left == limits.val_batches
    )


def a_check_is_over(ghost: GhostState) -> bool:
    return ghost.validation_left == 0


def the_test_has_its_batches(limits: Limits, counters: Counters, ghost: GhostState) -> bool:
    return ghost.test_left >= 0 and (limits.test_batches == 0 or counters.eval_nb + 1 + ghost.test_left == limits.test_batches)


def the_test_is_over(ghost: GhostState) -> bool:
    return ghost.test_left == 0


def checks_are_counted(counters: Counters, ghost: GhostState) -> bool:
    return counters.validations_done == ghost.validations


VALIDATION: tuple[Claim, ...] = (
    Claim("batches: whole check intervals and one under way", batches_are_whole_intervals_and_one_under_way, IN_EPOCH,
          built_in="validate"),
    Claim("epochs: whole check intervals and one under way", epochs_are_whole_intervals_and_one_under_way,
          IN_EPOCH | {State.EARLY_STOP}),
    Claim("epochs_since_validation is the place in the interval of epochs", epochs_since_checks_are_the_intervals),
    Claim("batches_since_validation is the place in the interval", batches_since_check_are_the_intervals, BEFORE_CHECKS,
          built_in="validate"),
    Claim("... one less while a batch is fetched", batches_since_check_wait_for_the_next, frozenset({State.FETCH}),
          built_in="validate"),
    Claim("... and 0 in a check", after_a_check_its_interval_is_over, frozenset({State.VAL_CHECK}), built_in="validate"),
    Claim("... and 0 after a check", batches_since_check_are_the_intervals_or_none, frozenset({State.EARLY_STOP}),
          built_in="validate"),
    Claim("a check happens only when it is due", a_check_is_due, frozenset({State.VAL_CHECK}), built_in="validate"),
    Claim("no check that is due is left out", no_check_is_due, frozenset({State.ROUND_END}),
          frozenset({State.FETCH, State.EPOCH_END, State.EARLY_STOP}), built_in="validate"),
    Claim("before the sanity pass all its batches are ahead", a_sanity_pass_is_ahead, frozenset({State.START})),
    Claim("before the test all its batches are ahead", a_test_is_ahead, all_except(State.TEST, State.DONE, State.STOPPED)),
    Claim("each visit to sanity_val is one of its batches", the_sanity_pass_has_its_batches, frozenset({State.SANITY_VAL})),
    Claim("the sanity pass ends after its last batch", the_sanity_pass_is_over, frozenset({State.SANITY_VAL}),
          frozenset({State.FETCH, State.TEST, State.DONE})),
    Claim("it is left out only where it is off", no_sanity_pass_was_asked_for, frozenset({State.START}),
          frozenset({State.FETCH, State.TEST, State.DONE})),
    Claim("each visit to val_check is one of its batches", a_check_has_its_batches, frozenset({State.VAL_CHECK})),
    Claim("a check ends after its last batch", a_check_is_over, frozenset({State.VAL_CHECK}),
          frozenset({State.EPOCH_END, State.EARLY_STOP})),
    Claim("between checks all batches of the next are ahead", a_check_is_ahead, all_except(State.VAL_CHECK, State.STOPPED)),
    Claim("validations_done counts the checks", checks_are_counted),
    Claim("each visit to test is one of its batches", the_test_has_its_batches, frozenset({State.TEST})),
    Claim("the test ends after its last batch", the_test_is_over, frozenset({State.TEST}), frozenset({State.DONE})),
)  # fmt: skip
