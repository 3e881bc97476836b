"""Z3's Spacer: a claim as constrained Horn clauses, for which it finds the invariants by itself.

Only what matters to the claim is kept. A field that is left out is free to be anything at any time, so what is proved without
it holds with it.
"""

from __future__ import annotations

from time import process_time

from fsmtrain.core.guard_ast.expressions import Read
from fsmtrain.core.states import State
from fsmtrain.prove.smt.obligations import Invariants, KnownFacts, Violations
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import SORTS, Term, free_constants, variable_names


def relevant_fields(system: TransitionSystem, bad: Violations, level: int) -> tuple[Read, ...]:
    """The fields from which the bad terms are computed, in their order.

    With each level the guards that look at one of them bring in the fields that they look at besides.
    """
    of_name = {term.decl().name(): field for field, term in system.entry.items()}
    assumptions = [variable_names(term) for visit in system.visits.values() for term in visit.assumed]
    atoms = [
        variable_names(atom)
        for visit in system.visits.values()
        for taken in visit.transitions
        for atom in _atoms(taken.condition)
    ]
    met: set[str] = set()
    new: set[str] = set().union(*map(variable_names, bad.values()))
    for _ in range(level + 1):
        while new:
            name = new.pop()
            met.add(name)
            depends: set[str] = set()
            if name in of_name:
                for visit in system.visits.values():
                    for taken in visit.transitions:
                        depends |= variable_names(taken.after[of_name[name]])
            else:
                depends = depends.union(*(together for together in assumptions if name in together))
            new |= depends - met
        new = set().union(*(atom for atom in atoms if atom & met)) - met
    return tuple(field for name, field in of_name.items() if name in met)


def _atoms(term: Term) -> list[Term]:
    """The comparisons and flags of which a condition is made."""
    if z3().is_and(term) or z3().is_or(term) or z3().is_not(term):
        return [atom for child in term.children() for atom in _atoms(child)]
    return [term]


def find_invariants(system: TransitionSystem, bad: Violations, known: KnownFacts, *, seconds: float) -> Invariants | None:
    """Invariants that keep every run away from the bad moments; None where Spacer found none in time."""
    begun = process_time()
    kept: tuple[Read, ...] = ()
    for level in range(4):
        more, left = relevant_fields(system, bad, level), seconds - (process_time() - begun)
        if more == kept or left <= 0:
            break
        kept = more
        found = _query_spacer(system, bad, known, kept, left / 2)
        if found is not None:
            return found
    return None


def _query_spacer(
    system: TransitionSystem, bad: Violations, known: KnownFacts, kept: tuple[Read, ...], seconds: float
) -> Invariants | None:
    sorts = [z3().BoolSort() if SORTS[field] == "bool" else z3().IntSort() for field in kept]
    at = {state: z3().Function(f"at_{state}", *sorts, z3().BoolSort()) for state in system.visits}
    entered = [system.entry[field] for field in kept]
    names = {term.decl().name() for term in entered}
    error = z3().Function("error", z3().BoolSort())
    spacer = z3().Fixedpoint()
    # Without these the invariants would be those of other clauses than the ones given.
    kept_whole = {"xform.inline_eager": False, "xform.inline_linear": False, "xform.slice": False}
    spacer.set(engine="spacer", timeout=int(seconds * 1000), **kept_whole)
    for predicate in (*at.values(), error):
        spacer.register_relation(predicate)
    begin = z3().And(*system.legal, *system.assumed_at_start)
    spacer.add_rule(_quantified(begin, at[State.START](*(system.start[field] for field in kept))))
    for state, visit in system.visits.items():
        of_use = [term for term in known.get(state, ()) if not names.isdisjoint(variable_names(term))]
        here = z3().And(at[state](*entered), *system.legal, *visit.assumed, *of_use)
        for taken in visit.transitions:
            spacer.add_rule(
                _quantified(z3().And(here, taken.condition), at[taken.row.to](*(taken.after[field] for field in kept)))
            )
        if state in bad:
            spacer.add_rule(_quantified(z3().And(here, bad[state]), error()))
    try:
        is_unreachable = str(spacer.query(error())) == "unsat"
    except z3().Z3Exception:  # its time is over
        return None
    if not is_unreachable:
        return None
    return {state: _invariant_of(spacer.get_answer(), predicate, entered) for state, predicate in at.items()}


def _invariant_of(answer: Term, predicate: Term, entered: list[Term]) -> Term:
    """What Spacer says of a predicate; a state that it never met is one that nothing is known of."""
    for part in answer.children() if z3().is_and(answer) else [answer]:
        body = part.body() if z3().is_quantifier(part) else part
        if z3().is_eq(body) and body.arg(0).decl().eq(predicate):
            values = [z3().substitute_vars(body.arg(1), *reversed(entered))] if z3().is_quantifier(part) else [body.arg(1)]
            return values[0]
    return z3().BoolVal(True)


def _quantified(body: Term, head: Term) -> Term:
    names = free_constants(body).union(*map(free_constants, head.children()))
    clause = z3().Implies(body, head)
    return z3().ForAll(list(names), clause) if names else clause
