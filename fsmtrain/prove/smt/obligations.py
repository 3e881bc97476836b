"""What must be checked of invariants, and nothing else: that a run begins within them, that no row leads out of them, and
that nothing bad lies inside. Each obligation is one formula without quantifiers that must have no model.

This is all that needs to be believed of a proof: where the invariants come from is of no interest here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.smt.solvers import cvc5, z3
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term

Violations = Mapping[State, Term]  # of each state: what must not be at a visit to it
KnownFacts = Mapping[State, Sequence[Term]]  # what has been proved of each state's visits
Invariants = Mapping[State, Term]  # of each state: what holds whenever it is entered


@frozen
class Obligation:
    """A formula that must have no model, as its conjuncts; and what it says."""

    description: str
    conjuncts: tuple[Term, ...]

    def to_smtlib(self) -> str:
        """The formula in SMT-LIB's language."""
        solver = z3().Solver()
        solver.add(*self.conjuncts)
        return "\n".join(line for line in solver.to_smt2().splitlines() if not line.startswith((";", "(set-info")))


def proof_obligations(
    system: TransitionSystem, bad: Violations, known: KnownFacts, invariants: Invariants
) -> Iterator[Obligation]:
    """All obligations of a proof."""
    entered = list(system.entry.items())
    pairs = [(term, system.start[field]) for field, term in entered]
    begin = z3().BoolVal(True) if State.START not in system.visits else z3().substitute(invariants[State.START], *pairs)
    if not z3().is_true(begin):
        yield Obligation("a run begins within", (*system.legal, *system.assumed_at_start, z3().Not(begin)))
    for state, visit in system.visits.items():
        here = (*system.legal, *visit.assumed, *known.get(state, ()), invariants[state])
        for taken in visit.transitions:
            if z3().is_true(invariants[taken.row.to]):
                continue
            end = z3().substitute(invariants[taken.row.to], *((term, taken.after[field]) for field, term in entered))
            if not z3().is_true(end):
                yield Obligation(f"{state} -> {taken.row.to} stays within", (*here, taken.condition, z3().Not(end)))
        if state in bad:
            yield Obligation(f"nothing bad in {state}", (*here, bad[state]))


def z3_refutes(obligation: Obligation, seconds: float = 5.0) -> bool:
    """Whether Z3 finds that there is no model."""
    solver = z3().Solver()
    solver.set("timeout", int(seconds * 1000))
    solver.add(*obligation.conjuncts)
    return str(solver.check()) == "unsat"


def cvc5_refutes(smt2: str, seconds: float = 10.0) -> bool:
    """Whether cvc5, given nothing but the text, finds that there is no model."""
    manager = cvc5().TermManager()
    solver = cvc5().Solver(manager)
    solver.setOption("tlimit-per", str(int(seconds * 1000)))
    parser = cvc5().InputParser(solver)
    parser.setStringInput(cvc5().InputLanguage.SMT_LIB_2_6, "(set-logic ALL)\n" + smt2, "obligation")
    symbols, answers = parser.getSymbolManager(), ""
    while not (command := parser.nextCommand()).isNull():
        answers += str(command.invoke(solver, symbols))
    return answers.strip() == "unsat"
