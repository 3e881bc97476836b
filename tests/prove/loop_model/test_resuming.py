"""What the proofs assume about resuming is what `adopt_limits` does, and the claims hold in resumed runs with random inputs."""

from __future__ import annotations

import random as random_module
from typing import Any

from attrs import evolve, fields
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsmtrain.core.counters import SIGNALS, Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.limits import Limits, resolve
from fsmtrain.core.resume_point import Adoption, ResumePoint, adopt_limits, adoptions, limits_from
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.options import Options
from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.loop_model import resuming
from fsmtrain.prove.loop_model.assumptions import ACTIONS, begin_run, inputs_are_legal, request_stop
from fsmtrain.prove.loop_model.effect_ast import read_effect
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, Inputs
from fsmtrain.prove.loop_model.resuming import RESUMPTIONS, Resumption
from tests.planted_faults.fault_operators import planted_effect
from tests.prove.loop_model.test_assumptions import call, ghost_state, is_made_for
from tests.strategies import Case, cases

ADOPTIONS: list[Adoption] = list(dict.fromkeys(change for state in State for change in adoptions(state, Guards())))


@given(st.sampled_from(ADOPTIONS), st.data())
@settings(max_examples=200, deadline=None)
def test_an_adoption_does_what_its_source_was_read_as(change: Adoption, data: st.DataObject) -> None:
    number = st.integers(0, 3)
    lists = st.lists(number, min_size=1, max_size=1)
    kinds: dict[str, st.SearchStrategy[Any]] = {"bool": st.booleans(), "int": number, "list[int]": lists}
    values = {f.name: data.draw(kinds[str(f.type)]) for f in fields(Counters)}
    limits = evolve(
        resolve(Options(accumulate_grad_batches={0: 2, 2: 3}), Sizes(train=3)),
        splits_batches=data.draw(st.booleans()), has_own_step=data.draw(st.booleans()), saves_end=data.draw(st.booleans()),
        may_return_none=data.draw(st.booleans()), val_check_epochs=data.draw(st.integers(1, 3)),
    )  # fmt: skip
    expected, actual = Counters(**values).copy(), Counters(**values).copy()
    signals, others = Signals(), Signals()
    change(limits, expected, signals)
    read = [part for part in read_effect(change) if _target_record(part) != "signals"]
    planted_effect(change, tuple(read))(limits, actual)  # type: ignore[arg-type, operator]
    if isinstance(actual.left_out, int):  # an assignment to all items was read as one to the item of any optimizer
        actual.left_out = [actual.left_out for _ in expected.left_out]
    assert actual == expected
    assert others == Signals()


def _target_record(change: Any) -> str:
    target = getattr(change, "target", None)
    return target.record if target is not None else _target_record(change.then[0])


def resumption_of(at: ResumePoint, adopted: ResumePoint, saved_in: State) -> list[Resumption]:
    """Return the resumptions that this one may be."""
    epoch = {State.EPOCH_END: "ended early" if adopted.work_done else "is complete", State.EARLY_STOP: "continues"}
    return [
        one
        for one in RESUMPTIONS
        if (one.saved_in, one.point, one.state, one.work_done) == (saved_in, at.state, adopted.state, adopted.work_done)
        and (one.epoch == "any" or one.epoch == epoch.get(adopted.state))
        and one.passes != "begins again"
    ]


SAVED_WITH_WORK_DONE = {State.START, State.ROUND_END, State.EARLY_STOP, State.VAL_CHECK, State.SANITY_VAL}


@given(cases(skips_steps=True), cases(skips_steps=True), st.data())
@settings(max_examples=80, deadline=None)
def test_the_claims_hold_in_resumed_runs_with_random_inputs(before: Case, after: Case, data: st.DataObject) -> None:
    """A run under the first case's limits is resumed with the second's, at a random moment; its ghost state goes with it."""
    assume(before.limits.optimizers == after.limits.optimizers)
    assume(before.limits.train_is_stream == after.limits.train_is_stream)
    assume(all((getattr(before.guards, n) is None) == (getattr(after.guards, n) is None) for n in ("validate", "save", "stop")))
    assume(set(before.guards.step) == set(after.guards.step))
    random = random_module.Random(data.draw(st.integers(0, 10**6)))
    resume_after = data.draw(st.integers(0, 60))
    limits, case = before.limits, before
    ghost = ghost_state(case, watched_i=random.randrange(limits.optimizers))
    counters, signals = Counters.begin(limits.optimizers), Signals()
    records: dict[str, Any] = {"limits": limits, "counters": counters, "signals": signals, "ghost": ghost}

    def choose_inputs(limits: Limits, epoch: int) -> None:
        records["inputs"] = inputs = Inputs(
            stop=random.random() < 0.01, patience_exhausted=random.random() < 0.3, loss_is_none=random.random() < 0.3,
            steps_made=random.randint(0, 2), step_skipped=random.random() < 0.3, nonfinite=random.random() < 0.05,
            splits=random.randint(0, 3), batches=random.randint(1, 4), interval=random.randint(1, 3),
            sanity_batches=limits.sanity_batches or random.randint(1, 3),
            val_check_batches=limits.val_batches or random.randint(1, 3),
            test_batches=limits.test_batches or random.randint(1, 3), window=limits.window_of(epoch),
        )  # fmt: skip
        assert inputs_are_legal(limits, ghost, inputs)

    choose_inputs(limits, 0)
    call(begin_run, records)
    state, works, resumed = State.START, True, False
    for visit in range(3000):
        epoch = ghost.epochs_begun
        if works:
            choose_inputs(limits, epoch)
            for function in (request_stop, ACTIONS.get(state), BEFORE_GUARDS.get(state)):
                if function is not None:
                    call(function, records)
        works = True
        if not resumed and visit >= resume_after and state in SAVED_WITH_WORK_DONE:
            goes_on = _resume(records, state, after, lambda new: choose_inputs(new, ghost.epochs_begun))
            if goes_on is not None:
                resumed, case, limits = True, after, records["limits"]
                counters, signals = records["counters"], records["signals"]
                state, work_done = goes_on
                if not work_done:
                    continue
        table = case.full_table
        possible = [row for row in table.leaving(state) if row.holds(limits, counters, signals)]
        assert len(possible) == (0 if state.is_final else 1)
        for claim in ALL_CLAIMS:
            applies = state in claim.at and (claim.to is None or any(row.to in claim.to for row in possible))
            if applies and is_made_for(claim, before) and is_made_for(claim, after) and (claim.resumed or not resumed):
                assert call(claim.holds, records), (claim.statement, state, counters, signals, ghost)
        if state.is_final:
            break
        if state in AFTER_GUARDS:
            choose_inputs(limits, ghost.epochs_begun)
            call(AFTER_GUARDS[state], records)
        apply_effects(possible[0].then, limits, counters, signals)
        state = possible[0].to


def _resume(records: dict[str, Any], state: State, after: Case, choose: Any) -> tuple[State, bool] | None:
    """Resume under other limits, beside what the proofs assume of it; None if the run cannot be resumed with them here."""
    saved, new = records["limits"], after.limits
    counters, signals, ghost = records["counters"], records["signals"], records["ghost"]
    at = ResumePoint(state=state, work_done=True, counters=counters, signals=signals, limits_differ=True)
    rules = {"limits": new, "saved_limits": saved, **{key: records[key] for key in ("counters", "signals", "ghost")}}
    kinds = [one for one in RESUMPTIONS if one.saved_in is state and one.point is state and one.was_begun]
    kinds = [one for one in kinds if one.passes != "begins again" and all(call(rule, rules) for rule in one.when)]
    if not kinds:
        return None
    single = ghost_state(after)
    ghost.never_accumulates = single.never_accumulates and counters.open_windows == 0
    ghost.same_window = single.same_window
    choose(new)
    records["limits"] = limits_from(new, at)
    for name, rule in resuming.LIMITS_OF_RESUMED_RUNS.items():
        if name != "is_past_last_epoch" or kinds[0].is_within_training:
            assert getattr(records["limits"], name) == call(rule, {**records, "limits": new})
    for function in resuming.loading(kinds[0]):
        call(function, records)
    adopted = adopt_limits(evolve(at, counters=counters, signals=signals), new, after.guards)
    kind = resumption_of(at, adopted, state)
    assert kind, (at, adopted)
    records["counters"], records["signals"] = adopted.counters, adopted.signals
    for function in resuming.resuming_ghost(kind[0].state):
        call(function, records)
    return adopted.state, adopted.work_done


def test_forgotten_signals_are_those_that_adopt_limits_resets() -> None:
    assert len(resuming.FORGOTTEN_SIGNALS) == sum(bool(info.needs) for info in SIGNALS.values())
