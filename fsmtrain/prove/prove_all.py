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
from fsmtrain.prove.claim import Claim, Decision
from fsmtrain.prove.claims import CLAIMS, FACTS
from fsmtrain.prove.obligations import Obligation, cvc5_agrees
from fsmtrain.prove.prove_claim import bad_of, known_from, prove
from fsmtrain.prove.solvers import cvc5, z3
from fsmtrain.prove.systems import world
from fsmtrain.prove.termination import not_lowered
from fsmtrain.prove.transition_system import System
from fsmtrain.prove.z3_terms import Term

# Facts about one field, which the claims above all others may use.
FIRST = frozenset({"without_accumulation_the_window_is_one", "one_optimizer_is_number_0", "only_a_stream_ends"})


def in_order(claims: Iterable[Claim], facts: Iterable[Claim]) -> tuple[Claim, ...]:
    """All claims, such that each is proved from those before it."""
    facts = tuple(facts)
    return (*(f for f in facts if f.name in FIRST), *claims, *(f for f in facts if f.name not in FIRST))


ALL = in_order(CLAIMS, FACTS)
Special = Literal["exactly one guard holds in each reachable state", "every run with finite data ends"]
SPECIAL: tuple[Special, ...] = ("exactly one guard holds in each reachable state", "every run with finite data ends")


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

    says: str
    built_in: Decision | None
    method: str
    seconds: float
    obligations: int
    refuted: int

    @property
    def is_proved(self) -> bool:
        """Whether both solvers agree."""
        return bool(self.method) and self.obligations == self.refuted


def bad_of_special(system: System, special: Special) -> dict[State, Term]:
    """What the two claims exclude that no predicate can say."""
    if special == "every run with finite data ends":
        return not_lowered(system)
    bad = {}
    for state, visit in system.visits.items():
        conditions = [taken.condition for taken in visit.rows]
        if not state.is_final:
            both = [z3().And(one, other) for i, one in enumerate(conditions) for other in conditions[:i]]
            bad[state] = z3().Or(*both, z3().Not(z3().Or(*conditions)))
    return bad


def decide(index: int, *, seconds: float = 60.0, export: Path | None = None) -> Verdict:
    """The verdict on the claim with this index; the two special ones come after all others.

    Args:
        index: The claim's place in `ALL`, and after those in `SPECIAL`.
        seconds: The time for Spacer.
        export: A folder into which the obligations are written as they are given to cvc5, a file each.
    """
    begun = process_time()
    is_special = index >= len(ALL)
    claim = None if is_special else ALL[index]
    built_in = None if claim is None else claim.built_in
    system = world(built_in)
    known = known_from(system, ALL[:index], built_in)
    special = SPECIAL[index - len(ALL)] if is_special else SPECIAL[0]
    bad = bad_of_special(system, special) if claim is None else bad_of(system, claim)
    proof = prove(system, bad, known, seconds=seconds)
    spent = process_time() - begun
    says = special if claim is None else claim.says
    if proof is None:
        return Verdict(says, built_in, "", spent, 0, 0)
    texts = [due.smt2() for due in proof.obligations]
    if export is not None:
        _write(export / f"{index:03}", proof.obligations, texts)
    return Verdict(says, built_in, proof.method, spent, len(texts), sum(map(cvc5_agrees, texts)))


def _write(folder: Path, obligations: Sequence[Obligation], texts: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (due, text) in enumerate(zip(obligations, texts, strict=True)):
        (folder / f"{number:03}.smt2").write_text(f"; {due.says}: unsat\n(set-logic ALL)\n{text}\n", encoding="utf-8")


def decide_all(processes: int = 2, *, export: Path | None = None) -> list[Verdict]:
    """The verdicts on all claims, in their order.

    Args:
        processes: How many claims are proved at a time.
        export: See `decide`.

    Raises:
        UsageError: A solver is not installed.
    """
    z3(), cvc5()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return list(pool.imap(functools.partial(decide, export=export), range(len(ALL) + len(SPECIAL))))
