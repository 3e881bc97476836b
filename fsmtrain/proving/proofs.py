"""Proves a claim: by induction where the claim, with those above it, is its own invariant; else with Spacer's invariants."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.proving.changes import value_of
from fsmtrain.proving.claim import Claim
from fsmtrain.proving.extra import z3
from fsmtrain.proving.horn import invariants_of
from fsmtrain.proving.obligations import Bad, Invariants, Known, Obligation, obligations, z3_agrees
from fsmtrain.proving.system import System
from fsmtrain.proving.terms import Term, translation, variables


@frozen
class Proof:
    """A claim with its invariants and what is to be checked of them."""

    method: str  # "induction" or "Spacer"
    seconds: float
    obligations: tuple[Obligation, ...]


def prove(system: System, bad: Bad, known: Known, *, seconds: float = 20.0) -> Proof | None:
    """A proof that no run meets anything bad; None where none was found in time.

    Args:
        system: The transition system.
        bad: What must not be, of each state.
        known: What has been proved before.
        seconds: The time for Spacer.
    """
    begun = perf_counter()
    for method in ("induction", "Spacer"):
        found = _itself(system, bad) if method == "induction" else invariants_of(system, bad, known, seconds=seconds)
        if found is None:
            continue
        due = tuple(obligations(system, bad, known, found))
        if all(map(z3_agrees, due)):
            return Proof(method, perf_counter() - begun, due)
    return None


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
            fails = z3().And(z3().Or(*(taken.condition for taken in visit.rows if taken.row.to in claim.to)), fails)
        bad[state] = fails
    return bad


def known_from(system: System, claims: Sequence[Claim], claim: Claim) -> dict[State, list[Term]]:
    """What the claims give for the proof of another in the same system."""
    known: dict[State, list[Term]] = {}
    for other in claims:
        if other.built_in in (None, claim.built_in):
            for state, term in bad_of(system, other).items():
                known.setdefault(state, []).append(z3().Not(term))
    return known
