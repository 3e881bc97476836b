"""Where a run resumes (`ResumePoint`), and what its counters and signals are under limits that may be others than before.

A limit that has been passed already counts as reached: what is due is done at the next moment at which it can be. Most of
that follows from the guards, which ask whether a limit is reached or passed. Here is what does not.

Source: semantics, "Resumed runs keep every rule".
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve, frozen

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import SIGNAL_DEFAULTS, Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.folding import may_change
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.errors import ResumeError


@frozen(kw_only=True)
class ResumePoint:
    """Where a run resumes: in a state, before or after its work, with these counters and signals.

    Attributes:
        state: The state.
        work_done: Whether its work is done, so that only its guards are asked.
        counters, signals: Those of the run.
        validations_waited: Validations since early stopping's best one; 0 without early stopping.
        limits_differ: Whether the limits or guards are others than those of the run that was saved.
    """

    state: State
    work_done: bool
    counters: Counters
    signals: Signals
    validations_waited: int = 0
    limits_differ: bool = False

    @property
    def is_within_epoch(self) -> bool:
        """Whether an epoch has begun that has not been counted as done."""
        if self.state.info.place in ("before training", "after training"):
            return False
        return self.counters.epochs_done == self.counters.current_epoch

    @property
    def batches_done(self) -> int:
        """The complete batches of the epoch under way; 0 between two epochs."""
        if not self.is_within_epoch:
            return 0
        is_done = self.state.info.batch_is_done or (self.state is State.ROUND_END and not self.is_within_batch)
        return self.counters.batch_nb + is_done

    @property
    def is_within_batch(self) -> bool:
        """Whether the batch has another split or another optimizer's turn."""
        return self.state is State.ROUND_END and self.counters.split_nb + 1 < self.counters.batch_splits


def limits_from(limits: Limits, at: ResumePoint) -> Limits:
    """Return the limits of a run that resumes there."""
    return evolve(
        limits,
        is_past_last_epoch=at.is_within_epoch and ask.epochs_are_exhausted(limits, at.counters, at.signals),
        begins_in_window=at.limits_differ and at.counters.open_windows > 0,
    )


# ---- what changes, in functions that the proofs read as they read effects (`prove.loop_model.effect_ast`)

Adoption = Callable[[Limits, Counters, Signals], None]


def reset_unused_counters(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Reset the counters that a run with these limits never changes."""
    if not limits.splits_batches:
        counters.split_nb = 0
        counters.batch_splits = 1
    if not limits.has_own_step:
        counters.steps_made = 1
    if not limits.may_return_none:
        counters.left_out = [0 for _ in counters.left_out]


def reset_unused_saved(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Reset `saved` in a run without a save guard, unless its end is saved."""
    if not limits.saves_end:
        counters.saved = False


def adopt_val_check_epochs(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Count an interval between epochs with validations that has been passed as reached."""
    if counters.epochs_since_validation > limits.val_check_epochs:
        counters.epochs_since_validation = limits.val_check_epochs


def adopt_window_length(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Take over K of the current epoch."""
    counters.window_length = limits.window_of(counters.current_epoch)


def ask_anew_whether_a_stop_is_due(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Forget how long a stop has waited for open windows."""
    counters.batches_waited = 0


def adopt_epoch_lengths(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Expect later epochs to be as long as this run's first one."""
    signals.epoch_length = limits.train_batches
    signals.epoch_val_interval = limits.val_check_batches


def adopt_epoch_lengths_in_fetch(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Expect later epochs to be as long as this run's first one, unless the epoch's first fetch is to say it."""
    if counters.batch_nb != 0:
        signals.epoch_length = limits.train_batches
        signals.epoch_val_interval = limits.val_check_batches


def lengthen_epoch_to_this_batch(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Lengthen an epoch of known length to the batch under way."""
    if ask.epoch_is_under_way(limits, counters, signals) and 1 <= counters.epoch_batches <= counters.batch_nb:
        counters.epoch_batches = counters.batch_nb + 1


def lengthen_epoch_to_close_windows(limits: Limits, counters: Counters, signals: Signals) -> None:
    """Lengthen an epoch of known length to the batch that closes the open windows: the next one, unless splits are left."""
    if (
        ask.epoch_is_under_way(limits, counters, signals)
        and counters.open_windows >= 1
        and counters.split_nb + 1 >= counters.batch_splits
        and 1 <= counters.epoch_batches <= counters.batch_nb + 1
    ):
        counters.epoch_batches = counters.batch_nb + 2


def adoptions(state: State, guards: Guards, *, limits_differ: bool = True) -> tuple[Adoption, ...]:
    """Return what changes in a run that resumes in this state, in this order."""
    changes: list[Adoption] = [reset_unused_counters, adopt_val_check_epochs]
    if guards.save is None:
        changes.append(reset_unused_saved)
    within_training = state.info.place not in ("before training", "after training")
    if within_training or limits_differ:
        changes.append(adopt_window_length)
    if limits_differ:
        changes.append(ask_anew_whether_a_stop_is_due)
        changes.append(adopt_epoch_lengths_in_fetch if state is State.FETCH else adopt_epoch_lengths)
    if limits_differ and within_training:
        changes.append(lengthen_epoch_to_this_batch)
        if state is not State.FETCH:
            changes.append(lengthen_epoch_to_close_windows)
    return tuple(changes)


def adopt_limits(at: ResumePoint, limits: Limits, guards: Guards) -> ResumePoint:
    """Return the same resume point for a run with these limits, which may be others than those of the run that was saved.

    Where all are the same, nothing changes. The length and the interval of the epoch under way, which are counters, are those
    of this run already.

    Raises:
        ResumeError: The run cannot resume there: it does not train, or the batch under way has splits and its batches have not.
    """
    counters, signals = at.counters.copy(), at.signals.copy()
    if limits.epochs == 0 and at.state.info.place not in ("before training", "after training"):
        raise ResumeError(
            "max_nb_epochs=0: a run without epochs cannot continue from within its training. To end the run where it is, pass "
            "any max_nb_epochs from 1 up to the epochs that are done."
        )
    if at.is_within_batch and not limits.splits_batches:
        raise ResumeError(
            f"truncated_bptt_steps=None: the checkpoint is between two splits of a batch ({counters.split_nb + 1} of "
            f"{counters.batch_splits} done). Use the saved value, or a checkpoint from the end of a batch."
        )
    for name, default in SIGNAL_DEFAULTS.items():
        if not may_change(name, limits):
            setattr(signals, name, default)
    for change in adoptions(at.state, guards, limits_differ=at.limits_differ):
        change(limits, counters, signals)
    state, work_done, now = at.state, at.work_done, limits_from(limits, at)
    if state is State.EPOCH_END and counters.epoch_ended_early and not decisions(guards).stop_is_due(now, counters, signals):
        state, counters.epoch_ended_early = State.EARLY_STOP, False  # what ended the epoch no longer holds: it continues
    if state is State.EARLY_STOP and at.is_within_epoch and ask.epoch_is_over(now, counters, signals):
        state, work_done = State.EPOCH_END, False  # it has as many batches as an epoch has now
    return evolve(at, state=state, work_done=work_done, counters=counters, signals=signals)
