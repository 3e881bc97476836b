"""Claims about the end of a run: after enough epochs and not too many, for a reason, with the test if it was requested."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import STOPPABLE, Claim, a_limit_is_reached, all_except, the_minima_are_reached
from fsmtrain.prove.loop_model.ghost_state import GhostState

AFTER_TRAINING = frozenset(state for state in State if state.info.place == "after training")


def no_stop_is_requested(signals: Signals) -> bool:
    return not signals.stop_requested


def a_stop_is_requested(signals: Signals) -> bool:
    return signals.stop_requested


def enough_is_done(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        counters.epochs_done >= limits.epochs or the_minima_are_reached(limits, counters, signals)
        or a_limit_is_reached(limits, counters, signals) or ghost.is_resumed_in_test
    )  # fmt: skip


def max_epochs_are_done(limits: Limits, counters: Counters) -> bool:
    return not limits.is_past_last_epoch or (limits.epochs >= 1 and counters.epochs_done >= limits.epochs)


def a_stop_waits_after_enough_epochs(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.global_step >= 0 and counters.stepped >= 0 and counters.batches_waited >= 0 and (
        counters.batches_waited == 0
        or (counters.epochs_done >= limits.min_epochs and counters.global_step >= limits.min_steps)
        or a_limit_is_reached(limits, counters, signals)
    )  # fmt: skip


def a_stop_that_waits_counts_every_batch(counters: Counters, ghost: GhostState) -> bool:
    return counters.batches_waited == ghost.batches_waited


def a_stop_waits_for_the_longest_window(limits: Limits, counters: Counters) -> bool:
    return counters.batches_waited <= limits.longest_window + 1


def a_stop_waits_only_for_exhausted_patience(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return counters.batches_waited == 0 or ghost.stop_was_due or a_limit_is_reached(limits, counters, signals)


def no_stop_waits(counters: Counters) -> bool:
    return counters.batches_waited == 0


def nothing_ends_the_run_yet(counters: Counters, signals: Signals) -> bool:
    return not signals.patience_exhausted and not signals.time_is_up and counters.global_step == 0


def an_early_end_needs_a_reason(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        not counters.epoch_ended_early or signals.patience_exhausted or counters.batches_waited >= 1
        or a_limit_is_reached(limits, counters, signals) or ghost.is_resumed_in_test
    )  # fmt: skip


def an_early_end_of_the_run_needs_a_reason(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        counters.epochs_done >= limits.epochs or signals.patience_exhausted or counters.batches_waited >= 1
        or a_limit_is_reached(limits, counters, signals) or ghost.is_resumed_in_test
    )  # fmt: skip


def patience_may_end_the_run_here(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        (a_limit_is_reached(limits, counters, signals) or counters.batches_waited >= 1 or (
            counters.epochs_done >= limits.min_epochs and counters.global_step >= limits.min_steps
            and signals.patience_exhausted))
        and (ghost.open_windows == 0 or counters.batches_waited > limits.longest_window or limits.is_past_last_epoch)
    )  # fmt: skip


def patience_may_not_end_the_run_here(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return (
        (counters.batches_waited == 0 and not a_limit_is_reached(limits, counters, signals) and (
            counters.epochs_done < limits.min_epochs or counters.global_step < limits.min_steps
            or not signals.patience_exhausted))
        or (ghost.open_windows != 0 and counters.batches_waited <= limits.longest_window)
    )  # fmt: skip


def a_stop_that_is_due_waits(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return counters.batches_waited >= 1 or ghost.is_resumed_in_fetch or (
        not a_limit_is_reached(limits, counters, signals)
        and (counters.epochs_done < limits.min_epochs or counters.global_step < limits.min_steps
             or not signals.patience_exhausted)
    )  # fmt: skip


def an_end_is_saved_for_a_reason(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return (
        counters.ending == 0 or counters.batches_waited >= 1 or a_limit_is_reached(limits, counters, signals)
        or (signals.patience_exhausted and the_minima_are_reached(limits, counters, signals))
        or (counters.epochs_done >= limits.epochs and counters.epochs_done == counters.current_epoch + 1)
    )  # fmt: skip


def the_end_is_saved(limits: Limits, counters: Counters) -> bool:
    return not limits.saves_end or counters.saved


def the_test_is_on(limits: Limits) -> bool:
    return limits.tests


def the_test_is_off(limits: Limits) -> bool:
    return not limits.tests


def the_window_is_not_finite(limits: Limits, signals: Signals) -> bool:
    return limits.rolls_back and signals.nonfinite


def the_window_is_finite(signals: Signals) -> bool:
    return not signals.nonfinite


# Other claims need these, so they are proved before.
WAITING_BEGINS: tuple[Claim, ...] = (
    Claim("beyond its last epoch, a run has done max_nb_epochs", max_epochs_are_done),
    Claim("a stop waits for open windows only after the minima, or for max_steps or max_time",
          a_stop_waits_after_enough_epochs),
)  # fmt: skip
WAITING_ENDS: tuple[Claim, ...] = (
    Claim("a stop waits for at most the longest configured window; then one batch closes all",
          a_stop_waits_for_the_longest_window),
    Claim("a stop that waits counts every batch", a_stop_that_waits_counts_every_batch),
)  # fmt: skip
RUN_END: tuple[Claim, ...] = (
    Claim("a stop waits only if patience was exhausted at the end of a batch, or a limit is reached",
          a_stop_waits_only_for_exhausted_patience, built_in="stop"),
    Claim("no stop waits before training or when an epoch begins", no_stop_waits, at={State.START, State.SANITY_VAL}),
    Claim("before training, patience and time are not exhausted, and no step is counted", nothing_ends_the_run_yet,
          at={State.START, State.SANITY_VAL}),
    Claim("a batch is fetched with exhausted patience or a reached limit only before the minima or while a stop waits",
          a_stop_that_is_due_waits, at=State.FETCH),
    Claim("a run is saved at its end only after a limit, or after the minima if patience is exhausted",
          an_end_is_saved_for_a_reason,
          at=State.SAVE, built_in="stop"),
    Claim("a run that ends by itself is saved before, if it is to be", the_end_is_saved, at=State.EARLY_STOP,
          to={State.EPOCH_END, State.TEST, State.DONE}),
    Claim("a run is done only after min_nb_epochs and min_steps, or for max_nb_epochs, max_steps or max_time", enough_is_done,
          at=AFTER_TRAINING),
    Claim("an epoch ends early only if patience is exhausted or a limit is reached", an_early_end_needs_a_reason,
          built_in="stop"),
    Claim("a run is done before max_nb_epochs only if patience is exhausted or a limit is reached",
          an_early_end_of_the_run_needs_a_reason, at=AFTER_TRAINING, built_in="stop"),
    Claim("exhausted patience or a limit ends a run as soon as the minima and open windows allow",
          patience_may_not_end_the_run_here, at={State.ROUND_END, State.EARLY_STOP}, to=State.FETCH),
    Claim("early_stop is visited without a validation only if patience or a limit may end the run",
          patience_may_end_the_run_here, at=State.ROUND_END, to=State.EARLY_STOP, built_in="stop"),
    Claim("the test runs only if it was requested", the_test_is_on, at=State.TEST),
    Claim("the test is omitted only if it was not requested", the_test_is_off, at=all_except(State.TEST), to=State.DONE),
    Claim("a stop request is obeyed in each state that can stop a run", no_stop_is_requested, at=STOPPABLE,
          to=all_except(State.STOPPED)),
    Claim("a stop request is obeyed at the end of an epoch that ends the run", no_stop_is_requested, at=State.EPOCH_END,
          to=AFTER_TRAINING),
    Claim("a run is stopped only by a stop request", a_stop_is_requested, at=State.STOPPED),
    Claim("a run is rolled back only if a loss or gradient was not finite", the_window_is_not_finite, at=State.ROLLED_BACK),
    Claim("a run never continues after a window that was not finite", the_window_is_finite, at=State.STEP, to=State.ROUND_END),
)  # fmt: skip
