"""Find invariants with Spacer, Z3's engine for constrained Horn clauses.

Only the fields that matter to a claim are kept. A field that is left out may have any value at any time, so what is proved
without it holds with it.
"""

from __future__ import annotations

from time import process_time

from fsmtrain.core.guard_ast.expressions import Field
from fsmtrain.core.states import State
from fsmtrain.prove.loop_model.fields import SORTS
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3
from fsmtrain.prove.smt.obligations import Invariants, ProvedFacts, Violations, known
from fsmtrain.prove.smt.transition_system import TransitionSystem, state_entered
from fsmtrain.prove.smt.z3_terms import Term, free_constants, variable_names

MAX_LEVELS = 4


def find_invariants(
    system: TransitionSystem, violations: Violations, facts: ProvedFacts, *, timeout_seconds: float
) -> Invariants | None:
    """Return invariants that exclude the violations; None if Spacer found none in time."""
    start = process_time()
    fields: tuple[Field, ...] = ()
    for level in range(MAX_LEVELS):
        more, seconds_left = relevant_fields(system, violations, level), timeout_seconds - (process_time() - start)
        if more == fields or seconds_left <= 0:
            break
        fields = more
        invariants = _query_spacer(system, violations, facts, fields, seconds_left / 2)
        if invariants is not None:
            return invariants
    return None


def relevant_fields(system: TransitionSystem, violations: Violations, level: int) -> tuple[Field, ...]:
    """Return the fields on which the violations depend, in a fixed order.

    Each level adds the fields that occur in one comparison with a field of the level before.
    """
    field_of_name = {term.decl().name(): field for field, term in system.entry.items()}
    visits = system.visits.values()
    transitions = [transition for visit in visits for transition in visit.transitions]
    assumptions = [variable_names(term) for visit in visits for term in visit.assumed]
    atoms = [variable_names(atom) for transition in transitions for atom in _atoms(transition.condition)]
    relevant: set[str] = set()
    new: set[str] = set().union(*map(variable_names, violations.values()))
    for _ in range(level + 1):
        while new:
            name = new.pop()
            relevant.add(name)
            if name in field_of_name:
                depends = [variable_names(transition.after[field_of_name[name]]) for transition in transitions]
            else:
                depends = [names for names in assumptions if name in names]
            new |= set().union(*depends) - relevant
        new = set().union(*(atom for atom in atoms if atom & relevant)) - relevant
    return tuple(field for name, field in field_of_name.items() if name in relevant)


def _atoms(term: Term) -> list[Term]:
    """Return the comparisons and flags in a condition."""
    if z3().is_and(term) or z3().is_or(term) or z3().is_not(term):
        return [atom for child in term.children() for atom in _atoms(child)]
    return [term]


def _query_spacer(
    system: TransitionSystem, violations: Violations, facts: ProvedFacts, fields: tuple[Field, ...], timeout_seconds: float
) -> Invariants | None:
    sorts = [z3().BoolSort() if SORTS[field] == "bool" else z3().IntSort() for field in fields]
    at = {state: z3().Function(f"at_{state}", *sorts, z3().BoolSort()) for state in system.visits if isinstance(state, State)}
    entry = [system.entry[field] for field in fields]
    names = {term.decl().name() for term in entry}
    error = z3().Function("error", z3().BoolSort())
    spacer = z3().Fixedpoint()
    # Without these, the invariants would be about transformed clauses instead of the given ones.
    untransformed = {"xform.inline_eager": False, "xform.inline_linear": False, "xform.slice": False}
    spacer.set(engine="spacer", timeout=int(timeout_seconds * 1000), **untransformed)
    for predicate in (*at.values(), error):
        spacer.register_relation(predicate)
    initial = z3().And(*system.legal, *system.assumed_at_start)
    spacer.add_rule(_clause(initial, at[State.START](*(system.start[field] for field in fields))))
    for state, visit in system.visits.items():
        relevant_facts = [term for term in known(facts, state) if not names.isdisjoint(variable_names(term))]
        reachable = z3().And(at[state_entered(state)](*entry), *system.legal, *visit.assumed, *relevant_facts)
        for transition in visit.transitions:
            target = at[transition.row.to](*(transition.after[field] for field in fields))
            spacer.add_rule(_clause(z3().And(reachable, transition.condition), target))
        if state in violations:
            spacer.add_rule(_clause(z3().And(reachable, violations[state]), error()))
    try:
        is_unreachable = str(spacer.query(error())) == "unsat"
    except z3().Z3Exception:  # the timeout
        return None
    if not is_unreachable:
        return None
    return {state: _invariant_of(spacer.get_answer(), predicate, entry) for state, predicate in at.items()}


def _invariant_of(answer: Term, predicate: Term, entry: list[Term]) -> Term:
    """Return what Spacer's answer says about one predicate; true if it says nothing."""
    for part in answer.children() if z3().is_and(answer) else [answer]:
        body = part.body() if z3().is_quantifier(part) else part
        if z3().is_eq(body) and body.arg(0).decl().eq(predicate):
            return z3().substitute_vars(body.arg(1), *reversed(entry)) if z3().is_quantifier(part) else body.arg(1)
    return z3().BoolVal(True)


def _clause(body: Term, head: Term) -> Term:
    variables = free_constants(body).union(*map(free_constants, head.children()))
    clause = z3().Implies(body, head)
    return z3().ForAll(list(variables), clause) if variables else clause
