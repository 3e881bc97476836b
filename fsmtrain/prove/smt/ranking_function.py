"""Termination: a ranking function that every transition lowers, so that every run with finite data ends.

A rank is a list of numbers, compared lexicographically, as words in a dictionary. Each transition lowers one of them, to 0 at
least, and leaves those before it unchanged. No such list can be lowered for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fsmtrain.core.counters import Counters
from fsmtrain.core.guard_ast.expressions import Field, Value
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.prove.loop_model.effect_ast import read_predicate
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3
from fsmtrain.prove.smt.obligations import Violations
from fsmtrain.prove.smt.transition_system import Moment, TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term, Translator, Valuation

Component = int | Field | Callable[..., int]


def epochs_left(limits: Limits, counters: Counters) -> int:
    """Return the epochs that are not done, the current one included."""
    return limits.epochs - counters.epochs_done


def epoch_is_done(counters: Counters) -> int:
    """Return 1 between two epochs, 0 within one."""
    return counters.epochs_done - counters.current_epoch


def splits_left(counters: Counters) -> int:
    """Return the splits left in this batch, the current one included."""
    return counters.batch_splits - counters.split_nb


def optimizers_left(limits: Limits, counters: Counters) -> int:
    """Return the optimizers left in this round, the current one included."""
    return limits.optimizers - counters.optimizer_i


def save_phase(counters: Counters) -> int:
    """Return 3 for a save within an epoch, 0 for one where the run ends."""
    return 3 - 3 * counters.ending


_BATCHES_LEFT = Field("ghost", "batches_left")
_EPOCH: tuple[Component, ...] = (2, epochs_left, epoch_is_done)
_BATCH: tuple[Component, ...] = (*_EPOCH, _BATCHES_LEFT, 3, Field("ghost", "saves_left"))
_ROUND: tuple[Component, ...] = (*_BATCH, splits_left, optimizers_left)
RANK_LENGTH = len(_ROUND) + 1

# The rank with which each state is entered; missing components at its end are 0.
RANKS: Mapping[State, tuple[Component, ...]] = {
    State.START: (4,),
    State.SANITY_VAL: (3, Field("ghost", "sanity_left")),
    State.FETCH: (*_EPOCH, _BATCHES_LEFT),
    State.TRAIN_BATCH: (*_ROUND, 3),
    State.BACKWARD: (*_ROUND, 2),
    State.ACCUMULATE: (*_ROUND, 1),
    State.STEP: (*_ROUND, 1),
    State.ROUND_END: _ROUND,
    State.SAVE: (*_EPOCH, _BATCHES_LEFT, save_phase, Field("ghost", "saves_left")),
    State.VAL_CHECK: (*_EPOCH, _BATCHES_LEFT, 2, Field("ghost", "validation_left")),
    State.EARLY_STOP: (*_EPOCH, _BATCHES_LEFT, 1),
    State.EPOCH_END: _EPOCH,
    State.TEST: (1, Field("ghost", "test_left")),
    **{state: () for state in State if state.is_final},
}


def rank_violations(system: TransitionSystem) -> Violations:
    """Return, for each state, that a row is taken that does not lower the rank."""
    violations: dict[Moment, Term] = {}
    for state, visit in system.visits.items():
        if not isinstance(state, State):
            continue  # a run that is resumed ends if it does from the next visit on
        before = _rank_terms(state, system.entry)
        stuck = [
            z3().And(transition.condition, z3().Not(_is_lower(_rank_terms(transition.row.to, transition.after), before)))
            for transition in visit.transitions
        ]
        if stuck:
            violations[state] = z3().Or(*stuck)
    return violations


def _rank_terms(state: State, values: Valuation) -> list[Term]:
    translator, terms = Translator(), []
    for part in RANKS[state]:
        expression = Value(part) if isinstance(part, int) else part if isinstance(part, Field) else read_predicate(part)
        terms.append(translator.term(expression, values))
    return terms + [z3().IntVal(0)] * (RANK_LENGTH - len(terms))


def _is_lower(after: list[Term], before: list[Term]) -> Term:
    lower = z3().BoolVal(False)
    for new, old in reversed(list(zip(after, before, strict=True))):
        lower = z3().Or(z3().And(new < old, new >= 0), z3().And(new == old, lower))
    return lower
