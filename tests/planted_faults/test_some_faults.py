"""A sample of the faults of `tests.planted_faults.all_faults`: the proofs fail if the table is wrong."""

from __future__ import annotations

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from tests.planted_faults.all_faults import Judgement, planted_faults, score
from tests.planted_faults.fault_detection import case_with_another_trace, check_finding, is_equivalent, lost_claim, whole_table

pytestmark = pytest.mark.slow

SAMPLE = range(127, len(planted_faults()), 240)


@pytest.mark.parametrize("number", SAMPLE)
def test_a_fault_loses_a_claim_or_changes_nothing(number: int) -> None:
    """Six faults, which show that the proofs can fail; all of them are one command, see `all_faults`."""
    fault = planted_faults()[number]
    assert lost_claim(fault.table) is not None or is_equivalent(fault.table), (fault.operator, fault.place)


def test_nothing_is_detected_in_the_table_without_a_fault() -> None:
    assert lost_claim(whole_table()) is None
    assert check_finding(whole_table()) is None
    assert case_with_another_trace(whole_table()) is None
    assert is_equivalent(whole_table())


def test_the_score_counts_what_detects_each_fault() -> None:
    judgements = [
        Judgement(0, "drop when", "row 0", lost_claim="a claim", traces_differ=True),
        Judgement(1, "drop when", "row 1", is_equivalent=True),
        Judgement(2, "redirect", "row 1"),
        Judgement(3, "redirect", "row 1", check_error="a finding"),
    ]
    lines = [line.split() for line in score(judgements).splitlines()]
    assert lines[1] == ["drop", "when", "2", "1", "0", "1", "-", "1", "0"]
    assert lines[-1] == ["all", "4", "1", "1", "1", "-", "1", "1"]
