"""The table as a Promela model: Spin goes through every run within small bounds."""

from __future__ import annotations

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.spin.promela import ALL_BOUNDS, promela_model
from fsmtrain.prove.spin.run_spin import missing_program, run_spin
from tests.planted_faults.fault_detection import CLAIMS, whole_table
from tests.planted_faults.fault_operators import faults

pytestmark = pytest.mark.skipif(
    missing_program() is not None, reason=f"{missing_program()}; Spin and gcc check the Promela model"
)
PLAIN = tuple(claim for claim in CLAIMS if isinstance(claim, Claim))


@pytest.mark.parametrize("bounds", ALL_BOUNDS)
def test_no_run_within_the_bounds_breaks_a_claim_or_goes_on_for_ever(bounds: str) -> None:
    found = run_spin(promela_model(whole_table(), PLAIN, ALL_BOUNDS[bounds]), seconds=600)
    assert found.errors == 0, found.output
    assert found.states > 10_000


def test_a_fault_is_found() -> None:
    fault = next(fault for fault in faults(whole_table()) if fault.operator == "drop effect" and "check" in fault.says)
    assert any(run_spin(promela_model(fault.table, PLAIN, bounds)).errors for bounds in ALL_BOUNDS.values())
