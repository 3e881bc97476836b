"""Where a run resumes (`ResumePoint`), and what its counters and signals are under limits that may be others than before.

A limit that has been passed already counts as reached: what is due is done at the next moment at which it can be. Most of
that follows from the guards, which ask whether a limit is reached or passed. Here is what does not.

Source: semantics, "Resumed runs keep every rule".
"""

from __future__ import annotations

from attrs import evolve, frozen

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
        is_past_last_epoch=at.is_within_epoch and at.counters.epochs_done >= limits.epochs,
        begins_in_window=at.limits_differ and at.counters.open_windows > 0,
    )


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
    for name, default in SIGNAL_DEFAULTS.items():
        if not may_change(name, limits):
            setattr(signals, name, default)
    if not limits.splits_batches:
        if at.is_within_batch:
            raise ResumeError(
                f"truncated_bptt_steps=None: the checkpoint is between two splits of a batch ({counters.split_nb + 1} of "
                f"{counters.batch_splits} done). Use the saved value, or a checkpoint from the end of a batch."
            )
        counters.split_nb, counters.batch_splits = 0, 1
    if not limits.has_own_step:
        counters.steps_made = 1
    if at.limits_differ:
        counters.batches_waited = 0  # whether a stop is due is asked anew
    if not limits.may_return_none:
        counters.left_out = [0 for _ in counters.left_out]
    # What ended the epoch early no longer holds: it continues.
    is_taken_back = counters.epoch_ended_early and not decisions(guards).stop_is_due(limits_from(limits, at), counters, signals)
    if at.is_within_epoch:
        counters.window_length = limits.window_of(counters.current_epoch)
        if at.limits_differ and counters.epoch_batches:
            goes_on = counters.open_windows > 0 or is_taken_back or at.state in (State.FETCH, State.EARLY_STOP)
            least = at.batches_done + goes_on  # a window that is open closes with the next batch
            counters.epoch_batches = max(counters.epoch_batches, least)
    if at.limits_differ and not (at.state is State.FETCH and counters.batch_nb == 0):
        signals.epoch_length, signals.epoch_val_interval = limits.train_batches, limits.val_check_batches
    counters.epochs_since_validation = min(counters.epochs_since_validation, limits.val_check_epochs)
    counters.saved = counters.saved and (guards.save is not None or limits.saves_end)
    state = at.state
    if is_taken_back:
        state, counters.epoch_ended_early = State.EARLY_STOP, False
    return evolve(at, state=state, counters=counters, signals=signals)
