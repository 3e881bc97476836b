"""Prove one claim: by induction if it is an invariant by itself, given the claims before it; else with Spacer's invariants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import Claim, Decision
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3, z3_refutes
from fsmtrain.prove.smt.obligations import Invariants, Obligation, ProvedFacts, Violations, proof_obligations
from fsmtrain.prove.smt.spacer import find_invariants
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term, Translator, variable_names

Method = Literal["induction", "Spacer"]


@frozen
class Proof:
    """The invariants that prove a claim, and their obligations, all of which Z3 has refuted."""

    method: Method
    invariants: Invariants
    obligations: tuple[Obligation, ...]


def prove(
    system: TransitionSystem, violations: Violations, facts: ProvedFacts, *, timeout_seconds: float = 60.0
) -> Proof | None:
    """Return a proof that no run meets a violation; None if none was found in time.

    Args:
        system: The transition system.
        violations: What must not hold, by state.
        facts: What has been proved before.
        timeout_seconds: Processor time for Spacer.
    """
    for method, invariants in _candidates(system, violations, facts, timeout_seconds):
        obligations = tuple(proof_obligations(system, violations, facts, invariants))
        if all(z3_refutes(obligation.conjuncts) for obligation in obligations):
            return Proof(method, invariants, obligations)
    return None


def _candidates(
    system: TransitionSystem, violations: Violations, facts: ProvedFacts, timeout_seconds: float
) -> Iterator[tuple[Method, Invariants]]:
    yield "induction", _claim_as_invariant(system, violations)
    invariants = find_invariants(system, violations, facts, timeout_seconds=timeout_seconds)
    if invariants is not None:
        yield "Spacer", invariants


def _claim_as_invariant(system: TransitionSystem, violations: Violations) -> Invariants:
    """Return the claim itself, for the states in which it does not depend on inputs or unknowns."""
    names = {term.decl().name() for term in system.entry.values()}
    return {
        state: z3().Not(violations[state])
        if state in violations and variable_names(violations[state]) <= names
        else z3().BoolVal(True)
        for state in system.visits
    }


def violations_of(system: TransitionSystem, claim: Claim) -> Violations:
    """Return what a claim excludes."""
    violations = {}
    for state, visit in system.visits.items():
        if state not in claim.at:
            continue
        fails = z3().Not(Translator().predicate(claim.holds, visit.at_guards))
        if claim.to is not None:
            conditions = [transition.condition for transition in visit.transitions if transition.row.to in claim.to]
            if not conditions:
                continue
            fails = z3().And(z3().Or(*conditions), fails)
        violations[state] = fails
    return violations


def facts_from(system: TransitionSystem, claims: Sequence[Claim], built_in: Decision | None) -> ProvedFacts:
    """Return what proved claims say about a system with this decision built in."""
    facts: dict[State, list[Term]] = {}
    for claim in claims:
        if claim.built_in in (None, built_in):
            add_facts(facts, violations_of(system, claim))
    return facts


def add_facts(facts: dict[State, list[Term]], violations: Violations) -> None:
    """Add that none of these violations occurs."""
    for state, term in violations.items():
        facts.setdefault(state, []).append(z3().Not(term))
