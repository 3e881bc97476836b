"""Lemmas about multiplication and ``%``, which Spacer cannot use: each is given to Z3 and to cvc5 by itself.

A claim says that ``batch_nb + 1 == whole + position``, where ``whole`` grows by ``interval`` whenever ``position`` starts
again. By these lemmas, ``position`` reaches ``interval`` exactly when ``(batch_nb + 1) % interval == 0``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

from attrs import frozen

from fsmtrain.prove.smt.call_z3_and_cvc5 import cvc5_refutes, to_smtlib, z3, z3_refutes
from fsmtrain.prove.smt.z3_terms import Term


@frozen
class Lemma:
    """A fact of arithmetic about four whole numbers."""

    statement: str
    formula: Callable[[Term, Term, Term, Term], Term]


@frozen
class LemmaVerdict:
    """Which solvers prove a lemma, and the processor time of both together, in seconds."""

    lemma: Lemma
    z3: bool
    cvc5: bool
    seconds: float


def _divisible_at_the_last_position(n: Term, t: Term, interval: Term, position: Term) -> Term:
    known = z3().And(interval >= 1, position >= 1, position <= interval, t >= 0, n == t * interval + position)
    return z3().Implies(known, (position == interval) == (n % interval == 0))


LEMMAS = (
    Lemma("0 is a multiple of interval: 0 == 0 * interval", lambda n, t, interval, position: z3().IntVal(0) == 0 * interval),
    Lemma("the next multiple: n == t * interval implies n + interval == (t + 1) * interval",
          lambda n, t, interval, position: z3().Implies(n == t * interval, n + interval == (t + 1) * interval)),
    Lemma("n == t * interval + position, 1 <= position <= interval: position == interval iff n % interval == 0",
          _divisible_at_the_last_position),
)  # fmt: skip


def prove_lemmas(lemmas: tuple[Lemma, ...] = LEMMAS) -> list[LemmaVerdict]:
    """Return the verdict of both solvers on each lemma."""
    verdicts = []
    for lemma in lemmas:
        start = process_time()
        negation = (z3().Not(lemma.formula(*z3().Ints("n t interval position"))),)
        by_z3, by_cvc5 = z3_refutes(negation, 3.0), cvc5_refutes(to_smtlib(negation))
        verdicts.append(LemmaVerdict(lemma, by_z3, by_cvc5, process_time() - start))
    return verdicts
