"""Proof obligations of an invariant: it holds at the start, no row leads out of it, and no violation lies inside it.

Each obligation is one formula without quantifiers that must have no model. They are all of a proof that has to be trusted: how
the invariants were found does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3
from fsmtrain.prove.smt.transition_system import Moment, TransitionSystem, state_entered
from fsmtrain.prove.smt.z3_terms import Term

Violations = Mapping[Moment, Term]  # what must not hold at a visit
ProvedFacts = Mapping[Moment, Sequence[Term]]  # what has been proved of each visit
Invariants = Mapping[State, Term]  # by state: what holds whenever it is entered


@frozen
class Obligation:
    """A conjunction that must have no model, and what that shows."""

    description: str
    conjuncts: tuple[Term, ...]


def proof_obligations(
    system: TransitionSystem, violations: Violations, facts: ProvedFacts, invariants: Invariants
) -> Iterator[Obligation]:
    """Yield all obligations of a proof."""
    at_start = [(term, system.start[field]) for field, term in system.entry.items()]
    initial = z3().BoolVal(True) if State.START not in system.visits else z3().substitute(invariants[State.START], *at_start)
    if not z3().is_true(initial):
        yield Obligation("a run starts within", (*system.legal, *system.assumed_at_start, z3().Not(initial)))
    for state, visit in system.visits.items():
        reachable = (*system.legal, *visit.assumed, *known(facts, state), invariants[state_entered(state)])
        for transition in visit.transitions:
            to = transition.row.to
            if z3().is_true(invariants[to]):
                continue
            after = z3().substitute(invariants[to], *((term, transition.after[field]) for field, term in system.entry.items()))
            if not z3().is_true(after):
                yield Obligation(f"{state} -> {to} stays within", (*reachable, transition.condition, z3().Not(after)))
        if state in violations:
            yield Obligation(f"no violation in {state}", (*reachable, violations[state]))


def known(facts: ProvedFacts, moment: Moment) -> tuple[Term, ...]:
    """Return what has been proved of a visit; of a resumption, also what was proved of the visit in which it was saved."""
    saved = () if isinstance(moment, State) else tuple(facts.get(moment.saved_in, ()))
    return (*saved, *facts.get(moment, ()))
