"""The assumptions of the proofs hold in the code, and the claims hold in random runs. No solver is needed here.

The functions that the solvers are given are plain Python, so these tests run them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.effects import AnyEffect, apply_effects
from fsmtrain.core.folding import facts, facts_at
from fsmtrain.core.limits import Limits, resolve
from fsmtrain.core.loop_spec import limits_of
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import full_table
from fsmtrain.options import Options
from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.claims.folding_facts import (
    FIRST_FACTS,
    LAST_FACTS,
    every_epoch_has_validation,
    one_k_for_all_epochs,
    one_optimizer_is_number_0,
    only_a_pass_with_a_stream_signals_its_end,
    only_a_rollback_policy_rolls_back,
    only_a_scaler_or_policy_skips_steps,
    only_a_step_that_may_return_none_has_no_loss,
    only_a_stream_signals_its_end,
    only_an_own_step_makes_another_number_of_steps,
    only_early_stopping_ends_epochs_early,
    only_early_stopping_has_patience,
    only_max_time_is_up,
    without_accumulation_gathered_is_0,
    without_accumulation_gathered_is_1,
    without_accumulation_no_stop_waits,
    without_accumulation_no_window_is_open,
    without_accumulation_window_length_is_1,
    without_an_end_to_save_ending_is_0,
    without_an_own_step_steps_made_is_1,
    without_bptt_batch_splits_is_1,
    without_bptt_split_nb_is_0,
    without_bptt_splits_is_1,
    without_early_stopping_no_stop_waits,
)  # fmt: skip
from fsmtrain.prove.loop_model.assumptions import (
    ACTIONS,
    LEGAL_LIMITS,
    begin_run,
    inputs_are_legal,
    request_stop,
    validation_interval_fits,
    window_length_is_legal,
)
from fsmtrain.prove.loop_model.effect_ast import read_effect
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, GhostState, Inputs
from tests.planted_faults.fault_operators import planted_effect
from tests.strategies import Case, cases

EFFECTS: list[AnyEffect] = list(dict.fromkeys(effect for row in full_table(decisions(Guards())) for effect in row.then))


@given(cases(skips_steps=True))
@settings(max_examples=300, deadline=None)
def test_resolve_guarantees_what_proofs_assume_about_limits(case: Case) -> None:
    limits = limits_of(case.options, case.sizes, case.guards)
    assert all(legal(limits) for legal in LEGAL_LIMITS)
    if case.replaced.validate is None:
        assert validation_interval_fits(limits)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_an_effect_does_what_its_source_was_read_as(effect: AnyEffect, data: st.DataObject) -> None:
    values: dict[str, Any] = {}
    number = st.integers(0, 2)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": number,
        "list[int]": st.lists(number, min_size=4, max_size=4),
    }
    for f in fields(Counters):
        values[f.name] = data.draw(kinds[str(f.type)])
    limits = evolve(_limits(), optimizers=3, val_check_epochs=data.draw(st.integers(1, 3)), windows=((0, 2), (2, 3)))
    expected, actual = Counters(**values).copy(), Counters(**values).copy()
    signals = Signals(splits=data.draw(number))
    apply_effects([effect], limits, expected, signals)
    apply_effects([planted_effect(effect, read_effect(effect))], limits, actual, signals)
    assert actual == expected


def _limits() -> Limits:
    return resolve(Options(), Sizes(train=3))


@given(cases(skips_steps=True), st.data())
@settings(max_examples=150, deadline=None)
def test_the_claims_hold_at_every_visit_of_runs_with_random_inputs(case: Case, data: st.DataObject) -> None:
    """The assumed actions and the ghost state's updates are run beside the whole table."""
    limits = evolve(case.limits, rolls_back=data.draw(st.booleans()))
    table, random = case.full_table, data.draw(st.randoms(use_true_random=False))
    ghost = ghost_state(case, watched_i=random.randrange(limits.optimizers))
    counters, signals = Counters.begin(limits.optimizers), Signals()
    records: dict[str, Any] = {"limits": limits, "counters": counters, "signals": signals, "ghost": ghost}
    epoch = 0

    def choose_inputs() -> None:
        inputs = Inputs(
            stop=random.random() < 0.01,
            patience_exhausted=random.random() < 0.3,
            loss_is_none=random.random() < 0.3,
            steps_made=random.randint(0, 2),
            step_skipped=random.random() < 0.3,
            nonfinite=random.random() < 0.1,
            splits=random.randint(0, 3),
            batches=random.randint(1, 4),
            interval=random.randint(1, 3),
            sanity_batches=limits.sanity_batches or random.randint(1, 3),
            val_check_batches=limits.val_batches or random.randint(1, 3),
            test_batches=limits.test_batches or random.randint(1, 3),
            window=limits.window_of(epoch),
        )
        assert inputs_are_legal(limits, ghost, inputs)
        assert window_length_is_legal(ghost, inputs)
        records["inputs"] = inputs

    choose_inputs()
    call(begin_run, records)
    state = State.START
    for _ in range(3000):
        epoch = ghost.epochs_begun
        choose_inputs()
        for function in (request_stop, ACTIONS.get(state), BEFORE_GUARDS.get(state)):
            if function is not None:
                call(function, records)
        possible = [row for row in table.leaving(state) if row.holds(limits, counters, signals)]
        assert len(possible) == (0 if state.is_final else 1)
        for claim in ALL_CLAIMS:
            applies = state in claim.at and (claim.to is None or any(row.to in claim.to for row in possible))
            if applies and is_made_for(claim, case):
                assert call(claim.holds, records), (claim.statement, state, counters, signals, ghost)
        if state.is_final:
            break
        if state in AFTER_GUARDS:
            call(AFTER_GUARDS[state], records)
        apply_effects(possible[0].then, limits, counters, signals)
        state = possible[0].to


def ghost_state(case: Case, watched_i: int = 0) -> GhostState:
    """Return the initial ghost state of a run."""
    windows = case.limits.windows
    return GhostState(
        never_accumulates=not case.guards.step and all(length == 1 for _, length in windows),
        same_window=windows[0][1] if len(windows) == 1 and windows[0][0] == 0 else 0,
        watched_i=watched_i,
    )


def is_made_for(claim: Claim, case: Case) -> bool:
    """Return whether a claim is made for runs with these guards."""
    return claim.built_in is None or not getattr(case.guards, claim.built_in)


def call(function: Callable[..., Any], records: dict[str, Any]) -> Any:
    """Call a function whose parameters are records."""
    return function(*(records[name] for name in inspect.signature(function).parameters))


# ---- the facts that folding relies on

Proofs = dict[tuple[str, str], Callable[..., bool]]

PROVED: Proofs = {
    ("counters", "optimizer_i"): one_optimizer_is_number_0,
    ("counters", "split_nb"): without_bptt_split_nb_is_0,
    ("signals", "splits"): without_bptt_splits_is_1,
    ("counters", "batch_splits"): without_bptt_batch_splits_is_1,
    ("signals", "stream_ended"): only_a_stream_signals_its_end,
    ("signals", "pass_ended"): only_a_pass_with_a_stream_signals_its_end,
    ("signals", "patience_exhausted"): only_early_stopping_has_patience,
    ("counters", "epoch_ended_early"): only_early_stopping_ends_epochs_early,
    ("signals", "own_steps"): only_an_own_step_makes_another_number_of_steps,
    ("counters", "steps_made"): without_an_own_step_steps_made_is_1,
    ("counters", "ending"): without_an_end_to_save_ending_is_0,
    ("signals", "loss_is_none"): only_a_step_that_may_return_none_has_no_loss,
    ("signals", "time_is_up"): only_max_time_is_up,
    ("signals", "step_skipped"): only_a_scaler_or_policy_skips_steps,
    ("signals", "nonfinite"): only_a_rollback_policy_rolls_back,
    ("counters", "window_length"): without_accumulation_window_length_is_1,
}
PROVED_AT: Proofs = {
    ("counters", "open_windows"): without_accumulation_no_window_is_open,
    ("counters", "window_length"): one_k_for_all_epochs,
    ("counters", "epochs_since_validation"): every_epoch_has_validation,
}


@given(cases(skips_steps=True))
@settings(max_examples=150, deadline=None)
def test_each_fact_that_folding_uses_is_a_claim(case: Case) -> None:
    everywhere = {key: value for key, value in facts(case.limits, case.guards).items() if key[0] != "limits"}
    waits = without_accumulation_no_stop_waits if ghost_state(case).never_accumulates else without_early_stopping_no_stop_waits
    assert_claimed(case, everywhere, {**PROVED, ("counters", "batches_waited"): waits}, None)
    for state in State:
        gathered = without_accumulation_gathered_is_0 if state is State.TRAIN_BATCH else without_accumulation_gathered_is_1
        proved = {**PROVED_AT, ("counters", "gathered"): gathered}
        assert_claimed(case, facts_at(state, case.limits, case.guards), proved, state)


def assert_claimed(case: Case, known: dict[tuple[str, str], Any], proved: Proofs, state: State | None) -> None:
    """Assert that each fact has a claim for this state and these guards, which fails if the field has another value."""
    for (record, name), value in known.items():
        claim = next(claim for claim in (*FIRST_FACTS, *LAST_FACTS) if claim.holds is proved[record, name])
        assert is_made_for(claim, case)
        assert claim.at == frozenset(State) if state is None else state in claim.at
        records: dict[str, Any] = {
            "limits": case.limits, "counters": Counters(), "signals": Signals(), "ghost": ghost_state(case),
        }  # fmt: skip
        setattr(records[record], name, not value if isinstance(value, bool) else value + 1)
        assert not call(claim.holds, records), (record, name)
