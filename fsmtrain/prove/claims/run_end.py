"""Claims about the end of a run: after enough epochs and not too many, for a reason, with the test where it was asked for."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import STOPPABLE, Claim, all_except
from fsmtrain.prove.loop_model.ghost_state import GhostState

ENDS = frozenset({State.DONE, State.TEST})


def no_stop_is_requested(signals: Signals) -> bool:
    return not signals.stop_requested


def a_stop_is_requested(signals: Signals) -> bool:
    return signals.stop_requested


def epochs_are_at_least_min(limits: Limits, counters: Counters) -> bool:
    return limits.epochs == 0 or counters.epochs_done >= limits.min_epochs


def patience_cut_the_epoch(counters: Counters, signals: Signals) -> bool:
    return not counters.epoch_ended_early or signals.patience_exhausted


def patience_ended_what_ended_early(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.epochs_done == limits.epochs or signals.patience_exhausted


def patience_may_stop_here(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return counters.epochs_done >= limits.min_epochs and signals.patience_exhausted and ghost.open_windows == 0


def patience_may_not_stop_here(limits: Limits, counters: Counters, signals: Signals, ghost: GhostState) -> bool:
    return counters.epochs_done < limits.min_epochs or not signals.patience_exhausted or ghost.open_windows != 0


def a_test_was_asked_for(limits: Limits) -> bool:
    return limits.tests


def no_test_was_asked_for(limits: Limits) -> bool:
    return not limits.tests


def the_window_is_spoiled(limits: Limits, signals: Signals) -> bool:
    return limits.rolls_back and signals.nonfinite


def the_window_is_sound(signals: Signals) -> bool:
    return not signals.nonfinite


RUN_END: tuple[Claim, ...] = (
    Claim("min_nb_epochs <= epochs_done when a run ends by itself", epochs_are_at_least_min, ENDS),
    Claim("an epoch is cut only for exhausted patience", patience_cut_the_epoch, built_in="stop"),
    Claim("a run ends early only for exhausted patience", patience_ended_what_ended_early, ENDS, built_in="stop"),
    Claim("exhausted patience stops a run as soon as min_nb_epochs and open windows allow", patience_may_not_stop_here,
          frozenset({State.ROUND_END, State.EARLY_STOP}), frozenset({State.FETCH})),
    Claim("... and only then is early_stop visited without a check", patience_may_stop_here, frozenset({State.ROUND_END}),
          frozenset({State.EARLY_STOP}), built_in="stop"),
    Claim("the test runs only where it was asked for", a_test_was_asked_for, frozenset({State.TEST})),
    Claim("and is left out only where it was not", no_test_was_asked_for, all_except(State.TEST), frozenset({State.DONE})),
    Claim("a stop request is obeyed wherever it can be", no_stop_is_requested, STOPPABLE, all_except(State.STOPPED)),
    Claim("... also at the end of an epoch that ends the run", no_stop_is_requested, frozenset({State.EPOCH_END}), ENDS),
    Claim("and nothing else ends in stopped", a_stop_is_requested, frozenset({State.STOPPED})),
    Claim("a run ends in rolled_back only for numbers that are not finite", the_window_is_spoiled,
          frozenset({State.ROLLED_BACK})),
    Claim("... and never goes on with a window that has some", the_window_is_sound, frozenset({State.STEP}),
          frozenset({State.ROUND_END})),
)  # fmt: skip
