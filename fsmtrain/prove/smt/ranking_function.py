"""Why every run with finite data ends: a rank that every transition lowers.

A rank is a list of numbers that are compared like words in a dictionary. Each transition makes one of them smaller, to no
less than 0, and leaves those before it as they are. No such list can be lowered for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.loop_model.effect_ast import read_predicate
from fsmtrain.prove.loop_model.ghost_state import GhostState
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term, Valuation, new_translator

Component = int | Callable[..., int]


def epochs_left(limits: Limits, counters: Counters) -> int:
    """Epochs that are not done, the one under way included."""
    return limits.epochs - counters.epochs_done


def epochs_ahead(counters: Counters) -> int:
    """1 between two epochs, 0 within one."""
    return counters.epochs_done - counters.current_epoch


def batches_left(ghost: GhostState) -> int:
    """Batches of this epoch that are still to be fetched."""
    return ghost.batches_left


def saves_left(ghost: GhostState) -> int:
    """1 until the batch has been saved."""
    return ghost.saves_left


def splits_left(counters: Counters, signals: Signals) -> int:
    """Splits of this batch, the one under way included."""
    return signals.splits - counters.split_nb


def turns_left(limits: Limits, counters: Counters) -> int:
    """Optimizers in this round, the one whose turn it is included."""
    return limits.optimizers - counters.optimizer_i


def sanity_left(ghost: GhostState) -> int:
    """Batches of the sanity pass."""
    return ghost.sanity_left


def check_left(ghost: GhostState) -> int:
    """Batches of the check."""
    return ghost.validation_left


def test_left(ghost: GhostState) -> int:
    """Batches of the test."""
    return ghost.test_left


_EPOCH: tuple[Component, ...] = (2, epochs_left, epochs_ahead)
_ROUND: tuple[Component, ...] = (*_EPOCH, batches_left, 3, saves_left, splits_left, turns_left)

RANKS: Mapping[State, tuple[Component, ...]] = {
    State.START: (4,),
    State.SANITY_VAL: (3, sanity_left),
    State.FETCH: (*_EPOCH, batches_left),
    State.TRAIN_BATCH: (*_ROUND, 3),
    State.BACKWARD: (*_ROUND, 2),
    State.ACCUMULATE: (*_ROUND, 1),
    State.STEP: (*_ROUND, 1),
    State.ROUND_END: _ROUND,
    State.SAVE: (*_EPOCH, batches_left, 3, saves_left),
    State.VAL_CHECK: (*_EPOCH, batches_left, 2, check_left),
    State.EARLY_STOP: (*_EPOCH, batches_left, 1),
    State.EPOCH_END: _EPOCH,
    State.TEST: (1, test_left),
    State.DONE: (),
    State.STOPPED: (),
    State.ROLLED_BACK: (),
}
RANK_LENGTH = max(map(len, RANKS.values()))


def rank_violations(system: TransitionSystem) -> dict[State, Term]:
    """Of each state: that a row is taken which does not lower the rank."""
    bad = {}
    for state, visit in system.visits.items():
        before = _rank(state, system.entry)
        stuck = [
            z3().And(taken.condition, z3().Not(_lower(_rank(taken.row.to, taken.after), before))) for taken in visit.transitions
        ]
        if stuck:
            bad[state] = z3().Or(*stuck)
    return bad


def _rank(state: State, moment: Valuation) -> list[Term]:
    plain, rank = new_translator(), RANKS[state]
    terms = [z3().IntVal(part) if isinstance(part, int) else plain.term(read_predicate(part), moment) for part in rank]
    return terms + [z3().IntVal(0)] * (RANK_LENGTH - len(terms))


def _lower(after: list[Term], before: list[Term]) -> Term:
    lower = z3().BoolVal(False)
    for new, old in reversed(list(zip(after, before, strict=True))):
        lower = z3().Or(z3().And(new < old, new >= 0), z3().And(new == old, lower))
    return lower
