"""Spin explores every run of the table within small bounds."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.spin.bounds import ALL_BOUNDS
from fsmtrain.prove.spin.promela import promela_model
from fsmtrain.prove.spin.run_spin import missing_program, run_spin, spin_refutes
from tests.planted_faults.fault_detection import CLAIMS, whole_table
from tests.planted_faults.fault_operators import faults

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing_program() is not None, reason=f"model checking needs Spin: {missing_program()}"),
]
PREDICATE_CLAIMS = tuple(claim for claim in CLAIMS if isinstance(claim, Claim))


@pytest.mark.parametrize("bounds", ALL_BOUNDS)
def test_every_run_within_the_bounds_ends_and_keeps_all_claims(bounds: str) -> None:
    """Nor is the search empty: it reaches every state that these bounds let a run come to, and the end."""
    model = promela_model(whole_table(), PREDICATE_CLAIMS, ALL_BOUNDS[bounds])
    result = run_spin(model, timeout_seconds=600)
    assert result.errors == 0, result.output
    assert result.states > 10_000
    unreached = {int(number) for number in re.findall(r"model\.pml:(\d+),", result.output)}
    visits = {line.split()[3]: number for number, line in enumerate(model.splitlines(), 1) if line.startswith(":: at == AT_")}
    assert {"AT_DONE", "AT_SAVE"} <= {state for state, number in visits.items() if number not in unreached}


def test_a_dropped_effect_is_found() -> None:
    fault = next(fault for fault in faults(whole_table()) if fault.operator == "drop effect" and "val_check" in fault.place)
    assert spin_refutes(fault.table, PREDICATE_CLAIMS)


def test_guards_that_cannot_be_read_may_answer_both() -> None:
    model = promela_model(whole_table(), (), ALL_BOUNDS["windows"])
    assert "if :: answer_0 = 0 :: answer_0 = 1 fi;" in model
