"""Prove every claim, two at a time, and report a verdict on each."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.claims.claim import Claim, Decision
from fsmtrain.prove.smt.arbitrary_guards import loop_system
from fsmtrain.prove.smt.call_z3_and_cvc5 import cvc5, cvc5_refutes, to_smtlib, z3
from fsmtrain.prove.smt.obligations import Invariants, Violations
from fsmtrain.prove.smt.prove_claim import Method, Proof, facts_from, group_of, prove, violations_of
from fsmtrain.prove.smt.ranking_function import rank_violations
from fsmtrain.prove.smt.transition_system import Moment, TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term


@frozen
class Verdict:
    """The result for one claim.

    Attributes:
        statement: The claim.
        built_in: The decision that must be the built-in one, if any.
        method: How Z3 proved it; None if it did not.
        seconds: Processor time of the proof, without cvc5.
        obligations: Formulas that cvc5 was to refute as well.
        refuted: How many of them it refuted.
    """

    statement: str
    built_in: Decision | None
    method: Method | None
    seconds: float
    obligations: int = 0
    refuted: int = 0

    @property
    def is_proved(self) -> bool:
        """Whether both solvers agree."""
        return self.method is not None and self.obligations == self.refuted


def prove_all(processes: int = 2, *, resumed: bool = False, export: Path | None = None) -> list[Verdict]:
    """Return a verdict on every claim, in the order of `ALL_CLAIMS`, then of `TABLE_CLAIMS`.

    Args:
        processes: Claims that are proved at the same time.
        resumed: Whether runs may be resumed with other limits; claims that are not made for them are left out.
        export: See `verdict_on`.

    Raises:
        UsageError: A solver is not installed.
    """
    z3(), cvc5()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        indices = made_for_resumed_runs() if resumed else range(len(ALL_CLAIMS) + len(TABLE_CLAIMS))
        return list(pool.imap(functools.partial(verdict_on, resumed=resumed, export=export), indices))


def made_for_resumed_runs() -> list[int]:
    """Return the positions of the claims that are also proved of runs that are resumed with other limits."""
    claims: tuple[Claim | str, ...] = (*ALL_CLAIMS, *TABLE_CLAIMS)
    return [index for index, claim in enumerate(claims) if isinstance(claim, str) or claim.resumed]


def verdict_on(index: int, *, resumed: bool = False, timeout_seconds: float = 60.0, export: Path | None = None) -> Verdict:
    """Prove one claim with Z3, and have cvc5 refute the obligations of the proof.

    Args:
        index: The position of the claim in `ALL_CLAIMS`, continued in `TABLE_CLAIMS`.
        resumed: Whether runs may be resumed with other limits, any number of times.
        timeout_seconds: Processor time for Spacer.
        export: A folder to which the obligations are written, as SMT-LIB files.
    """
    start = process_time()
    claims: tuple[Claim | str, ...] = (*ALL_CLAIMS, *TABLE_CLAIMS)
    claim = claims[index]
    statement, built_in = (claim.statement, claim.built_in) if isinstance(claim, Claim) else (claim, None)
    system = loop_system(built_in, resumed=resumed)
    facts = facts_from(system, ALL_CLAIMS[:index], built_in)

    def fresh_invariants() -> Invariants | None:
        fresh = loop_system(built_in)
        proved = facts_from(fresh, ALL_CLAIMS[:index], built_in)
        proof = prove(fresh, all_violations(fresh, claim), proved, timeout_seconds=timeout_seconds)
        return None if proof is None else proof.invariants

    group = group_of(system, ALL_CLAIMS, claim) if isinstance(claim, Claim) else []
    proof = prove(
        system,
        all_violations(system, claim),
        facts,
        timeout_seconds=timeout_seconds,
        known=fresh_invariants if resumed else lambda: None,
        group=group,
    )
    seconds = process_time() - start
    if proof is None:
        return Verdict(statement, built_in, None, seconds)
    texts = [to_smtlib(obligation.conjuncts) for obligation in proof.obligations]
    if export is not None:
        _write(export / f"{index:03}", proof, texts)
    return Verdict(statement, built_in, proof.method, seconds, len(texts), sum(map(cvc5_refutes, texts)))


def _not_exactly_one(system: TransitionSystem) -> Violations:
    """Return, for each state that is not final, that two rows can be taken, or none."""
    violations: dict[Moment, Term] = {}
    for state, visit in system.visits.items():
        conditions = [transition.condition for transition in visit.transitions]
        if not isinstance(state, State) or not state.is_final:
            two = [z3().And(a, b) for i, a in enumerate(conditions) for b in conditions[:i]]
            violations[state] = z3().Or(*two, z3().Not(z3().Or(*conditions)))
    return violations


# Two claims about the table that no predicate over records can express: what each excludes. They are proved last.
TABLE_CLAIMS: Mapping[str, Callable[[TransitionSystem], Violations]] = {
    "exactly one transition is possible in each reachable state": _not_exactly_one,
    "every run with finite data ends": rank_violations,
}


def all_violations(system: TransitionSystem, claim: Claim | str) -> Violations:
    """Return what a claim excludes, be it a predicate or about the table."""
    return violations_of(system, claim) if isinstance(claim, Claim) else TABLE_CLAIMS[claim](system)


def _write(folder: Path, proof: Proof, texts: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (obligation, text) in enumerate(zip(proof.obligations, texts, strict=True)):
        comment = f"; {obligation.description}: must be unsat"
        (folder / f"{number:03}.smt2").write_text(f"{comment}\n(set-logic ALL)\n{text}\n", encoding="utf-8")
