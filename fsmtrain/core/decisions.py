"""The table's guards that contain a user's guard, or its default: `step_is_due`, `validation_is_due`, and so on."""

from __future__ import annotations

from attrs import frozen

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Checked, Guards
from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import guard_name, parse_guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard


@frozen(kw_only=True)
class Decisions:
    """The guards of the table with the user's choices filled in."""

    step_is_due: Guard
    open_window_closes: Guard
    validation_is_due: Guard
    save_is_due: Guard
    stop_is_wanted: Guard
    stop_is_due: Guard
    end_is_unsaved: Guard
    training_is_over: Guard
    training_is_over_and_test_follows: Guard


def decisions(guards: Guards) -> Decisions:
    """Return the decisions with the user's guards in place of the defaults."""
    window_is_closed = _window_guard(guards)
    validation_is_wanted = _checked("validate", guards.validate) if guards.validate else ask.validation_interval_is_over
    save_is_wanted = _checked("save", guards.save) if guards.save else ask.never
    another_reason = _checked("stop", guards.stop) if guards.stop else ask.never

    def step_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether to step now: the window is closed, or neither the epoch nor a stop leaves it another backward."""
        return (
            window_is_closed(limits, counters, signals)
            or ask.epoch_has_no_backward_left(limits, counters, signals)
            or ask.stop_has_waited_long_enough(limits, counters, signals)
        )

    def open_window_closes(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether to step now although the forward has no loss: a step is due, and a window is open."""
        return step_is_due(limits, counters, signals) and counters.gathered >= 1

    def validation_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether there are val batches and a validation is wanted now."""
        return limits.validates and validation_is_wanted(limits, counters, signals)

    def save_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether a checkpoint is wanted at the end of this batch and not yet written."""
        return not counters.saved and save_is_wanted(limits, counters, signals)

    def stop_is_wanted(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether a limit is reached, or there is another reason to stop and the minima allow it, or a stop waits."""
        return (
            limits.is_past_last_epoch
            or counters.batches_waited >= 1
            or ask.steps_are_exhausted(limits, counters, signals)
            or ask.time_is_up(limits, counters, signals)
            or (
                ask.enough_epochs_are_done(limits, counters, signals)
                and ask.enough_steps_are_done(limits, counters, signals)
                and (ask.patience_is_exhausted(limits, counters, signals) or another_reason(limits, counters, signals))
            )
        )

    def stop_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether to end the epoch early, here; never while an optimizer has a window open."""
        return ask.windows_are_closed(limits, counters, signals) and stop_is_wanted(limits, counters, signals)

    def training_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether the epoch that has just finished was the last one."""
        return ask.epoch_is_finished(limits, counters, signals) and (
            ask.epochs_are_exhausted(limits, counters, signals) or stop_is_wanted(limits, counters, signals)
        )

    def end_is_unsaved(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether the run ends by itself here, and is to be saved before."""
        return (limits.saves_end and not counters.saved) and (
            training_is_over(limits, counters, signals) or stop_is_due(limits, counters, signals)
        )

    def training_is_over_and_test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether training is over and the run continues with the test."""
        return ask.test_follows(limits, counters, signals) and training_is_over(limits, counters, signals)

    return Decisions(
        step_is_due=step_is_due,
        open_window_closes=open_window_closes,
        validation_is_due=validation_is_due,
        save_is_due=save_is_due,
        stop_is_wanted=stop_is_wanted,
        stop_is_due=stop_is_due,
        end_is_unsaved=end_is_unsaved,
        training_is_over=training_is_over,
        training_is_over_and_test_follows=training_is_over_and_test_follows,
    )


def _window_guard(guards: Guards) -> Guard:
    """Return the guard that closes the window of the current optimizer: its own guard, or the default."""
    decision: Guard = ask.window_is_full
    for index, own in sorted(guards.step.items(), reverse=True):
        decision = _own_or_others(index, _checked("step", own, index), decision)
    return decision


def _checked(field: str, guard: Guard, optimizer_i: int | None = None) -> Guard:
    name = guard_name(guard) if optimizer_i is None else f"{{{optimizer_i}: {guard_name(guard)}}}"
    return Checked(guard, f"{field}={name}", is_opaque(parse_guard(guard)))


def _own_or_others(index: int, own: Guard, others: Guard) -> Guard:
    """Return a guard that is `own` for one optimizer and `others` for the rest."""

    def window_is_closed(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return (counters.optimizer_i == index and own(limits, counters, signals)) or (
            counters.optimizer_i != index and others(limits, counters, signals)
        )

    return window_is_closed
