"""Z3 proves each claim about the table that runs, and cvc5 refutes each obligation of its proof as well."""

from __future__ import annotations

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")
pytest.importorskip("cvc5", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from fsmtrain.core.counters import Counters
from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.prove_all import TABLE_CLAIMS, verdict_on
from fsmtrain.prove.smt.arbitrary_guards import loop_system
from fsmtrain.prove.smt.lemmas import LEMMAS, Lemma, prove_lemmas
from fsmtrain.prove.smt.prove_claim import facts_from, prove, violations_of

pytestmark = pytest.mark.slow

NAMES = [*(claim.name for claim in ALL_CLAIMS), *TABLE_CLAIMS]


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_both_solvers_prove_the_claim(index: int) -> None:
    verdict = verdict_on(index)
    assert verdict.is_proved, verdict


@pytest.mark.parametrize("lemma", LEMMAS, ids=[lemma.statement for lemma in LEMMAS])
def test_at_least_one_solver_proves_the_lemma(lemma: Lemma) -> None:
    (verdict,) = prove_lemmas((lemma,))
    assert verdict.z3 or verdict.cvc5


def test_a_false_claim_is_not_proved_although_all_other_claims_are_known() -> None:
    """If the assumptions or the known claims contradicted each other, anything could be proved."""

    def the_first_epoch_is_the_last(counters: Counters) -> bool:
        return counters.current_epoch == 0

    claim, system = Claim("false", the_first_epoch_is_the_last), loop_system(None)
    facts = facts_from(system, ALL_CLAIMS, None)
    assert prove(system, violations_of(system, claim), facts, timeout_seconds=5.0) is None
