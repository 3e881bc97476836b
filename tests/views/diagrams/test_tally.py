"""Counts and times: those of a plan, a trace and a run are those of its visits, and a diagram tells them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings

from diagrams.make import CONFIGURATIONS, words_by_id
from fsmtrain import Loop, Options, Sizes, State, draw
from fsmtrain.core.trace import BLOCK
from fsmtrain.errors import SizesError, UsageError
from fsmtrain.views.diagrams.formats import dot, mermaid, svg
from fsmtrain.views.diagrams.tally import Tally, planned_tally, tally_of
from tests.models import Validated, batches, machine_of, trained
from tests.strategies import Case, cases

LOOP = Loop(Options(max_nb_epochs=2, accumulate_grad_batches=4, val_check_interval=5), Sizes(train=9, val=[3]))


# ---- where the numbers come from


@given(cases().filter(lambda case: not (case.limits.train_is_stream or case.limits.evaluates_stream)))
@settings(max_examples=60, deadline=None)
def test_planned_counts_are_the_visits_of_the_loop(case: Case) -> None:
    loop = case.loop()
    visits = {state: n for state, n in planned_tally(loop.plan()).visits.items() if n and not state.is_final}
    assert visits == Counter(visit.state for visit in loop)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_visits_of_a_trace_are_those_of_its_run(case: Case) -> None:
    run = case.dispatcher(case.loop().table)
    run.run()
    tally = tally_of(run.trace, case.loop().spec)
    assert {state: n for state, n in tally.visits.items() if n and not state.is_final} == {
        state: spent.count for state, spent in run.times.items()
    }
    assert sum(tally.visits[state] for state in State if state in tally.visits and state.is_final) == 1


def test_a_run_has_the_planned_counts() -> None:
    machine = trained(Validated(), batches(18), batches(6), max_nb_epochs=2, accumulate_grad_batches=4, val_check_interval=5)
    tally = machine.tally
    assert tally.row_counts == planned_tally(machine.plan()).row_counts
    assert tally.seconds.keys() == machine.times.keys()
    assert tally.total_seconds == pytest.approx(sum(spent.seconds for spent in machine.times.values()))
    assert sum(map(tally.time_share, State)) == pytest.approx(1)


def test_a_long_run_is_counted_from_its_beginning() -> None:
    loop = Loop(Options(max_nb_epochs=20), Sizes(train=100))
    tally = planned_tally(loop.plan())
    assert sum(tally.row_counts) > 4 * BLOCK
    assert (tally.visits[State.STEP], tally.visits[State.EPOCH_END], tally.visits[State.DONE]) == (2000, 20, 1)


def test_the_numbers_of_another_loop_are_refused() -> None:
    other = Loop(Options(max_nb_epochs=2), Sizes(train=9))
    with pytest.raises(UsageError, match=r"counts=Plan: its table has other rows"):
        tally_of(other.plan(), LOOP.spec)


def test_without_a_length_there_is_nothing_to_foretell(tmp_path: Path) -> None:
    with pytest.raises(SizesError, match="has no length"):
        draw(Options(max_nb_epochs=1), tmp_path / "loop.dot", train=None, counts=True)


# ---- what a diagram does with them


def told(tally: Tally) -> dict[str, str]:
    """The words in the picture of `LOOP`, by their ids."""
    return {name: " ".join(text.split()) for name, text in words_by_id(svg(LOOP.spec, tally).encode()).items()}


def test_each_state_and_each_arrow_shows_its_count() -> None:
    tally = planned_tally(LOOP.plan())
    words = told(tally)
    for state, visits in tally.visits.items():
        assert words[f"state-{state}"] == f"{state} {visits}×"
    for index, (row, taken) in enumerate(zip(LOOP.table, tally.row_counts, strict=True)):
        if row.to is not State.STOPPED:
            assert words[f"edge-{index}"].endswith(f"{taken}×")


def test_times_are_shown_with_their_share() -> None:
    tally = Tally(LOOP.table, planned_tally(LOOP.plan()).row_counts, {State.STEP: 3.0, State.FETCH: 1.0})
    words = told(tally)
    assert words["state-step"] == "step 6× 3.0 s 75 %"
    assert words["state-fetch"] == "fetch 18× 1.0 s 25 %"
    assert words["state-backward"] == "backward 18×"
    assert words["graph0"].endswith("×: how often; %: of 4.0 s in the states")


def test_the_more_of_the_time_the_wider_the_ring() -> None:
    tally = Tally(LOOP.table, planned_tally(LOOP.plan()).row_counts, {State.STEP: 3.0, State.FETCH: 1.0, State.START: 1e-6})
    rings = dict(re.findall(r'    (\w+) \[id="state-.*color="#e8590c".*penwidth="([\d.]+)"', dot(LOOP.spec, tally)))
    assert rings == {"step": "5.5", "fetch": "2.5"}


def test_the_more_often_the_wider_the_arrow_and_a_broken_one_for_never() -> None:
    tally = planned_tally(LOOP.plan())
    text = dot(LOOP.spec, tally)
    for index, taken in enumerate(tally.row_counts):
        line = next((line for line in text.splitlines() if f'id="edge-{index}"' in line), "")
        assert ('style="dashed"' in line) == (taken == 0 and bool(line))
    drawn = re.findall(r'penwidth="([\d.]+)", label="(?:.*?  )?(\d+)×', text)
    widths = {int(taken): float(width) for width, taken in drawn if taken != "0"}
    assert widths[max(widths)] > widths[min(widths)] > 1
    assert [widths[taken] for taken in sorted(widths)] == sorted(widths.values())


def test_mermaid_shows_the_same_numbers() -> None:
    tally = Tally(LOOP.table, planned_tally(LOOP.plan()).row_counts, {State.STEP: 3.0, State.FETCH: 0.001})
    text = mermaid(LOOP.spec, tally)
    assert '    state "step<br/>6×  3.0 s  100 %" as step\n' in text
    assert '    state "fetch<br/>18×  1 ms  #60;1 %" as fetch\n' in text
    assert "    train_batch --> backward : 18×\n" in text


def test_a_stop_request_is_counted_in_its_note() -> None:
    machine = machine_of(Validated(), batches(18), batches(6), max_nb_epochs=2)
    machine.stop()
    machine.run()
    assert words_by_id(svg(machine.loop.spec, machine.tally).encode())["stop-request"].endswith(" 1×")


def test_counts_are_drawn_only_on_request(tmp_path: Path) -> None:
    """Of a machine before its run those of the plan, then its own."""
    machine = machine_of(Validated(), batches(18), batches(6), max_nb_epochs=2)
    path = tmp_path / "machine.dot"
    machine.draw(path)
    assert path.read_text() == dot(machine.loop.spec)
    machine.draw(path, counts=True)
    assert path.read_text() == dot(machine.loop.spec, planned_tally(machine.plan()))
    machine.run()
    machine.draw(path, counts=True)
    assert path.read_text() == dot(machine.loop.spec, machine.tally) != dot(machine.loop.spec)
    machine.loop.draw(path, counts=machine.trace)
    assert path.read_text() == dot(machine.loop.spec, planned_tally(machine.plan()))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_counting_changes_no_condition(name: str) -> None:
    loop = CONFIGURATIONS[name]
    plain, counted = words_by_id(svg(loop.spec).encode()), words_by_id(svg(loop.spec, planned_tally(loop.plan())).encode())
    assert plain.keys() == counted.keys()
    assert all(counted[name].startswith(plain[name].strip()) for name in plain)
