"""Proves all claims, in two processes at a time, and tells the verdicts as a table."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import process_time
from typing import Literal

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claims import CLAIMS, FACTS
from fsmtrain.prove.claims.claim import Claim, Decision
from fsmtrain.prove.smt.arbitrary_guards import loop_system
from fsmtrain.prove.smt.obligations import Obligation, cvc5_refutes
from fsmtrain.prove.smt.prove_claim import facts_from, prove, violations_of
from fsmtrain.prove.smt.ranking_function import rank_violations
from fsmtrain.prove.smt.solvers import cvc5, z3
from fsmtrain.prove.smt.transition_system import TransitionSystem
from fsmtrain.prove.smt.z3_terms import Term

# Facts about one field, which the claims above all others may use.
FIRST = frozenset({"without_accumulation_the_window_is_one", "one_optimizer_is_number_0", "only_a_stream_ends"})


def in_order(claims: Iterable[Claim], facts: Iterable[Claim]) -> tuple[Claim, ...]:
    """All claims, such that each is proved from those before it."""
    facts = tuple(facts)
    return (*(f for f in facts if f.name in FIRST), *claims, *(f for f in facts if f.name not in FIRST))


ALL_CLAIMS = in_order(CLAIMS, FACTS)
TableClaim = Literal["exactly one guard holds in each reachable state", "every run with finite data ends"]
TABLE_CLAIMS: tuple[TableClaim, ...] = ("exactly one guard holds in each reachable state", "every run with finite data ends")


@frozen
class Verdict:
    """What was found of one claim.

    Args:
        says: The claim.
        built_in: The decision that must not be replaced, if any.
        method: ``"induction"``, ``"Spacer"``, or ``""`` where it is not proved.
        seconds: Time for the proof, without the second opinion.
        obligations: Formulas that cvc5 was asked to refute.
        refuted: How many of them it did refute.
    """

    statement: str
    built_in: Decision | None
    method: str
    seconds: float
    obligations: int
    refuted: int

    @property
    def is_proved(self) -> bool:
        """Whether both solvers agree."""
        return bool(self.method) and self.obligations == self.refuted


def table_violations(system: TransitionSystem, special: TableClaim) -> dict[State, Term]:
    """What the two claims exclude that no predicate can say."""
    if special == "every run with finite data ends":
        return rank_violations(system)
    bad = {}
    for state, visit in system.visits.items():
        conditions = [taken.condition for taken in visit.transitions]
        if not state.is_final:
            both = [z3().And(one, other) for i, one in enumerate(conditions) for other in conditions[:i]]
            bad[state] = z3().Or(*both, z3().Not(z3().Or(*conditions)))
    return bad


def prove_index(index: int, *, seconds: float = 60.0, export: Path | None = None) -> Verdict:
    """The verdict on the claim with this index; the two special ones come after all others.

    Args:
        index: The claim's place in `ALL`, and after those in `SPECIAL`.
        seconds: The time for Spacer.
        export: A folder into which the obligations are written as they are given to cvc5, a file each.
    """
    begun = process_time()
    is_special = index >= len(ALL_CLAIMS)
    claim = None if is_special else ALL_CLAIMS[index]
    built_in = None if claim is None else claim.built_in
    system = loop_system(built_in)
    known = facts_from(system, ALL_CLAIMS[:index], built_in)
    special = TABLE_CLAIMS[index - len(ALL_CLAIMS)] if is_special else TABLE_CLAIMS[0]
    bad = table_violations(system, special) if claim is None else violations_of(system, claim)
    proof = prove(system, bad, known, seconds=seconds)
    spent = process_time() - begun
    says = special if claim is None else claim.statement
    if proof is None:
        return Verdict(says, built_in, "", spent, 0, 0)
    texts = [due.to_smtlib() for due in proof.obligations]
    if export is not None:
        _write(export / f"{index:03}", proof.obligations, texts)
    return Verdict(says, built_in, proof.method, spent, len(texts), sum(map(cvc5_refutes, texts)))


def _write(folder: Path, obligations: Sequence[Obligation], texts: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (due, text) in enumerate(zip(obligations, texts, strict=True)):
        (folder / f"{number:03}.smt2").write_text(f"; {due.description}: unsat\n(set-logic ALL)\n{text}\n", encoding="utf-8")


def prove_all(processes: int = 2, *, export: Path | None = None) -> list[Verdict]:
    """The verdicts on all claims, in their order.

    Args:
        processes: How many claims are proved at a time.
        export: See `decide`.

    Raises:
        UsageError: A solver is not installed.
    """
    z3(), cvc5()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return list(pool.imap(functools.partial(prove_index, export=export), range(len(ALL_CLAIMS) + len(TABLE_CLAIMS))))
