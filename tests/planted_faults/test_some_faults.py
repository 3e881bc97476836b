"""A few of the faults of `tests.planted_faults.all_faults`, so that the proofs are seen to fail where they must."""

from __future__ import annotations

import pytest

pytest.importorskip("z3", reason="the extra 'prove' is not installed: pip install 'fsmtrain[prove]'")

from tests.planted_faults.all_faults import Caught, planted_faults, score
from tests.planted_faults.fault_detection import case_with_another_trace, check_finding, is_equivalent, lost_claim, whole_table

SAMPLE = range(7, len(planted_faults()), 120)


@pytest.mark.parametrize("number", SAMPLE)
def test_a_fault_is_caught_by_the_proofs_or_is_none(number: int) -> None:
    fault = planted_faults()[number]
    assert lost_claim(fault.table) is not None or is_equivalent(fault.table), (fault.operator, fault.says)


def test_without_a_fault_nothing_is_caught() -> None:
    assert lost_claim(whole_table()) is None
    assert check_finding(whole_table()) is None
    assert case_with_another_trace(whole_table()) is None
    assert is_equivalent(whole_table())


def test_the_score_counts_what_was_caught_by_whom() -> None:
    found = [
        Caught(0, "drop when", "row 0", "a claim", None, True, None, False),
        Caught(1, "drop when", "row 1", None, None, False, None, True),
        Caught(2, "redirect", "row 1", None, None, False, None, False),
        Caught(3, "redirect", "row 1", None, "a finding", False, None, False),
    ]
    lines = [line.split() for line in score(found).splitlines()]
    assert lines[1] == ["drop", "when", "2", "1", "0", "1", "-", "1", "0"]
    assert lines[-1] == ["all", "4", "1", "1", "1", "-", "1", "1"]
