"""The table at the end of a run."""

from __future__ import annotations

import pytest

from fsmtrain.core.dispatch import Spent
from fsmtrain.core.reasons import StopReason
from fsmtrain.core.states import State
from fsmtrain.views.summary import states_table

TIMES = {State.STEP: Spent(45, 0.75), State.FETCH: Spent(90, 0.25), State.TRAIN_BATCH: Spent(1_234_567, 9.0)}


def rows(times: dict[State, Spent], reason: StopReason | None = StopReason.REQUESTED) -> list[list[str]]:
    """The cells of the table, its sentence left out."""
    return [line.split() for line in states_table(times, reason).splitlines()[1:] if not line.startswith(("Why", "The"))]


def test_each_visited_state_has_a_row_in_the_order_of_the_loop_and_the_last_row_is_the_total() -> None:
    assert rows(TIMES) == [
        ["fetch", "90", "0.250", "2.5%", "2,778"],
        ["train_batch", "1,234,567", "9.000", "90.0%", "7.3"],
        ["step", "45", "0.750", "7.5%", "16,667"],
        ["total", "1,234,702", "10.000", "100.0%"],
    ]


def test_numbers_end_and_names_begin_below_each_other() -> None:
    lines = states_table(TIMES, StopReason.REQUESTED).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert all(line[0] != " " for line in lines)
    ends = [line.index("%") for line in lines[1:5]]
    assert len(set(ends)) == 1


@pytest.mark.parametrize("reason", [*StopReason, None])
@pytest.mark.parametrize("visits", [1, 10**12])
def test_no_line_is_longer_than_80_columns(reason: StopReason | None, visits: int) -> None:
    """Not even after a run of a year with all states."""
    text = states_table({state: Spent(visits, 3e7) for state in State}, reason)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("reason", StopReason)
def test_the_last_sentence_says_why_the_run_stopped(reason: StopReason) -> None:
    table = states_table(TIMES, reason)
    assert f"Why it stopped: {reason}." in " ".join(table.splitlines())


def test_a_run_that_did_not_come_to_its_end_is_told_as_such() -> None:
    assert states_table(TIMES, None).splitlines()[-1] == "The run did not come to its end."


def test_a_run_without_any_visit_or_measurable_time_has_a_table_too() -> None:
    assert rows({}) == [["total", "0", "0.000", "0.0"][:3]]
    assert rows({State.START: Spent(1, 0.0)}) == [["start", "1", "0.000", "0.0"], ["total", "1", "0.000"]]
