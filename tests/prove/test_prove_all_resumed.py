"""The claims about runs that are resumed with other limits: a slice of the proofs, and planted faults that lose a claim.

All of them: ``python -m fsmtrain.prove --resumed``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")
pytest.importorskip("cvc5", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from fsmtrain.core import transition_guards
from fsmtrain.core.counters import Counters
from fsmtrain.core.limits import Limits
from fsmtrain.core.resume_point import adoptions, lengthen_epoch_to_close_windows, lengthen_epoch_to_this_batch
from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.loop_model import resuming
from fsmtrain.prove.prove_all import made_for_resumed_runs, verdict_on
from fsmtrain.prove.smt import transition_system
from fsmtrain.prove.smt.arbitrary_guards import loop_system
from fsmtrain.prove.smt.prove_claim import facts_from, group_of, prove, violations_of

pytestmark = pytest.mark.slow

POSITION = {claim.name: index for index, claim in enumerate(ALL_CLAIMS)}


@pytest.mark.parametrize("index", made_for_resumed_runs()[9::80])
def test_both_solvers_prove_the_claim_of_resumed_runs(index: int) -> None:
    verdict = verdict_on(index, resumed=True)
    assert verdict.is_proved, verdict


def test_a_false_claim_about_resumed_runs_is_not_proved_although_all_other_claims_are_known() -> None:
    """If the assumptions or the known claims contradicted each other, anything could be proved."""

    def nothing_was_done_before(counters: Counters) -> bool:
        return counters.current_epoch == 0

    claim, system = Claim("false", nothing_was_done_before), loop_system(None, resumed=True)
    facts = facts_from(system, ALL_CLAIMS, None)
    assert prove(system, violations_of(system, claim), facts, timeout_seconds=1.0) is None


# ---- planted faults: each limit asked for by equality, or not adopted


def equal_epochs(limits: Any, counters: Any, signals: Any) -> bool:
    return counters.epochs_done == limits.epochs  # type: ignore[no-any-return]


def equal_interval(limits: Any, counters: Any, signals: Any) -> bool:
    return (  # type: ignore[no-any-return]
        counters.batches_since_validation == counters.epoch_val_check_batches
        and counters.epochs_since_validation == limits.val_check_epochs
    )


def equal_window(limits: Any, counters: Any, signals: Any) -> bool:
    return counters.gathered == counters.window_length  # type: ignore[no-any-return]


def never(limits: Limits) -> bool:
    return limits.epochs < 0


def without(*left_out: Callable[..., None]) -> Callable[..., Any]:
    """Return `adoptions` without some of them."""
    return lambda state, guards: tuple(change for change in adoptions(state, guards) if change not in left_out)


FAULTS: dict[str, tuple[Any, Any, Any, str]] = {
    "epochs_done == max_nb_epochs": (transition_guards, "epochs_are_exhausted", equal_epochs, "an_epoch_is_left"),
    "batches since a validation == the interval": (
        transition_guards, "validation_interval_is_over", equal_interval, "validation_is_not_due",
    ),
    "gathered == K": (transition_guards, "window_is_full", equal_window, "a_window_has_room"),
    "an epoch past the last one is completed": (
        resuming.LIMITS_OF_RESUMED_RUNS, "is_past_last_epoch", never, "an_epoch_is_left",
    ),
    "K is 1 although a longer window is open": (
        resuming.LIMITS_OF_RESUMED_RUNS, "begins_in_window", never, "without_accumulation_no_window_is_open",
    ),
    "an open window does not lengthen its epoch": (
        transition_system, "adoptions", without(lengthen_epoch_to_close_windows), "the_last_round_closes_the_window",
    ),
    "an epoch is shorter than its batch under way": (
        transition_system, "adoptions", without(lengthen_epoch_to_this_batch), "no_batch_is_fetched_too_many",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_loses_a_claim_of_resumed_runs(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, broken, lost = FAULTS[fault]
    (monkeypatch.setitem if isinstance(owner, dict) else monkeypatch.setattr)(owner, name, broken)
    claim = ALL_CLAIMS[POSITION[lost]]
    system = loop_system.__wrapped__(claim.built_in, resumed=True)
    facts = facts_from(system, ALL_CLAIMS[: POSITION[lost]], claim.built_in)
    group = group_of(system, ALL_CLAIMS, claim)
    assert prove(system, violations_of(system, claim), facts, timeout_seconds=1.0, group=group) is None
