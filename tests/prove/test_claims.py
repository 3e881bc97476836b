"""Each claim is proved by Z3 of the table that runs, and each obligation of its proof is refuted by cvc5 as well."""

from __future__ import annotations

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")
pytest.importorskip("cvc5", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.loop_model.effect_ast import read_predicate
from fsmtrain.prove.prove_all import ALL_CLAIMS, TABLE_CLAIMS, prove_index
from fsmtrain.prove.smt.arbitrary_guards import loop_system
from fsmtrain.prove.smt.lemmas import LEMMAS, prove_lemmas
from fsmtrain.prove.smt.prove_claim import facts_from, prove, violations_of


@pytest.mark.parametrize(
    "index", range(len(ALL_CLAIMS) + len(TABLE_CLAIMS)), ids=[*(claim.name for claim in ALL_CLAIMS), *TABLE_CLAIMS]
)
def test_a_claim_is_proved_by_both_solvers(index: int) -> None:
    verdict = prove_index(index)
    assert verdict.is_proved, verdict


@pytest.mark.parametrize("lemma", LEMMAS, ids=[lemma.statement for lemma in LEMMAS])
def test_a_lemma_is_proved_by_at_least_one_solver(lemma: object) -> None:
    (verdict,) = (verdict for verdict in prove_lemmas() if verdict.lemma is lemma)
    assert verdict.z3 or verdict.cvc5


def test_a_false_claim_is_not_proved() -> None:
    """With what is known of it, and of no avail: the assumptions do not contradict each other."""

    def the_first_epoch_is_the_last(counters: object) -> bool:
        return counters.current_epoch == 0  # type: ignore[attr-defined, no-any-return]

    claim = Claim("false", the_first_epoch_is_the_last)
    assert read_predicate(claim.holds) is not None
    system = loop_system(None)
    assert prove(system, violations_of(system, claim), facts_from(system, ALL_CLAIMS, None), seconds=5.0) is None
