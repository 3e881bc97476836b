"""The rows of facts in `states`: complete, and true of the table and of what the engines' actions may do."""

from __future__ import annotations

from itertools import pairwise

import pytest
from attrs import fields

from fsmtrain.core.counters import SIGNAL_DEFAULTS, SIGNALS, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.iteration import reset_signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import full_table
from fsmtrain.prove.loop_model.assumptions import ACTIONS
from fsmtrain.prove.smt.ranking_function import RANKS

ROWS = full_table(decisions(Guards())).rows


@pytest.mark.parametrize("state", State, ids=str)
def test_every_state_has_a_row_of_facts_whose_signals_exist(state: State) -> None:
    assert set(state.info.writes) <= set(SIGNALS)
    assert (state.info.eval_pass is not None) == (state.info.kind == "evaluation") == bool(state.info.activity)


@pytest.mark.parametrize("state", State, ids=str)
def test_a_state_is_final_exactly_if_no_row_of_the_table_leaves_it(state: State) -> None:
    assert state.is_final == (not any(row.source is state for row in ROWS))


def test_only_evaluations_visit_themselves() -> None:
    assert {row.source for row in ROWS if row.source is row.to} == {s for s in State if s.info.kind == "evaluation"}


def test_the_central_states_are_a_path_through_the_table() -> None:
    central = [state for state in State if state.info.is_central]
    edges = {(row.source, row.to) for row in ROWS}
    assert all(pair in edges for pair in pairwise(central))


def test_proofs_and_rows_agree_on_the_states_that_write_signals() -> None:
    assert {state for state in State if state.info.writes} == set(ACTIONS)


def test_the_ranking_function_has_a_rank_for_every_state() -> None:
    assert set(RANKS) == set(State)


@pytest.mark.parametrize("state", State, ids=str)
def test_a_visit_resets_the_signals_of_the_last_visit_to_its_state_and_no_others(state: State) -> None:
    signals, untouched = Signals(), Signals()
    for name, default in SIGNAL_DEFAULTS.items():
        setattr(signals, name, not default if isinstance(default, bool) else 7)
        setattr(untouched, name, getattr(signals, name))
    reset_signals(signals, state)
    reset = {name for name in state.info.writes if not SIGNALS[name].lasts}
    for name in reset:
        setattr(untouched, name, SIGNAL_DEFAULTS[name])
    assert signals == untouched
    assert reset <= {"stream_ended", "loss_is_none", "own_steps", "step_skipped", "nonfinite", "pass_ended"}


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signal_names_a_flag_of_the_limits_that_makes_it_possible(signal: str) -> None:
    needs = SIGNALS[signal].needs
    assert not needs or str(getattr(fields(Limits), needs).type) == "bool"
