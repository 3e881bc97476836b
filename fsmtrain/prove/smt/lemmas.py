"""The lemmas about multiplication and ``%``, which Spacer cannot use: each is given to both solvers by itself.

A claim says: batches_nb + 1 == whole + place, where `whole` grows by `interval` whenever `place` begins anew. From these
lemmas it follows that `place` reaches `interval` exactly when ``(batch_nb + 1) % interval == 0``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

from attrs import frozen

from fsmtrain.prove.smt.obligations import Obligation, cvc5_refutes, z3_refutes
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.z3_terms import Term


@frozen
class Lemma:
    """A fact of arithmetic: `holds` makes it for four whole numbers."""

    statement: str
    holds: Callable[[Term, Term, Term, Term], Term]


@frozen
class LemmaVerdict:
    """Which solver proves a lemma, and how long both took together."""

    lemma: Lemma
    z3: bool
    cvc5: bool
    seconds: float


def _whole_begins_as_a_multiple(number: Term, times: Term, interval: Term, place: Term) -> Term:
    return z3().IntVal(0) == 0 * interval


def _whole_stays_a_multiple(number: Term, times: Term, interval: Term, place: Term) -> Term:
    return z3().Implies(number == times * interval, number + interval == (times + 1) * interval)


def _place_is_full_when_divisible(number: Term, times: Term, interval: Term, place: Term) -> Term:
    known = z3().And(interval >= 1, place >= 1, place <= interval, times >= 0, number == times * interval + place)
    return z3().Implies(known, (place == interval) == (number % interval == 0))


LEMMAS = (
    Lemma("whole is a multiple of interval at first: 0 == 0 * interval", _whole_begins_as_a_multiple),
    Lemma("and stays one: whole == t * interval implies whole + interval == (t + 1) * interval", _whole_stays_a_multiple),
    Lemma("n == t * interval + place, 1 <= place <= interval: place == interval iff n % interval == 0",
          _place_is_full_when_divisible),
)  # fmt: skip


def prove_lemmas(lemmas: tuple[Lemma, ...] = LEMMAS) -> list[LemmaVerdict]:
    """Both solvers' verdicts."""
    verdicts = []
    for lemma in lemmas:
        begun = process_time()
        due = Obligation(lemma.statement, (z3().Not(lemma.holds(*z3().Ints("number times interval place"))),))
        verdicts.append(LemmaVerdict(lemma, z3_refutes(due, 3.0), cvc5_refutes(due.to_smtlib()), process_time() - begun))
    return verdicts
