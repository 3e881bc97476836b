"""One claim of a system, given to Z3's Spacer as constrained Horn clauses.

Only what the claim depends on is kept: the fields that it, the guards and, through the effects, these depend on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter

from attrs import evolve, frozen

from fsmtrain.core.expressions import Read
from fsmtrain.core.states import State
from fsmtrain.proving.extra import z3
from fsmtrain.proving.system import System
from fsmtrain.proving.terms import SORTS, Term

Bad = Mapping[State, Term]  # of each state: what must not be at a visit to it
Invariants = Mapping[State, Term]
Known = Mapping[State, Sequence[Term]]  # what has been proved of each state's visits


@frozen
class Verdict:
    """What Spacer says: ``"proved"``, ``"refuted"`` or ``"unknown"``, and the invariants where it is proved."""

    answer: str
    seconds: float
    kept: tuple[Read, ...]
    invariants: Invariants
    level: int = 0


def variables(term: Term) -> frozenset[str]:
    """The names of the free variables in a term."""
    found, met, left = set(), set(), [term]
    while left:
        here = left.pop()
        if here.get_id() in met:
            continue
        met.add(here.get_id())
        if z3().is_const(here) and here.decl().kind() == z3().Z3_OP_UNINTERPRETED:
            found.add(here.decl().name())
        left.extend(here.children())
    return frozenset(found)


def needed(system: System, bad: Bad, level: int) -> tuple[Read, ...]:
    """Fields that matter to the bad terms, in their order: those from which theirs are computed.

    With each level the guards that look at one of them bring in the fields that they look at besides. Leaving a field out
    makes it free to be anything at any time, so what is proved without it holds.
    """
    of_name = {term.decl().name(): field for field, term in system.entered.items()}
    assumptions = [variables(term) for visit in system.visits.values() for term in visit.assumed]
    atoms = [variables(atom) for visit in system.visits.values() for taken in visit.rows for atom in atoms_of(taken.condition)]
    met: set[str] = set()
    new = set().union(*map(variables, bad.values()))
    for _ in range(level + 1):
        while new:
            name = new.pop()
            met.add(name)
            depends: set[str] = set()
            if name in of_name:
                for visit in system.visits.values():
                    for taken in visit.rows:
                        depends |= variables(taken.after[of_name[name]])
            else:
                depends = depends.union(*(together for together in assumptions if name in together))
            new |= depends - met
        new = set().union(*(atom for atom in atoms if atom & met)) - met
    return tuple(field for name, field in of_name.items() if name in met)


def atoms_of(term: Term) -> list[Term]:
    """The comparisons and flags of which a condition is made."""
    if z3().is_and(term) or z3().is_or(term) or z3().is_not(term):
        return [atom for child in term.children() for atom in atoms_of(child)]
    return [term]


def clauses(system: System, bad: Bad, known: Known, kept: tuple[Read, ...]) -> tuple[list[Term], Mapping[State, Term]]:
    """The clauses, and each state's predicate."""
    sorts = [z3().BoolSort() if SORTS[field] == "bool" else z3().IntSort() for field in kept]
    at = {state: z3().Function(f"at_{state}", *sorts, z3().BoolSort()) for state in system.visits}
    entered = [system.entered[field] for field in kept]
    out = [_closed(z3().And(*system.legal, *system.assumed_at_start), at[State.START](*(system.start[f] for f in kept)))]
    for state, visit in system.visits.items():
        here = z3().And(at[state](*entered), *system.legal, *visit.assumed, *known.get(state, ()))
        for taken in visit.rows:
            out.append(_closed(z3().And(here, taken.condition), at[taken.row.to](*(taken.after[f] for f in kept))))
        if state in bad:
            out.append(_closed(z3().And(here, bad[state]), z3().BoolVal(False)))
    return out, at


def _closed(body: Term, head: Term) -> Term:
    implication = z3().Implies(body, head)
    names = _constants(implication)
    return z3().ForAll(names, implication) if names else implication


def _constants(term: Term) -> list[Term]:
    found, met, left = {}, set(), [term]
    while left:
        here = left.pop()
        if here.get_id() in met:
            continue
        met.add(here.get_id())
        if z3().is_const(here) and here.decl().kind() == z3().Z3_OP_UNINTERPRETED:
            found[here.decl().name()] = here
        left.extend(here.children())
    return list(found.values())


def decide(system: System, bad: Bad, known: Known, *, seconds: float = 30.0) -> Verdict:
    """Whether a bad moment can be reached."""
    begun = perf_counter()
    kept: tuple[Read, ...] = ()
    for level in range(4):
        more = needed(system, bad, level)
        if more == kept:
            break
        kept = more
        left = seconds - (perf_counter() - begun)
        if left <= 0: break
        verdict = decide_with(system, bad, known, kept, seconds=min(left, 3 if level < 3 else left))
        verdict = evolve(verdict, seconds=perf_counter() - begun, level=level)
        if verdict.answer == "proved":
            return verdict
    return verdict


def decide_with(system: System, bad: Bad, known: Known, kept: tuple[Read, ...], *, seconds: float) -> Verdict:
    rules, at = clauses(system, bad, known, kept)
    solver = z3().SolverFor("HORN")
    solver.set("timeout", int(seconds * 1000))
    solver.add(*rules)
    answer = {"sat": "proved", "unsat": "refuted"}.get(str(solver.check()), "unknown")
    invariants: dict[State, Term] = {}
    if answer == "proved":
        model = solver.model()
        entered = [system.entered[field] for field in kept]
        for state, predicate in at.items():
            invariants[state] = model.eval(predicate(*entered), model_completion=True)
    return Verdict(answer, 0.0, kept, invariants)
