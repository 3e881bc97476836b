"""Prove one claim: by induction if it is an invariant by itself, given the claims before it; else with Spacer's invariants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from attrs import fields, frozen

from fsmtrain.core.guard_ast.expressions import Field
from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import Claim, Decision
from fsmtrain.prove.loop_model.ghost_state import Inputs
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3, z3_refutes
from fsmtrain.prove.smt.obligations import Invariants, Obligation, ProvedFacts, Violations, proof_obligations
from fsmtrain.prove.smt.spacer import find_invariants
from fsmtrain.prove.smt.transition_system import Moment, TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term, Translator, constant, variable_names

Method = Literal["induction", "Spacer"]


@frozen
class Proof:
    """The invariants that prove a claim, and their obligations, all of which Z3 has refuted."""

    method: Method
    invariants: Invariants
    obligations: tuple[Obligation, ...]


def prove(
    system: TransitionSystem,
    violations: Violations,
    facts: ProvedFacts,
    *,
    timeout_seconds: float = 60.0,
    known: Callable[[], Invariants | None] = lambda: None,
    group: Sequence[Violations] = (),
) -> Proof | None:
    """Return a proof that no run meets a violation; None if none was found in time.

    Args:
        system: The transition system.
        violations: What must not hold, by state.
        facts: What has been proved before.
        timeout_seconds: Processor time for Spacer.
        known: Returns invariants of another system with the same variables, which may be invariants of this one too.
        group: The violations of other claims that may be invariants together with this one.
    """
    for method, invariants in _candidates(system, violations, facts, timeout_seconds, known, group):
        obligations = tuple(proof_obligations(system, violations, facts, invariants))
        if all(z3_refutes(obligation.conjuncts) for obligation in obligations):
            return Proof(method, invariants, obligations)
    return None


def _candidates(
    system: TransitionSystem,
    violations: Violations,
    facts: ProvedFacts,
    timeout_seconds: float,
    known: Callable[[], Invariants | None],
    group: Sequence[Violations],
) -> Iterator[tuple[Method, Invariants]]:
    claim = _claim_as_invariant(system, violations)
    yield "induction", claim
    # With inputs that change nothing, a claim about a visit is one about its entry.
    whole = [_claim_as_invariant(system, each, inputs=_default_inputs()) for each in (violations, *group)]
    claim = {state: z3().And(*(part[state] for part in whole)) for state in claim}
    yield "induction", claim
    others = known()
    if others is not None:
        yield "Spacer", {state: z3().And(claim[state], others[state]) for state in claim}
    invariants = find_invariants(system, violations, facts, timeout_seconds=timeout_seconds)
    if invariants is not None:
        yield "Spacer", invariants


def _claim_as_invariant(
    system: TransitionSystem, violations: Violations, *, inputs: tuple[tuple[Term, Term], ...] = ()
) -> Invariants:
    """Return the claim itself, with some inputs replaced, for the states in which it depends on no other input or unknown."""
    names = {term.decl().name() for term in system.entry.values()}
    violations = {state: z3().substitute(term, *inputs) for state, term in violations.items()} if inputs else violations
    return {
        state: z3().Not(violations[state])
        if state in violations and variable_names(violations[state]) <= names
        else z3().BoolVal(True)
        for state in system.visits
        if isinstance(state, State)
    }


@functools.cache
def _default_inputs() -> tuple[tuple[Term, Term], ...]:
    """Return each input with its default value."""
    defaults = {Field("inputs", f.name): getattr(Inputs(), f.name) for f in fields(Inputs)}
    return tuple(
        (constant(key), z3().BoolVal(value) if isinstance(value, bool) else z3().IntVal(value))
        for key, value in defaults.items()
    )


def violations_of(system: TransitionSystem, claim: Claim) -> Violations:
    """Return what a claim excludes."""
    violations: dict[Moment, Term] = {}
    for state, visit in system.visits.items():
        if not isinstance(state, State) and not state.work_done:
            continue  # it goes on to a visit of its own
        if (state if isinstance(state, State) else state.state) not in claim.at:
            continue
        fails = z3().Not(Translator().predicate(claim.holds, visit.at_guards))
        if claim.to is not None:
            conditions = [transition.condition for transition in visit.transitions if transition.row.to in claim.to]
            if not conditions:
                continue
            fails = z3().And(z3().Or(*conditions), fails)
        violations[state] = fails
    return violations


def group_of(system: TransitionSystem, claims: Sequence[Claim], claim: Claim) -> list[Violations]:
    """Return what the other claims of its group exclude."""
    return [
        violations_of(system, other)
        for other in claims
        if claim.group and other.group == claim.group and other is not claim and other.built_in in (None, claim.built_in)
    ]


def facts_from(system: TransitionSystem, claims: Sequence[Claim], built_in: Decision | None) -> ProvedFacts:
    """Return what proved claims say about a system with this decision built in."""
    facts: dict[Moment, list[Term]] = {}
    for claim in claims:
        if claim.built_in in (None, built_in) and (claim.resumed or not system.resumes):
            add_facts(facts, violations_of(system, claim))
    return facts


def add_facts(facts: dict[Moment, list[Term]], violations: Violations) -> None:
    """Add that none of these violations occurs."""
    for state, term in violations.items():
        facts.setdefault(state, []).append(z3().Not(term))
