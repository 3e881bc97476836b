"""A configuration's table against the whole one: the same run, fewer rows, and no fact that is not true."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given, settings

from fsmtrain.core import effects as do
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.folding import facts, facts_at, folded
from fsmtrain.core.interval_guards import every_n_batches
from fsmtrain.core.limits import Limits, resolve
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Table, full_table
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import FsmtrainError, GuardError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from tests.strategies import Case, cases

# Kept only where optimizers take turns, or where a guard of the user's may look at them.
KEPT_ON_DEMAND = ("gathered_by", "round_nb", "stepped_in")

Moment = tuple[State, dict[str, Any], Signals]


def moments(case: Case, table: Table) -> tuple[list[Moment], State]:
    """Every visit of a run through a table, with its counters and signals, and the state in which it ended."""
    seen: list[Moment] = []

    def look(state: State, counters: Counters, signals: Signals) -> None:
        now = counters.copy()
        values = {f.name: getattr(now, f.name) for f in fields(Counters)}
        for name in KEPT_ON_DEMAND:
            del values[name]
        seen.append((state, values, signals.copy()))

    run = case.dispatcher(table, look)
    run.run()
    return seen, run.state


@given(cases(skips_steps=True))
@settings(max_examples=100, deadline=None)
def test_the_folded_table_makes_the_same_run_as_the_whole_one(case: Case) -> None:
    """The same visits with the same counters, and the same end."""
    assert moments(case, case.folded_table) == moments(case, case.full_table)


@given(cases(skips_steps=True))
@settings(max_examples=80, deadline=None)
def test_every_fact_is_true_whenever_a_guard_is_called(case: Case) -> None:
    """In the whole table, of every state that is visited."""
    limits, guards = case.limits, case.guards
    everywhere = facts(limits, guards)
    here = {state: facts_at(state, limits, guards) for state in State}

    def look(state: State, counters: Counters, signals: Signals) -> None:
        records = {"limits": limits, "counters": counters, "signals": signals}
        for (record, name), value in {**everywhere, **here[state]}.items():
            assert getattr(records[record], name) == value, (state, record, name)

    case.dispatcher(case.full_table, look).run()


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_folding_only_removes(case: Case) -> None:
    """Each row left is one of the whole table in its order, with no guard, effect or target that it had not."""
    table = case.full_table
    whole = list(table)
    for row in folded(table, case.limits, case.guards):
        original = next(
            other
            for other in whole
            if (other.source, other.to) == (row.source, row.to)
            and row.when in (None, other.when)
            and set(row.unless) <= set(other.unless)
            and set(row.then) <= set(other.then)
        )
        del whole[: whole.index(original) + 1]


@given(cases(skips_steps=True))
@settings(max_examples=40, deadline=None)
def test_a_folded_table_folds_no_further(case: Case) -> None:
    table = case.folded_table
    assert folded(table, case.limits, case.guards) == table


# ---- what is left of plain configurations


def rows(loop: Loop, source: State) -> list[tuple[str | None, State]]:
    """The rows of one state: the name of what must hold, and the target."""
    return [(None if row.when is None else name(row.when), row.to) for row in loop.table.leaving(source)]


def name(guard: Guard) -> str:
    """A guard's own name."""
    return str(getattr(guard, "__name__", guard))


def guards_of(loop: Loop) -> set[str]:
    """The names of all guards that are still asked somewhere."""
    return {name(g) for row in loop.table for g in (row.when, *row.unless) if g is not None}


PLAIN = Loop(Options(), Sizes(train=10))


def test_a_plain_loop_is_nine_states_and_its_backward_goes_straight_to_the_step() -> None:
    assert [state.value for state in PLAIN.table.states] == [
        "start", "fetch", "train_batch", "backward", "step", "round_end", "epoch_end", "early_stop", "done", "stopped",
    ]  # fmt: skip
    assert rows(PLAIN, State.BACKWARD) == [(None, State.STEP)]
    assert rows(PLAIN, State.STEP) == [(None, State.ROUND_END)]
    assert rows(PLAIN, State.EPOCH_END) == [(None, State.EARLY_STOP)]
    assert rows(PLAIN, State.ROUND_END) == [
        ("stop_is_requested", State.STOPPED),
        ("epoch_is_over", State.EPOCH_END),
        (None, State.FETCH),
    ]
    assert rows(PLAIN, State.EARLY_STOP) == [
        ("stop_is_requested", State.STOPPED),
        ("training_is_over", State.DONE),
        ("epoch_is_finished", State.FETCH),
        (None, State.FETCH),
    ]


@pytest.mark.parametrize(
    ("state", "with_it", "without_it"),
    [
        (State.ACCUMULATE, Loop(Options(accumulate_grad_batches=2), Sizes(train=4)), PLAIN),
        (State.ACCUMULATE, Loop(Options(accumulate_grad_batches={3: 2}), Sizes(train=4)), PLAIN),
        (State.ACCUMULATE, Loop(Options(), Sizes(train=4), guards=Guards(step={0: every_n_batches(2)})), PLAIN),
        (
            State.SANITY_VAL,
            Loop(Options(), Sizes(train=4, val=[1])),
            Loop(Options(nb_sanity_val_steps=0), Sizes(train=4, val=[1])),
        ),
        (
            State.VAL_CHECK,
            Loop(Options(), Sizes(train=4, val=[1])),
            Loop(Options(val_percent_check=0), Sizes(train=4, val=[1])),
        ),
        (State.VAL_CHECK, Loop(Options(), Sizes(train=4, val=[0, 2])), Loop(Options(), Sizes(train=4, val=[0]))),
        (State.TEST, Loop(Options(), Sizes(train=4, test=[1])), Loop(Options(test_percent_check=0), Sizes(train=4, test=[1]))),
        (State.SAVE, Loop(Options(), Sizes(train=4), guards=Guards(save=every_n_batches(2))), PLAIN),
        (State.FETCH, PLAIN, Loop(Options(max_nb_epochs=0), Sizes(train=4, val=[1], test=[1]))),
        (State.FETCH, PLAIN, Loop(Options(), Sizes(fits=False, test=[1]))),
    ],
    ids=lambda value: str(value) if isinstance(value, State) else "",
)
def test_a_state_that_is_switched_off_is_not_in_the_table(state: State, with_it: Loop, without_it: Loop) -> None:
    assert state in with_it.table.states
    assert state not in without_it.table.states


@pytest.mark.parametrize(
    ("guard", "with_it", "without_it"),
    [
        ("another_optimizer_follows", Loop(Options(), Sizes(train=4, optimizers=2)), PLAIN),
        ("another_split_follows", Loop(Options(truncated_bptt_steps=2), Sizes(train=4)), PLAIN),
        ("step_is_due", Loop(Options(accumulate_grad_batches=2), Sizes(train=4)), PLAIN),
        ("stop_is_due", Loop(Options(early_stop_callback=True), Sizes(train=4, val=[1])), PLAIN),
        ("stop_is_due", Loop(Options(), Sizes(train=4), guards=Guards(stop=every_n_batches(2))), PLAIN),
        ("epoch_ended_early", Loop(Options(early_stop_callback=EarlyStopping()), Sizes(train=4, val=[1])),
         Loop(Options(early_stop_callback=EarlyStopping()), Sizes(train=4))),
        ("no_epoch_follows", Loop(Options(max_nb_epochs=1), Sizes(train=4)), None),
    ],
)  # fmt: skip
def test_a_guard_with_a_constant_value_is_not_called(guard: str, with_it: Loop, without_it: Loop | None) -> None:
    if without_it is None:
        assert guard not in guards_of(with_it)
    else:
        assert guard in guards_of(with_it)
        assert guard not in guards_of(without_it)


def test_every_configuration_reads_stop_requested() -> None:
    assert "stop_is_requested" in guards_of(PLAIN)
    assert "stop_is_requested" in guards_of(Loop(Options(max_nb_epochs=0), Sizes(train=1)))


def test_effects_that_do_nothing_are_left_out() -> None:
    (fetch,) = PLAIN.table.leaving(State.FETCH)
    assert fetch.then == (do.count_train_batches, do.count_val_check_batches, do.begin_batch)
    busy = Loop(Options(truncated_bptt_steps=2), Sizes(train=4, optimizers=2), guards=Guards(save=every_n_batches(2)))
    (fetch,) = busy.table.leaving(State.FETCH)
    assert {do.begin_batch, do.begin_rounds, do.first_turn, do.reset_saved} <= set(fetch.then)


def test_a_skipped_step_has_a_row_only_where_steps_can_be_skipped() -> None:
    options, sizes, guards = Options(), Sizes(train=4), Guards()
    table = full_table(decisions(guards))
    scaled = folded(table, evolve(resolve(options, sizes), skips_steps=True), guards)
    assert len(scaled.leaving(State.STEP)) == 2
    assert len(folded(table, resolve(options, sizes), guards).leaving(State.STEP)) == 1


# ---- a user's guard decides the same in both tables


def steps_until(table: Table, limits: Limits, most: int = 500) -> tuple[list[State], FsmtrainError | None]:
    """The states that a run meets, and the error that ended it."""
    states: list[State] = []
    run = Dispatcher(table, limits, Counters.begin(limits.optimizers), Signals(), {})
    try:
        while not run.is_finished and len(states) < most:
            states.append(run.state)
            run.advance()
    except FsmtrainError as error:
        return states, error
    return states, None


def as_in_the_whole_table(guards: Guards, options: Options, sizes: Sizes) -> list[State]:
    """The run of the folded table, after a look that it is that of the whole one."""
    limits, table = resolve(options, sizes), full_table(decisions(guards))
    whole, one_error = steps_until(table, limits)
    part, other_error = steps_until(folded(table, limits, guards), limits)
    assert part == whole
    assert str(other_error) == str(one_error)
    return part


def test_a_guard_without_source_is_kept_and_decides() -> None:
    made: dict[str, Any] = {}
    exec("def stop(limits, counters, signals):\n    return counters.global_step >= 3", made)
    states = as_in_the_whole_table(Guards(stop=made["stop"]), Options(min_nb_epochs=0, max_nb_epochs=2), Sizes(train=5))
    assert states.count(State.STEP) == 3


def test_a_guard_in_two_lines_without_brackets_decides_as_it_is_written() -> None:
    """What stands in the second line counts too."""
    guards = Guards(
        stop=lambda limits, counters, signals: counters.optimizer_i == 1
        or counters.global_step >= 3,
    )  # fmt: skip
    states = as_in_the_whole_table(guards, Options(min_nb_epochs=0, max_nb_epochs=2), Sizes(train=5))
    assert states.count(State.STEP) == 3


def test_a_guard_that_reads_a_variable_sees_its_current_value() -> None:
    """Somebody sets it while the run is under way."""
    enough = False

    def somebody_said_so(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return enough

    guards = Guards(stop=somebody_said_so)
    loop = Loop(Options(min_nb_epochs=0, max_nb_epochs=2), Sizes(train=5), guards=guards)
    steps = 0
    for visit in loop:
        steps += visit.state is State.STEP
        enough = steps == 3
    assert steps == 3


def test_a_guard_that_answers_with_a_number_is_refused_even_where_the_number_is_known() -> None:
    """The whole table says so at the first batch; the folded one must not swallow it."""

    def save(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 0  # type: ignore[return-value]

    with pytest.raises(GuardError, match="must return True or False"):
        list(Loop(Options(max_nb_epochs=1), Sizes(train=2), guards=Guards(save=save)))


CLOSED: dict[str, Any] = {"options": {}, "sizes": {"train": 4, "val": [2]}, "guards": Guards()}
KNOWN = {
    ("counters", "ending"),
    ("counters", "optimizer_i"),
    ("counters", "split_nb"),
    ("counters", "batch_splits"),
    ("signals", "splits"),
    ("signals", "stream_ended"),
    ("signals", "pass_ended"),
    ("signals", "patience_exhausted"),
    ("counters", "epoch_ended_early"),
    ("signals", "loss_is_none"),
    ("signals", "own_steps"),
    ("counters", "steps_made"),
    ("signals", "step_skipped"),
    ("signals", "nonfinite"),
    ("counters", "window_length"),
    ("counters", "batches_waited"),
    ("signals", "time_is_up"),
}


@pytest.mark.parametrize(
    ("configuration", "unknown"),
    [
        ({}, set()),
        ({"sizes": {"train": 4, "val": [2], "optimizers": 2}}, {"optimizer_i"}),
        ({"options": {"truncated_bptt_steps": 5}}, {"split_nb", "batch_splits", "splits"}),
        ({"sizes": {"train": None, "val": []}}, {"stream_ended"}),
        ({"sizes": {"train": 4, "val": [2], "may_return_none": True}}, {"loss_is_none"}),
        ({"sizes": {"train": 4, "val": [2, None]}}, {"pass_ended"}),
        ({"options": {"early_stop_callback": True}}, {"patience_exhausted", "epoch_ended_early"}),
        ({"guards": Guards(stop=every_n_batches(3))}, {"epoch_ended_early"}),
        ({"options": {"max_steps": 9}}, {"epoch_ended_early"}),
        ({"options": {"max_time": "1:00:00"}}, {"epoch_ended_early", "time_is_up"}),
        ({"options": {"precision": 16}}, {"step_skipped"}),
        ({"options": {"on_nonfinite": "raise"}}, set()),
        ({"options": {"on_nonfinite": "skip"}}, {"step_skipped"}),
        ({"options": {"on_nonfinite": "rollback"}}, {"step_skipped", "nonfinite"}),
        ({"options": {"accumulate_grad_batches": 2}}, {"window_length"}),
        (
            {"options": {"accumulate_grad_batches": 2}, "guards": Guards(stop=every_n_batches(3))},
            {"window_length", "epoch_ended_early", "batches_waited"},
        ),
    ],
)
def test_a_configuration_leaves_open_what_it_asks_for_and_nothing_else(
    configuration: dict[str, Any], unknown: set[str]
) -> None:
    given = {**CLOSED, **configuration}
    known = facts(resolve(Options(**given["options"]), Sizes(**given["sizes"])), given["guards"])
    assert {place for place in known if place[0] != "limits"} == {place for place in KNOWN if place[1] not in unknown}


@pytest.mark.parametrize(
    ("state", "options", "known"),
    [
        (State.ROUND_END, {}, {"epochs_since_validation": 1, "open_windows": 0}),
        (State.ROUND_END, {"check_val_every_n_epoch": 2}, {"open_windows": 0}),
        (State.ROUND_END, {"accumulate_grad_batches": 2}, {"epochs_since_validation": 1}),
        (State.TRAIN_BATCH, {}, {"gathered": 0}),
        (State.TRAIN_BATCH, {"accumulate_grad_batches": 2}, {}),
        (State.BACKWARD, {}, {"window_length": 1, "gathered": 1}),
        (State.BACKWARD, {"accumulate_grad_batches": 2}, {"window_length": 2}),
        (State.BACKWARD, {"accumulate_grad_batches": {0: 3}}, {"window_length": 3}),
        (State.BACKWARD, {"accumulate_grad_batches": {2: 3}}, {}),
        (State.BACKWARD, {"accumulate_grad_batches": {0: 1, 2: 3}}, {}),
        (State.EARLY_STOP, {}, {"open_windows": 0}),
        (State.EARLY_STOP, {"accumulate_grad_batches": 2}, {}),
        (State.STEP, {}, {}),
    ],
)
def test_what_is_known_besides_where_a_state_is_left(state: State, options: dict[str, Any], known: dict[str, int]) -> None:
    limits = resolve(Options(**options), Sizes(train=6, val=[1]))
    assert facts_at(state, limits, Guards()) == {("counters", name): value for name, value in known.items()}
