"""Proves a claim: by induction where the claim, with those above it, is its own invariant; else with Spacer's invariants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import process_time

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import Claim, Decision
from fsmtrain.prove.loop_model.effect_ast import read_predicate
from fsmtrain.prove.smt.obligations import Invariants, KnownFacts, Obligation, Violations, proof_obligations, z3_refutes
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.spacer import find_invariants
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term, new_translator, variable_names


@frozen
class Proof:
    """A claim with its invariants and what is to be checked of them."""

    method: str  # "induction" or "Spacer"
    seconds: float
    invariants: Invariants
    obligations: tuple[Obligation, ...]


def prove(system: TransitionSystem, bad: Violations, known: KnownFacts, *, seconds: float = 60.0) -> Proof | None:
    """A proof that no run meets anything bad; None where none was found in time.

    Args:
        system: The transition system.
        bad: What must not be, of each state.
        known: What has been proved before.
        seconds: The time for Spacer.
    """
    begun = process_time()
    for method, invariants in _candidates(system, bad, known, seconds):
        due = tuple(proof_obligations(system, bad, known, invariants))
        if all(map(z3_refutes, due)):
            return Proof(method, process_time() - begun, invariants, due)
    return None


def _candidates(
    system: TransitionSystem, bad: Violations, known: KnownFacts, seconds: float
) -> Iterator[tuple[str, Invariants]]:
    yield "induction", _itself(system, bad)
    found = find_invariants(system, bad, known, seconds=seconds)
    if found is not None:
        yield "Spacer", found


def _itself(system: TransitionSystem, bad: Violations) -> Invariants:
    """The claim as its own invariant, in the states where inputs has no say in it."""
    names = {term.decl().name() for term in system.entry.values()}
    return {
        state: z3().Not(bad[state]) if state in bad and variable_names(bad[state]) <= names else z3().BoolVal(True)
        for state in system.visits
    }


def violations_of(system: TransitionSystem, claim: Claim) -> dict[State, Term]:
    """What a claim excludes."""
    bad: dict[State, Term] = {}
    for state in State:
        if state not in claim.at or state not in system.visits:
            continue
        visit = system.visits[state]
        fails = z3().Not(new_translator().term(read_predicate(claim.holds), visit.at_guards))
        if claim.to is not None:
            leading = [taken.condition for taken in visit.transitions if taken.row.to in claim.to]
            if not leading:
                continue
            fails = z3().And(z3().Or(*leading), fails)
        bad[state] = fails
    return bad


def facts_from(system: TransitionSystem, claims: Sequence[Claim], built_in: Decision | None) -> dict[State, list[Term]]:
    """What the claims give for the proof of another in a system with this decision built in."""
    known: dict[State, list[Term]] = {}
    for other in claims:
        if other.built_in in (None, built_in):
            for state, term in violations_of(system, other).items():
                known.setdefault(state, []).append(z3().Not(term))
    return known
