"""What the proofs take for granted, held against the code: no solver is needed here.

The claims are run as well as proved: the functions that the solvers are given are plain Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmtrain.core import effects
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import Effect
from fsmtrain.core.folding import facts, facts_at
from fsmtrain.core.limits import Limits, resolve
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.options import Options
from fsmtrain.prove.claims import CLAIMS
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.claims.folding_facts import (
    FACTS,
    every_epoch_has_checks,
    one_optimizer_is_number_0,
    one_window_for_all_epochs,
    only_a_pass_with_a_stream_ends,
    only_a_policy_rolls_back,
    only_a_scaler_skips,
    only_a_stream_ends,
    only_early_stopping_cuts,
    only_early_stopping_has_patience,
    without_accumulation_no_window_is_open,
    without_accumulation_one_is_gathered,
    without_accumulation_the_window_is_one,
    without_bptt_split_nb_is_0,
    without_bptt_splits_is_one,
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
from tests.planted_faults.fault_operators import PlantedEffect
from tests.strategies import Case, cases

EFFECTS: list[Effect] = [
    function for _, function in inspect.getmembers(effects, inspect.isfunction) if function.__module__ == effects.__name__
]


@given(cases(skips_steps=True))
@settings(max_examples=300, deadline=None)
def test_what_is_assumed_of_limits_is_what_resolve_guarantees(case: Case) -> None:
    limits = resolve(case.options, case.sizes, has_own_check=case.replaced.check is not None)
    assert all(legal(limits) for legal in LEGAL_LIMITS)
    if case.replaced.check is None:
        assert validation_interval_fits(limits)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_an_effect_does_what_is_read_of_it(effect: Effect, data: st.DataObject) -> None:
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
    done, read = Counters(**values).copy(), Counters(**values).copy()
    effect(limits, done)
    PlantedEffect(read_effect(effect), effect.__name__)(limits, read)
    assert done == read


def _limits() -> Limits:
    return resolve(Options(), Sizes(train=3))


@given(cases(skips_steps=True), st.data())
@settings(max_examples=150, deadline=None)
def test_the_claims_hold_in_runs_in_which_chance_is_thrown(case: Case, data: st.DataObject) -> None:
    """The environment and the witness are run beside the whole table, and every claim is asked at every visit."""
    limits = evolve(case.limits, rolls_back=data.draw(st.booleans()))
    table, random = case.full_table, data.draw(st.randoms(use_true_random=False))
    lengths = {length for _, length in limits.windows}
    ghost = GhostState(
        watched_i=random.randrange(limits.optimizers),
        never_accumulates=not case.guards.step and lengths <= {1},
        same_window=limits.windows[0][1] if len(limits.windows) == 1 and limits.windows[0][0] == 0 else 0,
    )
    counters, signals = Counters.begin(limits.optimizers), Signals()
    records: dict[str, Any] = {"limits": limits, "counters": counters, "signals": signals, "ghost": ghost}
    epoch = 0

    def throw() -> None:
        inputs = Inputs(
            stop=random.random() < 0.01,
            patience_exhausted=random.random() < 0.3,
            step_skipped=random.random() < 0.3,
            nonfinite=random.random() < 0.1,
            splits=random.randint(1, 3),
            batches=random.randint(1, 4) if limits.train_is_stream or limits.epochs == 0 else limits.train_batches,
            sanity_batches=limits.sanity_batches or random.randint(1, 3),
            val_check_batches=limits.val_batches or random.randint(1, 3),
            test_batches=limits.test_batches or random.randint(1, 3),
            window=limits.window_of(epoch),
        )
        assert inputs_are_legal(limits, ghost, inputs)
        assert window_length_is_legal(ghost, inputs)
        records["inputs"] = inputs

    throw()
    call(begin_run, records)
    state = State.START
    for _ in range(3000):
        epoch = ghost.epochs_begun
        throw()
        for function in (request_stop, ACTIONS.get(state), BEFORE_GUARDS.get(state)):
            if function is not None:
                call(function, records)
        holding = [row for row in table.leaving(state) if row.holds(limits, counters, signals)]
        assert len(holding) == (0 if state.is_final else 1)
        for claim in (*CLAIMS, *FACTS):
            if state in claim.at and is_meant(claim, case) and (claim.to is None or {row.to for row in holding} & claim.to):
                assert call(claim.holds, records), (claim.statement, state, counters, signals, ghost)
        if state.is_final:
            break
        if state in AFTER_GUARDS:
            call(AFTER_GUARDS[state], records)
        for effect in holding[0].then:
            effect(limits, counters)
        state = holding[0].to


def is_meant(claim: Claim, case: Case) -> bool:
    """Whether a claim is made for runs with these guards."""
    return claim.built_in is None or not getattr(case.guards, claim.built_in)


def call(function: Callable[..., Any], records: dict[str, Any]) -> Any:
    """A function whose parameters are records."""
    return function(*(records[name] for name in inspect.signature(function).parameters))


# ---- the facts of folding are those that are proved

PROVED: dict[tuple[str, str], Callable[..., bool]] = {
    ("counters", "optimizer_i"): one_optimizer_is_number_0,
    ("counters", "split_nb"): without_bptt_split_nb_is_0,
    ("signals", "splits"): without_bptt_splits_is_one,
    ("signals", "stream_ended"): only_a_stream_ends,
    ("signals", "pass_ended"): only_a_pass_with_a_stream_ends,
    ("signals", "patience_exhausted"): only_early_stopping_has_patience,
    ("counters", "epoch_ended_early"): only_early_stopping_cuts,
    ("signals", "step_skipped"): only_a_scaler_skips,
    ("signals", "nonfinite"): only_a_policy_rolls_back,
    ("counters", "window_length"): without_accumulation_the_window_is_one,
}
PROVED_AT: dict[tuple[str, str], Callable[..., bool]] = {
    ("counters", "gathered"): without_accumulation_one_is_gathered,
    ("counters", "open_windows"): without_accumulation_no_window_is_open,
    ("counters", "window_length"): one_window_for_all_epochs,
    ("counters", "epochs_since_validation"): every_epoch_has_checks,
}


@given(cases(skips_steps=True))
@settings(max_examples=150, deadline=None)
def test_what_folding_takes_for_granted_is_what_a_proved_claim_says(case: Case) -> None:
    """Of every fact: the claim that stands for it is false as soon as the field has another value."""
    limits, guards = case.limits, case.guards
    everywhere = {key: known for key, known in facts(limits, guards).items() if key[0] != "limits"}
    check_facts(case, everywhere, PROVED, None)
    for state in State:
        check_facts(case, facts_at(state, limits, guards), PROVED_AT, state)


def check_facts(
    case: Case, found: dict[tuple[str, str], Any], proved: dict[tuple[str, str], Callable[..., bool]], state: State | None
) -> None:
    """Each of these facts has its claim, made for this state and these guards."""
    windows = case.limits.windows
    ghost = GhostState(
        never_accumulates=not case.guards.step and all(length == 1 for _, length in windows),
        same_window=windows[0][1] if len(windows) == 1 and windows[0][0] == 0 else 0,
    )
    for (record, name), known in found.items():
        claim = next(claim for claim in FACTS if claim.holds is proved[record, name])
        assert is_meant(claim, case)
        assert claim.at == frozenset(State) if state is None else state in claim.at
        records: dict[str, Any] = {"limits": case.limits, "counters": Counters(), "signals": Signals(), "ghost": ghost}
        setattr(records[record], name, not known if isinstance(known, bool) else known + 1)
        assert not call(claim.holds, records), (record, name)
