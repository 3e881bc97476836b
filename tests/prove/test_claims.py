"""Each claim is proved by Z3 of the table that runs, and each obligation of its proof is refuted by cvc5 as well."""

from __future__ import annotations

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")
pytest.importorskip("cvc5", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from fsmtrain.prove.claim import Claim
from fsmtrain.prove.effect_ast import value_of
from fsmtrain.prove.lemmas import LEMMAS, decide_lemmas
from fsmtrain.prove.prove_all import ALL, SPECIAL, decide
from fsmtrain.prove.prove_claim import bad_of, known_from, prove
from fsmtrain.prove.systems import world


@pytest.mark.parametrize("index", range(len(ALL) + len(SPECIAL)), ids=[*(claim.name for claim in ALL), *SPECIAL])
def test_a_claim_is_proved_by_both_solvers(index: int) -> None:
    verdict = decide(index)
    assert verdict.is_proved, verdict


@pytest.mark.parametrize("lemma", LEMMAS, ids=[lemma.says for lemma in LEMMAS])
def test_a_lemma_is_proved_by_at_least_one_solver(lemma: object) -> None:
    (verdict,) = (verdict for verdict in decide_lemmas() if verdict.lemma is lemma)
    assert verdict.z3 or verdict.cvc5


def test_a_false_claim_is_not_proved() -> None:
    """With what is known of it, and of no avail: the assumptions do not contradict each other."""

    def the_first_epoch_is_the_last(counters: object) -> bool:
        return counters.current_epoch == 0  # type: ignore[attr-defined, no-any-return]

    claim = Claim("false", the_first_epoch_is_the_last)
    assert value_of(claim.holds) is not None
    system = world(None)
    assert prove(system, bad_of(system, claim), known_from(system, ALL, None), seconds=5.0) is None
