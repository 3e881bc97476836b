"""Assumptions of the proofs: which limits exist, which signals each action may write, and what the environment may choose.

Each one is a plain function that `effect_ast` can read. The same lines are translated for the SMT solvers, printed as Promela
for Spin, and run by the tests against `limits.resolve` and against real runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.loop_model.ghost_state import GhostState, Inputs

# ---- limits: what `limits.resolve` guarantees


def counts_are_natural(limits: Limits) -> bool:
    """Return whether no count is negative and there is an optimizer."""
    return (
        limits.epochs >= 0 and limits.min_epochs >= 0 and limits.train_batches >= 0 and limits.val_batches >= 0
        and limits.sanity_batches >= 0 and limits.test_batches >= 0 and limits.val_check_batches >= 0
        and limits.val_check_epochs >= 1 and limits.optimizers >= 1 and limits.longest_window >= 1
        and limits.max_steps >= 0 and limits.min_steps >= 0
    )  # fmt: skip


def epochs_have_batches(limits: Limits) -> bool:
    """Return whether an epoch has a batch, or is a stream, whose total is 0; a run without epochs has neither."""
    return (
        (limits.epochs == 0 or (limits.train_batches >= 1 and not limits.train_is_stream)
         or (limits.train_batches == 0 and limits.train_is_stream))
        and (limits.epochs >= 1 or (limits.train_batches == 0 and not limits.train_is_stream))
    )  # fmt: skip


def min_epochs_fit(limits: Limits) -> bool:
    """Return whether ``min_nb_epochs`` is at most ``max_nb_epochs``, unless the latter is 0."""
    return limits.epochs == 0 or limits.min_epochs <= limits.epochs


def passes_have_batches(limits: Limits) -> bool:
    """Return whether each pass that will run has a batch, or a stream, whose total is 0."""
    return (
        (not limits.validates or limits.val_batches >= 1 or limits.evaluates_stream)
        and (not limits.has_sanity or limits.sanity_batches >= 1 or limits.evaluates_stream)
        and (not limits.tests or limits.test_batches >= 1 or limits.evaluates_stream)
    )  # fmt: skip


def validation_needs_training(limits: Limits) -> bool:
    """Return whether only runs that train validate or have a sanity pass, and only runs that validate stop early."""
    return (
        (limits.fits or (limits.epochs == 0 and not limits.validates and not limits.has_sanity))
        and (not limits.validates or limits.epochs >= 1)
        and (not limits.stops_early or limits.validates)
        and (not limits.saves_end or limits.epochs >= 1)
        and (not limits.has_max_time or limits.epochs >= 1)
    )  # fmt: skip


def validation_interval_fits(limits: Limits) -> bool:
    """Return whether a validation becomes due: its interval is at most an epoch, and some epoch validates.

    Assumed only without ``Guards(validate=...)``.
    """
    return not limits.validates or (
        limits.val_check_batches >= 1
        and (limits.train_is_stream or limits.val_check_batches <= limits.train_batches)
        and limits.val_check_epochs <= limits.epochs
    )


def manual_optimization_is_alone(limits: Limits) -> bool:
    """Return whether a run with manual optimization has one turn a batch, no splits, and no policy about steps."""
    return not limits.manual_optimization or (
        limits.optimizers == 1 and limits.has_own_step and not limits.splits_batches and not limits.may_return_none
        and not limits.skips_steps and not limits.rolls_back and limits.longest_window == 1
    )  # fmt: skip


def run_is_fresh(limits: Limits) -> bool:
    """Return whether the run begins at its beginning; assumed of all runs but those that are resumed with other limits."""
    return not limits.is_past_last_epoch and not limits.begins_in_window


LEGAL_LIMITS: tuple[Callable[[Limits], bool], ...] = (
    counts_are_natural, epochs_have_batches, min_epochs_fit, passes_have_batches, validation_needs_training,
    manual_optimization_is_alone,
)  # fmt: skip


# ---- inputs: what the data and the user may choose


def inputs_are_legal(limits: Limits, ghost: GhostState, inputs: Inputs) -> bool:
    """Return whether data is finite, and each val or test loader with a length yields that many batches.

    Each epoch may have any length, and any interval between validations, if the built-in rule for them is in force.
    """
    return (
        inputs.splits >= 0 and inputs.steps_made >= 0
        and inputs.batches >= 1
        and inputs.interval >= 0 and (limits.val_check_batches == 0 or inputs.interval >= 1)
        and inputs.sanity_batches >= 1 and (limits.sanity_batches == 0 or inputs.sanity_batches == limits.sanity_batches)
        and inputs.val_check_batches >= 1 and (limits.val_batches == 0 or inputs.val_check_batches == limits.val_batches)
        and inputs.test_batches >= 1 and (limits.test_batches == 0 or inputs.test_batches == limits.test_batches)
    )  # fmt: skip


def window_length_is_legal(ghost: GhostState, inputs: Inputs) -> bool:
    """Return whether K of an epoch is at least 1 and agrees with the parameters of the ghost state."""
    return (
        inputs.window >= 1
        and (not ghost.never_accumulates or inputs.window == 1)
        and (ghost.same_window == 0 or inputs.window == ghost.same_window)
    )


# ---- actions: which signals the work of a state may write


def request_stop(signals: Signals, inputs: Inputs) -> None:
    """Request a stop, in any state; a request is never withdrawn."""
    if inputs.stop:
        signals.stop_requested = True


def fetch(limits: Limits, signals: Signals, ghost: GhostState, inputs: Inputs) -> None:
    """Fetch a batch, the first one with the epoch's length and interval between validations.

    Only a stream signals its last batch; only truncated BPTT splits a batch.
    """
    if ghost.fetched_in_epoch == 0:
        ghost.interval = inputs.interval
        signals.epoch_val_interval = inputs.interval
        if not limits.train_is_stream:
            signals.epoch_length = ghost.batches_left
    ghost.batches_left -= 1
    if limits.train_is_stream:
        signals.stream_ended = ghost.batches_left == 0
    if limits.splits_batches:
        signals.splits = inputs.splits


def forward(limits: Limits, signals: Signals, inputs: Inputs) -> None:
    """Run a forward. Its loss may be missing only where ``training_step`` may return None.

    With manual optimization, it makes any number of steps.
    """
    if limits.manual_optimization:
        signals.own_steps = inputs.steps_made
    if limits.may_return_none:
        signals.loss_is_none = inputs.loss_is_none


def end_round(limits: Limits, signals: Signals, inputs: Inputs) -> None:
    """End a turn. Once ``max_time`` is over, it stays so."""
    if limits.has_max_time and inputs.time_is_up:
        signals.time_is_up = True


def step(limits: Limits, signals: Signals, inputs: Inputs) -> None:
    """Step. Only a gradient scaler or ``on_nonfinite`` skips a step; only ``on_nonfinite="rollback"`` rolls back.

    Only an ``optimizer_step`` of the model's own makes another number of steps than one.
    """
    if limits.skips_steps:
        signals.step_skipped = inputs.step_skipped
    if limits.has_own_step:
        signals.own_steps = inputs.steps_made
    if limits.rolls_back:
        signals.nonfinite = inputs.nonfinite


def validate_sanity(limits: Limits, signals: Signals, ghost: GhostState) -> None:
    """Run a batch of the sanity pass. Only a pass with a stream signals its end."""
    ghost.sanity_left -= 1
    signals.pass_ended = limits.sanity_batches == 0 and ghost.sanity_left == 0


def validate(limits: Limits, signals: Signals, ghost: GhostState, inputs: Inputs) -> None:
    """Run a batch of a validation. Early stopping may exhaust its patience, or find an improvement."""
    ghost.validation_left -= 1
    signals.pass_ended = limits.val_batches == 0 and ghost.validation_left == 0
    if limits.stops_early:
        signals.patience_exhausted = inputs.patience_exhausted


def test(limits: Limits, signals: Signals, ghost: GhostState) -> None:
    """Run a batch of the test."""
    ghost.test_left -= 1
    signals.pass_ended = limits.test_batches == 0 and ghost.test_left == 0


def end_epoch(limits: Limits, counters: Counters, signals: Signals, inputs: Inputs) -> None:
    """End an epoch. Early stopping may get a metric of training over it, unless it ended early."""
    if limits.stops_early and not counters.epoch_ended_early:
        signals.patience_exhausted = inputs.patience_exhausted


ACTIONS: Mapping[State, Callable[..., None]] = {
    State.FETCH: fetch,
    State.TRAIN_BATCH: forward,
    State.STEP: step,
    State.ROUND_END: end_round,
    State.SANITY_VAL: validate_sanity,
    State.VAL_CHECK: validate,
    State.EPOCH_END: end_epoch,
    State.TEST: test,
}


# ---- other optimizers


def other_window_is_legal(ghost: GhostState, inputs: Inputs) -> bool:
    """Return whether an optimizer that is not watched may have left this many backwards in its window.

    If it has any, its window is open, beside that of the watched optimizer. The same is proved of the watched optimizer,
    which may be any of them.
    """
    return inputs.gathered >= 0 and (
        inputs.gathered == 0
        or (ghost.open_windows >= 2 and not ghost.never_accumulates)
        or (ghost.open_windows >= 1 and ghost.pending == 0 and not ghost.never_accumulates)
    )


def begin_run(counters: Counters, ghost: GhostState, inputs: Inputs) -> None:
    """Choose the lengths of the first epoch and of the first passes, before the first visit."""
    ghost.batches_left = inputs.batches
    ghost.sanity_left = inputs.sanity_batches
    ghost.validation_left = inputs.val_check_batches
    ghost.test_left = inputs.test_batches
    ghost.epoch_window = inputs.window
