"""Assumptions about resuming: which moments of a run a checkpoint holds, what loading one does, and with which limits.

A checkpoint of a run with some limits (`saved_limits`) is resumed by a run with others (`limits`). What happens to the counters
and signals is `core.resume_point`, which proofs read; here is the rest: what the runtime restores, what it refuses, and what
becomes of the ghost state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from attrs import frozen

from fsmtrain.core.counters import SIGNAL_DEFAULTS, SIGNALS, Counters, Signals
from fsmtrain.core.guard_ast.expressions import Apply, Field, Value
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.loop_model.effect_ast import Assign, Branch, Changes
from fsmtrain.prove.loop_model.ghost_state import GhostState, Inputs, record_due_stop

Pass = Literal["none", "continues", "begins again"]
Epoch = Literal["any", "ended early", "continues", "is complete"]


def fits(limits: Limits, saved_limits: Limits) -> bool:
    """Return whether the two runs have as many optimizers, and both or neither a stream, and manual optimization."""
    return (
        limits.optimizers == saved_limits.optimizers and limits.train_is_stream == saved_limits.train_is_stream
        and limits.manual_optimization == saved_limits.manual_optimization
    )  # fmt: skip


def trains(limits: Limits) -> bool:
    """Return whether the run has epochs: one without is not resumed within its training."""
    return limits.epochs >= 1


def no_split_is_left_out(limits: Limits, counters: Counters) -> bool:
    """Return whether a batch that was saved between two of its splits is resumed with splits."""
    return limits.splits_batches or counters.split_nb + 1 >= counters.batch_splits


def the_end_was_not_being_saved(counters: Counters) -> bool:
    """Return whether `save` was visited within an epoch by a save guard."""
    return counters.ending == 0


def the_end_was_being_saved(counters: Counters) -> bool:
    """Return whether `save` was visited where the run ended by itself."""
    return counters.ending == 1


def the_epoch_had_ended_early(counters: Counters) -> bool:
    """Return whether the epoch had ended early: a run is not saved at the end of a complete epoch."""
    return counters.epoch_ended_early


def has_this_sanity_pass(limits: Limits, saved_limits: Limits) -> bool:
    """Return whether the sanity pass has the batches that it had."""
    return (
        limits.has_sanity and limits.sanity_batches == saved_limits.sanity_batches
        and limits.evaluates_stream == saved_limits.evaluates_stream
    )  # fmt: skip


def has_this_validation(limits: Limits, saved_limits: Limits) -> bool:
    """Return whether a validation has the batches that it had."""
    return (
        limits.validates and limits.val_batches == saved_limits.val_batches
        and limits.evaluates_stream == saved_limits.evaluates_stream
    )  # fmt: skip


def has_this_test(limits: Limits, saved_limits: Limits) -> bool:
    """Return whether the test has the batches that it had."""
    return (
        limits.tests and limits.test_batches == saved_limits.test_batches
        and limits.evaluates_stream == saved_limits.evaluates_stream
    )  # fmt: skip


def validates(limits: Limits) -> bool:
    """Return whether the run has validations."""
    return limits.validates


def does_not_validate(limits: Limits) -> bool:
    """Return whether the run has no validations."""
    return not limits.validates


def tests(limits: Limits) -> bool:
    """Return whether the run ends with a test."""
    return limits.tests


@frozen(kw_only=True)
class Resumption:
    """A moment that a checkpoint can hold, and where a run continues from it.

    Attributes:
        saved_in: The state that was visited when the checkpoint was made.
        point: The state that the checkpoint names.
        state: Where the run continues.
        work_done: Whether the work of the state is done, so that only its guards are asked.
        was_begun: Whether the work of `saved_in` had been done: after it, or before.
        passes: What becomes of a pass over val or test loaders.
        epoch: Whether, under the new limits, the epoch has ended early too, or continues, or has all its batches.
        when: What holds of it, beside `fits`.
    """

    saved_in: State
    point: State
    state: State
    work_done: bool = True
    was_begun: bool = True
    passes: Pass = "none"
    epoch: Epoch = "any"
    when: tuple[Callable[..., bool], ...] = ()

    @property
    def is_within_training(self) -> bool:
        """Whether an epoch may be under way."""
        return self.point.info.place not in ("before training", "after training")

    def __str__(self) -> str:
        return f"saved in {self.saved_in}, resumed {'after' if self.work_done else 'before'} {self.state} ({self.passes})"


def _resumptions() -> Iterator[Resumption]:
    yield Resumption(saved_in=State.START, point=State.START, state=State.START)
    yield Resumption(saved_in=State.SANITY_VAL, point=State.START, state=State.START, work_done=False, passes="begins again")
    same_pass: Mapping[State, Callable[..., bool]] = {
        State.SANITY_VAL: has_this_sanity_pass,
        State.VAL_CHECK: has_this_validation,
        State.TEST: has_this_test,
    }
    for state, is_same in same_pass.items():
        needs: tuple[Callable[..., bool], ...] = (is_same, trains) if state is State.VAL_CHECK else (is_same,)
        for begun in (False, True):
            yield Resumption(
                saved_in=state, point=state, state=state, work_done=begun, was_begun=begun, passes="continues", when=needs
            )
    for state, has_it in ((State.VAL_CHECK, validates), (State.TEST, tests)):
        yield Resumption(saved_in=state, point=state, state=state, work_done=False, passes="begins again", when=(has_it,))
    yield Resumption(
        saved_in=State.VAL_CHECK, point=State.ROUND_END, state=State.ROUND_END, passes="begins again",
        when=(does_not_validate, trains),
    )  # fmt: skip
    yield Resumption(
        saved_in=State.FETCH, point=State.FETCH, state=State.FETCH, work_done=False, was_begun=False, when=(trains,)
    )
    yield Resumption(
        saved_in=State.ROUND_END, point=State.ROUND_END, state=State.ROUND_END, when=(trains, no_split_is_left_out)
    )
    yield Resumption(
        saved_in=State.SAVE, point=State.ROUND_END, state=State.ROUND_END, when=(trains, the_end_was_not_being_saved)
    )
    ways_on: Mapping[Epoch, State] = {
        "continues": State.EARLY_STOP, "is complete": State.EPOCH_END, "ended early": State.EPOCH_END,
    }  # fmt: skip
    saved_at: Mapping[State, tuple[Callable[..., bool], ...]] = {
        State.SAVE: (trains, the_end_was_being_saved), State.EARLY_STOP: (trains,),
    }  # fmt: skip
    for saved_in, when in saved_at.items():
        for epoch, state in ways_on.items():
            if epoch != "ended early":
                yield Resumption(
                    saved_in=saved_in,
                    point=State.EARLY_STOP,
                    state=state,
                    work_done=epoch == "continues",
                    epoch=epoch,
                    when=when,
                )
    for epoch, state in ways_on.items():
        yield Resumption(
            saved_in=State.EPOCH_END, point=State.EPOCH_END, state=state, work_done=epoch != "is complete", epoch=epoch,
            when=(trains, the_epoch_had_ended_early),
        )  # fmt: skip


RESUMPTIONS = tuple(_resumptions())


# ---- the limits of a resumed run, as `resume_point.limits_from` sets them


def an_epoch_past_the_last_is_under_way(limits: Limits, counters: Counters) -> bool:
    """Return whether an epoch is under way although ``max_nb_epochs`` are done."""
    return counters.epochs_done == counters.current_epoch and counters.epochs_done >= limits.epochs


def a_window_is_open(counters: Counters) -> bool:
    """Return whether an optimizer has a window open, which other limits may have begun."""
    return counters.open_windows > 0


LIMITS_OF_RESUMED_RUNS: Mapping[str, Callable[..., bool]] = {
    "is_past_last_epoch": an_epoch_past_the_last_is_under_way,
    "begins_in_window": a_window_is_open,
}


def windows_are_as_before(limits: Limits, ghost: GhostState) -> bool:
    """Return whether, of a run without accumulation, none that may hold several backwards is open."""
    return not (ghost.never_accumulates and limits.begins_in_window)


# ---- what loading a checkpoint does, before the limits are adopted


def load(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState, inputs: Inputs) -> None:
    """Load a checkpoint: no request is in it, and the epoch under way has this run's length and interval."""
    signals.stop_requested = inputs.stop
    counters.ending = 0
    ghost.epoch_window = inputs.window
    if ghost.fetched_in_epoch == 0:
        ghost.batches_left = inputs.batches
    else:
        ghost.interval = inputs.interval
        counters.epoch_val_check_batches = inputs.interval
        if not limits.train_is_stream:
            counters.epoch_batches = inputs.batches


def load_patience(signals: Signals, inputs: Inputs) -> None:
    """Ask this run's rules whether patience is exhausted, and whether its time is up."""
    signals.patience_exhausted = inputs.patience_exhausted
    signals.time_is_up = inputs.time_is_up


def load_passes(ghost: GhostState, inputs: Inputs) -> None:
    """Choose how many batches each pass over val or test loaders will have."""
    ghost.sanity_left = inputs.sanity_batches
    ghost.validation_left = inputs.val_check_batches
    ghost.test_left = inputs.test_batches


def load_passes_in_sanity_val(ghost: GhostState, inputs: Inputs) -> None:
    """The same, within a sanity pass."""
    ghost.validation_left = inputs.val_check_batches
    ghost.test_left = inputs.test_batches


def load_passes_in_validation(ghost: GhostState, inputs: Inputs) -> None:
    """The same, within a validation."""
    ghost.sanity_left = inputs.sanity_batches
    ghost.test_left = inputs.test_batches


def load_passes_in_test(ghost: GhostState, inputs: Inputs) -> None:
    """The same, within a test."""
    ghost.sanity_left = inputs.sanity_batches
    ghost.validation_left = inputs.val_check_batches


def begin_pass_again(counters: Counters) -> None:
    """Begin a pass at its first batch: its loaders are others now."""
    counters.eval_nb = 0


def loading(resumption: Resumption) -> tuple[Callable[..., None], ...]:
    """Return what loading a checkpoint of this kind does."""
    within: Mapping[State, Callable[..., None]] = {
        State.SANITY_VAL: load_passes_in_sanity_val,
        State.VAL_CHECK: load_passes_in_validation,
        State.TEST: load_passes_in_test,
    }
    patience = () if resumption.point.info.place == "before training" else (load_patience,)
    if resumption.passes == "continues":
        return load, *patience, within[resumption.saved_in]
    again = (begin_pass_again,) if resumption.passes == "begins again" else ()
    return load, *patience, load_passes, *again


# The signals that a run with these limits never changes have their defaults: the loop in `adopt_limits`, as changes.
FORGOTTEN_SIGNALS: Changes = tuple(
    Branch(Apply("not", (Field("limits", info.needs),)), (Assign(Field("signals", name), Value(SIGNAL_DEFAULTS[name])),))
    for name, info in SIGNALS.items()
    if info.needs
)


def epoch_continues(counters: Counters) -> None:
    """Take back that the epoch has ended early."""
    counters.epoch_ended_early = False


# ---- what becomes of the ghost state, once the limits are adopted


def resume_ghost(limits: Limits, counters: Counters, ghost: GhostState) -> None:
    """Continue the history under the new limits: what was passed already counts as reached."""
    ghost.is_resumed = True
    ghost.is_resumed_in_fetch = False
    ghost.is_resumed_in_validation = False
    ghost.epochs_before = counters.epochs_done
    ghost.gathered_before = ghost.pending
    ghost.batches_waited = counters.batches_waited
    ghost.epochs_in_interval = counters.epochs_since_validation
    ghost.epochs_in_intervals = ghost.epochs_begun - counters.epochs_since_validation
    if not limits.may_return_none:
        ghost.left_out = 0
    if not counters.saved:
        ghost.saves_left = 1
    if ghost.fetched_in_epoch >= 1:
        ghost.epoch_window = counters.window_length
        if not limits.train_is_stream:
            ghost.batches_left = counters.epoch_batches - ghost.fetched_in_epoch


def resume_interval_at_round_end(counters: Counters, ghost: GhostState) -> None:
    """Continue the interval between validations; one that is passed is over with this batch."""
    ghost.interval_under_way = ghost.interval
    if counters.batches_since_validation >= ghost.interval:
        ghost.interval_under_way = counters.batches_since_validation
    ghost.batches_in_interval = counters.batches_since_validation
    ghost.batches_in_intervals = ghost.fetched_in_epoch - ghost.batches_in_interval


def resume_interval_in_validation(ghost: GhostState) -> None:
    """Continue with the interval that this validation ends, whether or not the epoch is one with validations now."""
    ghost.is_resumed_in_validation = True
    ghost.interval_under_way = ghost.interval
    ghost.batches_in_interval = ghost.interval
    ghost.batches_in_intervals = ghost.fetched_in_epoch - ghost.batches_in_interval


def resume_interval_before_a_batch(counters: Counters, ghost: GhostState) -> None:
    """Continue the interval between validations; one that is passed is over with the next batch."""
    ghost.interval_under_way = ghost.interval
    if counters.batches_since_validation >= ghost.interval:
        ghost.interval_under_way = counters.batches_since_validation + 1
    ghost.batches_in_interval = counters.batches_since_validation
    if counters.batches_since_validation == 0:
        ghost.interval_under_way = ghost.interval
        ghost.batches_in_interval = ghost.interval
    ghost.batches_in_intervals = ghost.fetched_in_epoch - ghost.batches_in_interval


def resume_test(ghost: GhostState) -> None:
    """Note that the run continues within its test, whatever its limits for the training."""
    ghost.is_resumed_in_test = True


def resume_fetch(counters: Counters, ghost: GhostState) -> None:
    """Note that a batch is fetched before it is asked whether a stop is due under the new limits."""
    ghost.is_resumed_in_fetch = True
    if counters.batches_waited >= 1:  # the batch counts when it is fetched
        ghost.batches_waited = counters.batches_waited - 1
    if ghost.fetched_in_epoch == 0:  # an epoch counts from its first batch on
        ghost.epochs_in_interval = counters.epochs_since_validation - 1
        ghost.epochs_in_intervals = ghost.epochs_begun - ghost.epochs_in_interval


def resuming_ghost(state: State) -> tuple[Callable[..., None], ...]:
    """Return what becomes of the ghost state of a run that continues in this state."""
    if state.info.place == "before training":
        return (resume_ghost,)
    if state is State.TEST:
        return resume_ghost, resume_test
    if state is State.ROUND_END:
        return resume_ghost, resume_interval_at_round_end, record_due_stop
    if state is State.VAL_CHECK:
        return resume_ghost, resume_interval_in_validation
    if state is State.FETCH:
        return resume_ghost, resume_interval_before_a_batch, resume_fetch
    if state is State.EARLY_STOP:
        return resume_ghost, resume_interval_before_a_batch, record_due_stop
    return resume_ghost, resume_interval_before_a_batch
