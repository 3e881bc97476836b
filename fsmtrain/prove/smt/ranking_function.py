"""Termination: a ranking function that every transition lowers, so that every run with finite data ends.

A rank is a list of numbers, compared lexicographically, as words in a dictionary. Each transition lowers one of them, to 0 at
least, and leaves those before it unchanged. No such list can be lowered for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.loop_model.effect_ast import read_predicate
from fsmtrain.prove.loop_model.ghost_state import GhostState
from fsmtrain.prove.smt.obligations import Violations
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term, Translator, Valuation

Component = int | Callable[..., int]


def epochs_left(limits: Limits, counters: Counters) -> int:
    """Return the epochs that are not done, the current one included."""
    return limits.epochs - counters.epochs_done


def epoch_is_done(counters: Counters) -> int:
    """Return 1 between two epochs, 0 within one."""
    return counters.epochs_done - counters.current_epoch


def batches_left(ghost: GhostState) -> int:
    """Return the batches of this epoch that are still to be fetched."""
    return ghost.batches_left


def saves_left(ghost: GhostState) -> int:
    """Return 1 until the batch has been saved."""
    return ghost.saves_left


def splits_left(counters: Counters) -> int:
    """Return the splits left in this batch, the current one included."""
    return counters.batch_splits - counters.split_nb


def optimizers_left(limits: Limits, counters: Counters) -> int:
    """Return the optimizers left in this round, the current one included."""
    return limits.optimizers - counters.optimizer_i


def sanity_left(ghost: GhostState) -> int:
    """Return the batches left in the sanity pass."""
    return ghost.sanity_left


def validation_left(ghost: GhostState) -> int:
    """Return the batches left in the validation."""
    return ghost.validation_left


def test_left(ghost: GhostState) -> int:
    """Return the batches left in the test."""
    return ghost.test_left


_EPOCH: tuple[Component, ...] = (2, epochs_left, epoch_is_done)
_BATCH: tuple[Component, ...] = (*_EPOCH, batches_left, 3, saves_left)
_ROUND: tuple[Component, ...] = (*_BATCH, splits_left, optimizers_left)
RANK_LENGTH = len(_ROUND) + 1


def rank(state: State) -> tuple[Component, ...]:
    """Return the rank with which a state is entered; missing components at its end are 0."""
    match state:
        case State.START:
            return (4,)
        case State.SANITY_VAL:
            return (3, sanity_left)
        case State.FETCH:
            return (*_EPOCH, batches_left)
        case State.TRAIN_BATCH:
            return (*_ROUND, 3)
        case State.BACKWARD:
            return (*_ROUND, 2)
        case State.ACCUMULATE | State.STEP:
            return (*_ROUND, 1)
        case State.ROUND_END:
            return _ROUND
        case State.SAVE:
            return _BATCH
        case State.VAL_CHECK:
            return (*_EPOCH, batches_left, 2, validation_left)
        case State.EARLY_STOP:
            return (*_EPOCH, batches_left, 1)
        case State.EPOCH_END:
            return _EPOCH
        case State.TEST:
            return (1, test_left)
        case State.DONE | State.STOPPED | State.ROLLED_BACK:
            return ()
        case _:
            assert_never(state)


def rank_violations(system: TransitionSystem) -> Violations:
    """Return, for each state, that a row is taken that does not lower the rank."""
    violations = {}
    for state, visit in system.visits.items():
        before = _rank_terms(state, system.entry)
        stuck = [
            z3().And(transition.condition, z3().Not(_is_lower(_rank_terms(transition.row.to, transition.after), before)))
            for transition in visit.transitions
        ]
        if stuck:
            violations[state] = z3().Or(*stuck)
    return violations


def _rank_terms(state: State, values: Valuation) -> list[Term]:
    translator = Translator()
    terms = [
        z3().IntVal(part) if isinstance(part, int) else translator.term(read_predicate(part), values) for part in rank(state)
    ]
    return terms + [z3().IntVal(0)] * (RANK_LENGTH - len(terms))


def _is_lower(after: list[Term], before: list[Term]) -> Term:
    lower = z3().BoolVal(False)
    for new, old in reversed(list(zip(after, before, strict=True))):
        lower = z3().Or(z3().And(new < old, new >= 0), z3().And(new == old, lower))
    return lower
