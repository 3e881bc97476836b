"""Proves a claim: by induction where the claim, with those above it, is its own invariant; else with Spacer's invariants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import process_time

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claim import Claim, Decision
from fsmtrain.prove.effect_ast import value_of
from fsmtrain.prove.obligations import Bad, Invariants, Known, Obligation, obligations, z3_agrees
from fsmtrain.prove.solvers import z3
from fsmtrain.prove.spacer import invariants_of
from fsmtrain.prove.transition_system import System
from fsmtrain.prove.z3_terms import Term, translation, variables


@frozen
class Proof:
    """A claim with its invariants and what is to be checked of them."""

    method: str  # "induction" or "Spacer"
    seconds: float
    invariants: Invariants
    obligations: tuple[Obligation, ...]


def prove(system: System, bad: Bad, known: Known, *, seconds: float = 60.0) -> Proof | None:
    """A proof that no run meets anything bad; None where none was found in time.

    Args:
        system: The transition system.
        bad: What must not be, of each state.
        known: What has been proved before.
        seconds: The time for Spacer.
    """
    begun = process_time()
    for method, invariants in _candidates(system, bad, known, seconds):
        due = tuple(obligations(system, bad, known, invariants))
        if all(map(z3_agrees, due)):
            return Proof(method, process_time() - begun, invariants, due)
    return None


def _candidates(system: System, bad: Bad, known: Known, seconds: float) -> Iterator[tuple[str, Invariants]]:
    yield "induction", _itself(system, bad)
    found = invariants_of(system, bad, known, seconds=seconds)
    if found is not None:
        yield "Spacer", found


def _itself(system: System, bad: Bad) -> Invariants:
    """The claim as its own invariant, in the states where chance has no say in it."""
    names = {term.decl().name() for term in system.entered.values()}
    return {
        state: z3().Not(bad[state]) if state in bad and variables(bad[state]) <= names else z3().BoolVal(True)
        for state in system.visits
    }


def bad_of(system: System, claim: Claim) -> dict[State, Term]:
    """What a claim excludes."""
    bad: dict[State, Term] = {}
    for state in State:
        if state not in claim.at or state not in system.visits:
            continue
        visit = system.visits[state]
        fails = z3().Not(translation().term(value_of(claim.holds), visit.now))
        if claim.to is not None:
            leading = [taken.condition for taken in visit.rows if taken.row.to in claim.to]
            if not leading:
                continue
            fails = z3().And(z3().Or(*leading), fails)
        bad[state] = fails
    return bad


def known_from(system: System, claims: Sequence[Claim], built_in: Decision | None) -> dict[State, list[Term]]:
    """What the claims give for the proof of another in a system with this decision built in."""
    known: dict[State, list[Term]] = {}
    for other in claims:
        if other.built_in in (None, built_in):
            for state, term in bad_of(system, other).items():
                known.setdefault(state, []).append(z3().Not(term))
    return known
