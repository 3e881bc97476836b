"""The order of visits of a loop, compared with the nested loops of the reference, and documented examples."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
from attrs import evolve
from hypothesis import given, settings

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.interval_guards import after_batches, after_steps, every_n_batches, every_n_steps_of
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Table
from fsmtrain.core.visit import Visit
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import GuardError, SizesError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from tests.reference import Event, Every, Replaced, Script, is_refused
from tests.strategies import EVALUATIONS, MAX_VISITS, Case, ScriptPlayer, assert_ends, cases, reset_signals

IN_A_ROUND = frozenset({State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROUND_END})
IN_AN_EPOCH = IN_A_ROUND | {State.FETCH, State.SAVE, State.VAL_CHECK, State.EPOCH_END, State.EARLY_STOP}


def event(visit: Visit) -> Event:
    """A visit with the positions that mean something in its state, and its factor as an exact fraction."""
    in_epoch, in_round = visit.state in IN_AN_EPOCH, visit.state in IN_A_ROUND
    assert visit.loss_scale == 1 or visit.state is State.BACKWARD
    assert visit.gradient_scale == 1 or visit.state is State.STEP
    return Event(
        state=visit.state.value,
        epoch=visit.current_epoch if in_epoch else None,
        batch=visit.batch_nb if in_epoch else None,
        split=visit.split_nb if in_round else None,
        optimizer=visit.optimizer_i if in_round else None,
        global_step=visit.global_step,
        scale=exact(visit.loss_scale) * exact(visit.gradient_scale),
    )


def visits_of(loop: Loop) -> list[Visit]:
    """Return the visits of a run of this loop without any signal."""
    return list(assert_ends(loop))


def exact(scale: float) -> Fraction:
    """The fraction of small numbers that a float stands for."""
    fraction = Fraction(scale).limit_denominator(1000)
    assert float(fraction) == scale
    return fraction


# ---- the laws


@given(cases())
@settings(max_examples=300, deadline=None)
def test_the_visits_of_a_loop_are_those_of_the_nested_loops(case: Case) -> None:
    """State, position, global step and factor of every visit, for all flags, guards, stream ends, metrics and stop requests."""
    assert [event(visit) for visit in case.visits()] == case.schedule().events


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_in_each_visited_state_exactly_one_row_holds_and_every_run_ends(case: Case) -> None:
    """For every row of the full and the folded table, evaluated without the dispatcher."""
    schedule = case.schedule()
    for table in (case.full_table, case.folded_table):
        states = walk(case, table)
        assert [state.value for state in states[:-1]] == [event.state for event in schedule.events]
        assert states[-1] is (State.STOPPED if schedule.stopped else State.DONE)


def walk(case: Case, table: Table) -> list[State]:
    """Go through a table by its rows alone; returns the states, the final one included."""
    limits, counters, world = case.limits, Counters.begin(case.limits.optimizers), ScriptPlayer(case)
    signals = limits.begin_signals()
    states = [State.START]
    while not states[-1].is_final:
        reset_signals(signals, states[-1])
        world.play(states[-1], signals)
        holding = [row for row in table.leaving(states[-1]) if row.holds(limits, counters, signals)]
        assert len(holding) == 1, (states[-1], counters, signals)
        apply_effects(holding[0].then, limits, counters, signals)
        states.append(holding[0].to)
        assert len(states) < MAX_VISITS
    return states


@given(cases())
@settings(max_examples=60, deadline=None)
def test_every_backward_enters_exactly_one_step_and_the_weights_of_a_window_sum_to_one(case: Case) -> None:
    """And no window crosses an epoch or is left open when the run comes to its end."""
    windows: defaultdict[int, list[Fraction]] = defaultdict(list)
    epochs: defaultdict[int, set[int]] = defaultdict(set)
    for visit in case.visits():
        if visit.state is State.BACKWARD:
            windows[visit.optimizer_i].append(exact(visit.loss_scale))
            epochs[visit.optimizer_i].add(visit.current_epoch)
        elif visit.state is State.STEP:
            weights = [scale * exact(visit.gradient_scale) for scale in windows.pop(visit.optimizer_i)]
            assert sum(weights) == 1
            assert len(set(weights)) == 1
            assert epochs.pop(visit.optimizer_i) == {visit.current_epoch}
        elif visit.state is State.EPOCH_END:
            assert not windows
    assert not windows or case.schedule().stopped


@given(cases())
@settings(max_examples=60, deadline=None)
def test_gradients_are_rescaled_only_where_the_length_of_a_window_cannot_be_known(case: Case) -> None:
    """A sized loader, the default guard and no splits: each loss is divided by its window's length, and that is all."""
    for visit in case.visits():
        length_is_known = visit.optimizer_i not in case.replaced.step and case.options.truncated_bptt_steps is None
        length_is_known = length_is_known and not case.sizes.may_return_none
        if visit.state is State.STEP and length_is_known and case.sizes.train is not None:
            assert visit.gradient_scale == 1


@given(cases())
@settings(max_examples=60, deadline=None)
def test_a_validation_happens_exactly_when_it_is_due(case: Case) -> None:
    """After every `val_check_batches` batches of a validation epoch, and never in another one."""
    limits = case.loop().limits
    fetched: defaultdict[int, int] = defaultdict(int)
    checked: defaultdict[int, list[int]] = defaultdict(list)
    for visit in case.visits():
        if visit.state is State.FETCH:
            fetched[visit.current_epoch] = visit.batch_nb + 1
        elif visit.state is State.VAL_CHECK and visit.batch_nb not in checked[visit.current_epoch]:
            checked[visit.current_epoch].append(visit.batch_nb)
    last = max(fetched, default=0)
    for epoch, batches in fetched.items():
        has_validation = limits.validates and (epoch + 1) % case.options.check_val_every_n_epoch == 0
        if case.replaced.validate is not None:
            due = [b for b in range(batches) if limits.validates and case.replaced.validate.fires(b)]
        else:
            due = [b for b in range(batches) if has_validation and (b + 1) % limits.val_check_batches == 0]
        if case.schedule().stopped and epoch == last and due != checked[epoch]:
            due.pop()  # the request came before the check
        assert checked[epoch] == due


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_the_epochs_done_lie_between_min_and_max_unless_a_request_or_max_steps_ended_the_run(case: Case) -> None:
    run = case.dispatcher(case.folded_table)
    run.run()
    schedule = case.schedule()
    assert run.counters.epochs_done == schedule.epochs_done <= case.limits.epochs
    if case.limits.epochs and not schedule.stopped:
        is_over = 0 < case.limits.max_steps <= run.counters.global_step
        assert is_over or schedule.epochs_done >= case.options.min_nb_epochs
        assert is_over or run.counters.epochs_done == case.limits.epochs or run.counters.global_step >= case.limits.min_steps


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_steps_are_counted_for_each_optimizer_less_those_that_were_skipped(case: Case) -> None:
    steps, rounds = [0] * case.limits.optimizers, set()

    def look(state: State, counters: Counters, signals: Signals) -> None:
        if state is State.TRAIN_BATCH and case.limits.manual_optimization:
            steps[0] += signals.own_steps
        if state is State.STEP:
            steps[counters.optimizer_i] += not signals.step_skipped
            rounds.add((counters.current_epoch, counters.batch_nb, counters.split_nb))

    run = case.dispatcher(case.folded_table, look)
    run.run()
    assert run.counters.optimizer_steps == steps
    if not case.schedule().stopped:
        assert run.counters.global_step == (steps[0] if case.limits.manual_optimization else len(rounds))


@given(cases(skips_steps=True))
@settings(max_examples=60, deadline=None)
def test_the_counters_count_what_was_done(case: Case) -> None:
    """Batches begun, validations done, steps skipped, and the batches of each pass from 0."""
    length = case.limits.val_batches
    seen: Counter[str] = Counter()
    in_pass: list[State] = []

    def look(state: State, counters: Counters, signals: Signals) -> None:
        if in_pass and in_pass[-1] is not state:
            in_pass.clear()
        if state in EVALUATIONS:
            assert counters.eval_nb == len(in_pass)
            in_pass.append(state)
        if state is State.VAL_CHECK:
            seen["validations"] += signals.pass_ended if length == 0 else len(in_pass) == length
        seen["batches"] += state is State.FETCH
        seen["skipped"] += state is State.STEP and signals.step_skipped
        assert counters.batches_begun == seen["batches"] - (state is State.FETCH)

    run = case.dispatcher(case.folded_table, look)
    run.run()
    assert (run.counters.validations_done, run.counters.steps_skipped) == (seen["validations"], seen["skipped"])


def test_two_iterations_of_one_loop_share_nothing() -> None:
    loop = Loop(Options(accumulate_grad_batches=2, max_nb_epochs=2), Sizes(train=3, val=[2]))
    alone = visits_of(loop)
    side_by_side = list(zip(assert_ends(loop), assert_ends(loop), strict=True))
    assert [one for one, _ in side_by_side] == [other for _, other in side_by_side] == alone


@pytest.mark.parametrize("epochs", [0, 2])
def test_signals_of_one_visit_do_not_last_into_the_next(epochs: int) -> None:
    """The caller of an iterated loop sets signals and need not reset them."""
    told = {State.FETCH: "stream_ended", State.STEP: "step_skipped", **dict.fromkeys(EVALUATIONS, "pass_ended")}
    sizes = Sizes(train=None, val=[None], test=[None])
    options = Options(max_nb_epochs=epochs, min_nb_epochs=0, precision=16, val_check_interval=1)
    met: Counter[State] = Counter()
    for visit in assert_ends(Loop(options, sizes)):
        if visit.state in told:
            assert getattr(visit.signals, told[visit.state]) is False
            setattr(visit.signals, told[visit.state], True)
            met[visit.state] += 1
    often = {State.FETCH: epochs, State.STEP: epochs, State.VAL_CHECK: epochs, State.SANITY_VAL: 1, State.TEST: 1}
    assert met == Counter(often)


# ---- a request to stop at every visit


@pytest.mark.parametrize(
    "case",
    [
        Case(
            options=Options(max_nb_epochs=2, accumulate_grad_batches=2, val_check_interval=1, nb_sanity_val_steps=2),
            sizes=Sizes(train=3, val=(2, 1), test=(2,), optimizers=2),
            replaced=Replaced(save=Every(n=2)),
        ),
        Case(
            options=Options(min_nb_epochs=0, max_nb_epochs=2, truncated_bptt_steps=4, early_stop_callback=True),
            sizes=Sizes(train=4, val=(1,), test=(1,)),
            replaced=Replaced(stop=5),
            script=Script(splits=(2,)),
        ),
        Case(options=Options(min_nb_epochs=0, max_nb_epochs=2), sizes=Sizes(train=3), replaced=Replaced(stop=2)),
        Case(options=Options(max_nb_epochs=0), sizes=Sizes(train=3, val=(2,), test=(2,))),
    ],
    ids=["validations and saves", "cut short, then tested", "cut short", "no epoch"],
)
def test_a_request_is_taken_where_the_nested_loops_take_it_whenever_it_comes(case: Case) -> None:
    """The run ends in `stopped`, unless it had nothing left to do but to end. What had come to its end by then is counted."""
    for stop_at in range(len(case.schedule().events)):
        asked = evolve(case, script=replace(case.script, stop_at=stop_at))
        schedule = asked.schedule()
        assert [event(visit) for visit in asked.visits()] == schedule.events, stop_at
        run = asked.dispatcher(asked.folded_table)
        run.run()
        assert run.state is (State.STOPPED if schedule.stopped else State.DONE), stop_at
        assert run.counters.epochs_done == schedule.epochs_done, stop_at
        val_batches = sum(event.state == State.VAL_CHECK.value for event in schedule.events)
        assert run.counters.validations_done == val_batches // max(1, case.limits.val_batches), stop_at


# ---- every small configuration


VALIDATIONS: dict[str, tuple[tuple[int, ...], dict[str, float]]] = {
    "nothing to validate": ((), {}),
    "the default interval": ((1,), {"nb_sanity_val_steps": 0}),
    "half an epoch, two loaders": ((2, 1), {"val_check_interval": 0.5, "nb_sanity_val_steps": 1}),
    "every second epoch": ((2,), {"val_check_interval": 1.0, "check_val_every_n_epoch": 2}),
    "every batch": ((1,), {"val_check_interval": 1, "nb_sanity_val_steps": 2}),
    "every third batch": ((1,), {"val_check_interval": 3}),
}


@pytest.mark.slow
@pytest.mark.parametrize("validation", VALIDATIONS)
def test_every_small_configuration_visits_what_the_nested_loops_visit(validation: str) -> None:
    """Windows of 1 to 4, epochs of 1 to 6 batches, 1 to 3 epochs, 1 or 2 optimizers, no splits or 2."""
    val, flags = VALIDATIONS[validation]
    runs = 0
    for k, train, epochs, optimizers, splits in itertools.product((1, 2, 3, 4), range(1, 7), (1, 2, 3), (1, 2), (None, 2)):
        options = Options(
            accumulate_grad_batches=k,
            max_nb_epochs=epochs,
            truncated_bptt_steps=splits and 5,
            **flags,  # type: ignore[arg-type]
        )
        sizes = Sizes(train=train, val=val, optimizers=optimizers, splits=splits or 1)
        if is_refused(options, sizes):
            with pytest.raises(SizesError):
                Loop(options, sizes)
            continue
        case = Case(options=options, sizes=sizes, script=Script(splits=(splits or 1,)))
        assert [event(visit) for visit in assert_ends(Loop(options, sizes))] == case.schedule().events, case
        runs += 1
    assert runs == (192 if validation == "every third batch" else 288)


# ---- the documented examples


def run(train: int | None, *, guards: Guards | None = None, epochs: int = 1, splits: int = 1, **flags: object) -> list[Visit]:
    """Return the visits of a run without validation."""
    options = Options(max_nb_epochs=epochs, **flags)  # type: ignore[arg-type]
    optimizers = 1 if guards is None else 1 + max(guards.step, default=0)
    return visits_of(Loop(options, Sizes(train=train, splits=splits, optimizers=optimizers), guards=guards or Guards()))


def batches(visits: list[Visit], state: State, optimizer: int | None = None) -> list[int]:
    """The batches at which a state was visited (by one optimizer)."""
    return [v.batch_nb for v in visits if v.state is state and optimizer in (None, v.optimizer_i)]


def validations(train: int, *, epochs: int = 1, **flags: object) -> list[tuple[int, int]]:
    """Return epoch and batch of each validation."""
    options = Options(max_nb_epochs=epochs, nb_sanity_val_steps=0, **flags)  # type: ignore[arg-type]
    visits = visits_of(Loop(options, Sizes(train=train, val=(1,))))
    return [(v.current_epoch, v.batch_nb) for v in visits if v.state is State.VAL_CHECK]


def names(visits: list[Visit]) -> str:
    """Return the visited states in order."""
    return " ".join(visit.state.value for visit in visits)


def test_nine_batches_with_windows_of_four_step_after_four_eight_and_nine() -> None:
    visits = run(9, accumulate_grad_batches=4)
    assert batches(visits, State.STEP) == [3, 7, 8]
    assert batches(visits, State.ACCUMULATE) == [0, 1, 2, 4, 5, 6]
    scales = [visit.loss_scale for visit in visits if visit.state is State.BACKWARD]
    assert scales == [0.25] * 8 + [1.0]
    assert all(visit.gradient_scale == 1 for visit in visits)


def test_no_window_is_carried_over_into_the_next_epoch() -> None:
    assert batches(run(3, epochs=3, accumulate_grad_batches=2), State.STEP) == [1, 2] * 3


def test_windows_of_four_over_48_batches_make_twelve_steps() -> None:
    assert run(48, accumulate_grad_batches=4)[-1].global_step == 12


def test_the_dict_form_takes_effect_at_its_epochs_and_is_one_before_its_first_key() -> None:
    visits = run(4, epochs=6, accumulate_grad_batches={1: 2, 4: 4})
    steps = [(v.current_epoch, v.batch_nb) for v in visits if v.state is State.STEP]
    by_epoch = [[batch for epoch, batch in steps if epoch == e] for e in range(6)]
    assert by_epoch == [[0, 1, 2, 3], [1, 3], [1, 3], [1, 3], [3], [3]]


def test_a_short_last_window_of_a_stream_is_rescaled_at_its_step() -> None:
    case = Case(options=Options(accumulate_grad_batches=4, max_nb_epochs=1), sizes=Sizes(train=None), script=Script(train=(6,)))
    visits = list(case.visits())
    assert [v.loss_scale for v in visits if v.state is State.BACKWARD] == [0.25] * 6
    assert [v.gradient_scale for v in visits if v.state is State.STEP] == [1.0, 2.0]


def test_one_batch_is_a_fetch_and_for_each_split_for_each_optimizer_a_turn() -> None:
    loop = Loop(Options(max_nb_epochs=1, truncated_bptt_steps=7), Sizes(train=1, splits=2, optimizers=2))
    turns = [(v.split_nb, v.optimizer_i) for v in visits_of(loop) if v.state is State.TRAIN_BATCH]
    assert turns == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert names(visits_of(loop)) == f"start fetch {'train_batch backward step round_end ' * 4}epoch_end early_stop"


def test_every_split_steps_with_windows_of_one_and_every_second_with_windows_of_two() -> None:
    splits = [v.split_nb for v in run(2, splits=4, truncated_bptt_steps=5) if v.state is State.STEP]
    assert splits == [0, 1, 2, 3] * 2
    splits = [v.split_nb for v in run(2, splits=4, truncated_bptt_steps=5, accumulate_grad_batches=2) if v.state is State.STEP]
    assert splits == [1, 3] * 2


def test_the_last_split_of_the_last_batch_closes_the_window() -> None:
    visits = run(2, splits=3, truncated_bptt_steps=5, accumulate_grad_batches=4)
    steps = [(v.batch_nb, v.split_nb, v.gradient_scale) for v in visits if v.state is State.STEP]
    assert steps == [(1, 0, 1.0), (1, 2, 2.0)]


def test_every_n_batches_fires_after_n_batches_or_from_first_on() -> None:
    assert batches(run(14, guards=Guards(step={0: every_n_batches(4)})), State.STEP) == [3, 7, 11, 13]
    assert batches(run(14, guards=Guards(step={0: every_n_batches(4, first=0)})), State.STEP) == [0, 4, 8, 12, 13]


def test_under_truncated_bptt_every_n_batches_fires_at_the_last_split() -> None:
    visits = run(4, splits=3, truncated_bptt_steps=5, guards=Guards(step={0: every_n_batches(2)}))
    assert [(v.batch_nb, v.split_nb) for v in visits if v.state is State.STEP] == [(1, 2), (3, 2)]


def test_two_optimizers_step_at_intervals_of_their_own() -> None:
    """The documented example: one at every second batch, one at every fourth; the last batch closes both windows."""
    guards = Guards(step={0: every_n_batches(2, first=0), 1: every_n_batches(4, first=0)})
    visits = run(8, guards=guards)
    assert batches(visits, State.STEP, optimizer=0) == [0, 2, 4, 6, 7]
    assert batches(visits, State.STEP, optimizer=1) == [0, 4, 7]
    assert visits[-1].global_step == 5  # rounds in which at least one stepped
    scales = [v.gradient_scale for v in visits if v.state is State.STEP and v.optimizer_i == 1]
    assert scales == [1, 1 / 4, 1 / 3]


def test_the_optimizers_without_a_guard_of_their_own_keep_their_windows() -> None:
    visits = run(8, accumulate_grad_batches=3, guards=Guards(step={1: every_n_batches(2)}))
    assert batches(visits, State.STEP, optimizer=0) == [2, 5, 7]
    assert batches(visits, State.STEP, optimizer=1) == [1, 3, 5, 7]
    losses = [v.loss_scale for v in visits if v.state is State.BACKWARD and v.optimizer_i == 0]
    assert losses == [1 / 3] * 6 + [1 / 2] * 2


def test_an_optimizer_can_follow_every_nth_step_of_another() -> None:
    """The one with the earlier turn is followed in the same round, the one with the later turn in the next."""
    visits = run(9, guards=Guards(step={0: every_n_batches(2), 1: every_n_steps_of(0, 2)}))
    assert batches(visits, State.STEP, optimizer=0) == [1, 3, 5, 7, 8]
    assert batches(visits, State.STEP, optimizer=1) == [3, 7, 8]
    visits = run(9, guards=Guards(step={1: every_n_batches(2), 0: every_n_steps_of(1, 2)}))
    assert batches(visits, State.STEP, optimizer=0) == [4, 8]


def test_an_optimizer_that_follows_itself_steps_only_at_the_end_of_an_epoch() -> None:
    assert batches(run(5, epochs=2, guards=Guards(step={0: every_n_steps_of(0, 1)})), State.STEP) == [4, 4]


def test_a_run_can_stop_after_so_many_steps_or_batches() -> None:
    for guard in (after_steps(3), after_batches(6)):
        visits = run(4, epochs=9, accumulate_grad_batches=2, min_nb_epochs=0, guards=Guards(stop=guard))
        assert (visits[-1].state, visits[-1].current_epoch, visits[-1].batch_nb) == (State.EPOCH_END, 1, 1)
    for guard in (after_steps(0), after_batches(0)):  # as soon as it is asked
        visits = run(4, min_nb_epochs=0, guards=Guards(stop=guard))
        assert (visits[-1].state, visits[-1].batch_nb) == (State.EPOCH_END, 0)


def test_a_guard_for_an_optimizer_that_there_is_not_is_refused() -> None:
    with pytest.raises(GuardError, match=r"step=\{2: .*there is no optimizer 2.*there are 2"):
        Loop(Options(max_nb_epochs=1), Sizes(train=1, optimizers=2), guards=Guards(step={2: every_n_batches(1)}))
    Loop(Options(max_nb_epochs=0), Sizes(train=1), guards=Guards(step={2: every_n_batches(1)}))  # nobody's turn comes


def test_validations_of_ten_batches_at_a_quarter_come_after_2_4_6_8_10() -> None:
    assert [batch + 1 for _, batch in validations(10, val_check_interval=0.25)] == [2, 4, 6, 8, 10]


def test_the_default_val_check_interval_validates_after_nine_of_ten_batches() -> None:
    assert [batch + 1 for _, batch in validations(10)] == [9]


def test_validations_of_seven_batches_at_a_half_come_after_3_and_6_in_every_epoch() -> None:
    assert validations(7, epochs=2, val_check_interval=0.5) == [(0, 2), (0, 5), (1, 2), (1, 5)]


def test_validations_happen_only_in_every_nth_epoch() -> None:
    assert validations(4, epochs=7, val_check_interval=0.5, check_val_every_n_epoch=3) == [(2, 1), (2, 3), (5, 1), (5, 3)]


def test_a_validation_in_mid_window_leaves_the_window_open() -> None:
    loop = Loop(
        Options(accumulate_grad_batches=3, val_check_interval=2, max_nb_epochs=1, nb_sanity_val_steps=0),
        Sizes(train=6, val=(2,)),
    )
    visits = visits_of(loop)
    assert batches(visits, State.VAL_CHECK) == [1, 1, 3, 3, 5, 5]
    assert batches(visits, State.STEP) == [2, 5]
    assert all(v.loss_scale == 1 / 3 for v in visits if v.state is State.BACKWARD)


def test_a_validation_sees_the_global_step_of_the_round_before_it() -> None:
    loop = Loop(Options(val_check_interval=1, max_nb_epochs=1, nb_sanity_val_steps=0), Sizes(train=3, val=(1,), optimizers=2))
    assert [visit.global_step for visit in visits_of(loop) if visit.state is State.VAL_CHECK] == [1, 2, 3]
    assert [visit.global_step for visit in visits_of(loop) if visit.state is State.STEP] == [0, 0, 1, 1, 2, 2]


def test_the_sanity_pass_takes_a_few_batches_of_each_val_loader() -> None:
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=1, val=(2, 9, 5)))
    assert [visit.state for visit in visits_of(loop)].count(State.SANITY_VAL) == 2 + 5 + 5
    part = Loop(Options(max_nb_epochs=1, val_percent_check=0.5), Sizes(train=1, val=(8,)))
    assert [visit.state for visit in visits_of(part)].count(State.SANITY_VAL) == 5
    off = Loop(Options(max_nb_epochs=1, val_percent_check=0), Sizes(train=1, val=(8,)))
    assert State.SANITY_VAL not in [visit.state for visit in visits_of(off)]


@pytest.mark.parametrize("steps", [0, -1, -5])
def test_no_sanity_steps_or_fewer_means_no_sanity_pass(steps: int) -> None:
    visits = visits_of(Loop(Options(max_nb_epochs=1, nb_sanity_val_steps=steps), Sizes(train=1, val=(3,))))
    assert State.SANITY_VAL not in [visit.state for visit in visits]


def test_without_epochs_only_the_sanity_pass_runs() -> None:
    assert names(visits_of(Loop(Options(max_nb_epochs=0), Sizes(train=4, val=(2,))))) == "start sanity_val sanity_val"


def test_a_run_goes_on_to_the_test_after_its_last_epoch() -> None:
    visits = visits_of(Loop(Options(max_nb_epochs=1), Sizes(train=1, test=(2, 1))))
    assert names(visits) == "start fetch train_batch backward step round_end epoch_end early_stop test test test"


def test_a_run_that_only_tests_needs_no_train_loader() -> None:
    assert names(visits_of(Loop(Options(), Sizes(fits=False, val=(3,), test=(2,))))) == "start test test"


def test_after_the_last_batch_early_stop_is_visited_once_and_after_the_end_of_the_epoch() -> None:
    loop = Loop(Options(val_check_interval=1, max_nb_epochs=1, nb_sanity_val_steps=0), Sizes(train=2, val=(1,)))
    turn = "fetch train_batch backward step round_end val_check"
    assert names(visits_of(loop)) == f"start {turn} early_stop {turn} epoch_end early_stop"


def stopping(train: int, improved: list[bool], *, patience: int = 1, stop: int | None = None, **flags: object) -> Case:
    """Return a run with early stopping and one given metric result per validation."""
    options = Options(
        early_stop_callback=EarlyStopping(patience=patience),
        nb_sanity_val_steps=0,
        **flags,  # type: ignore[arg-type]
    )
    sizes = Sizes(train=train, val=(1,))
    return Case(options=options, sizes=sizes, replaced=Replaced(stop=stop), script=Script(improved=tuple(improved)))


def test_patience_ends_the_run_at_the_end_of_an_epoch() -> None:
    case = stopping(2, [True, False, True, False, False], patience=2, max_nb_epochs=9, val_check_interval=1.0)
    visits = list(case.visits())
    assert visits[-1].state is State.EARLY_STOP
    assert visits[-1].current_epoch == 4


def test_patience_that_is_exhausted_before_min_nb_epochs_ends_the_run_then() -> None:
    case = stopping(2, [False], min_nb_epochs=3, max_nb_epochs=9, val_check_interval=1.0)
    assert list(case.visits())[-1].current_epoch == 2


def test_an_improvement_takes_exhausted_patience_back() -> None:
    case = stopping(1, [False, True, False, True], min_nb_epochs=2, max_nb_epochs=4, val_check_interval=1.0)
    assert list(case.visits())[-1].current_epoch == 2


def test_a_stop_in_mid_epoch_goes_through_the_end_of_the_epoch_and_does_not_count_it() -> None:
    case = stopping(4, [False], min_nb_epochs=0, max_nb_epochs=9, val_check_interval=2)
    turn = "fetch train_batch backward step round_end"
    assert names(list(case.visits())) == f"start {turn} {turn} val_check early_stop epoch_end"
    run = case.dispatcher(case.folded_table)
    run.run()
    assert (run.counters.epochs_done, run.counters.current_epoch, run.state) == (0, 0, State.DONE)


def test_early_stopping_in_mid_epoch_is_followed_by_the_whole_test() -> None:
    case = Case(
        options=Options(min_nb_epochs=0, max_nb_epochs=9, early_stop_callback=EarlyStopping(patience=1), val_check_interval=1),
        sizes=Sizes(train=4, val=(2,), test=(3,)),
        script=Script(improved=(False,)),
    )
    turn = "fetch train_batch backward step round_end val_check val_check early_stop"
    assert names(list(case.visits())) == f"start sanity_val sanity_val {turn} epoch_end test test test"


def test_a_stop_that_is_decided_inside_a_window_waits_until_it_has_closed() -> None:
    case = stopping(8, [False], min_nb_epochs=0, max_nb_epochs=9, val_check_interval=2, accumulate_grad_batches=3)
    wait, step = "fetch train_batch backward accumulate round_end", "fetch train_batch backward step round_end"
    assert names(list(case.visits())) == f"start {wait} {wait} val_check early_stop {step} early_stop epoch_end"


def test_a_stop_waits_until_no_optimizer_has_a_window_open() -> None:
    case = Case(
        options=Options(min_nb_epochs=0, max_nb_epochs=9),
        sizes=Sizes(train=20, optimizers=2),
        replaced=Replaced(step={0: Every(n=2), 1: Every(n=3)}, stop=1),
    )
    assert batches(list(case.visits()), State.EARLY_STOP) == [5]


def test_a_stop_guard_acts_only_when_enough_epochs_are_done() -> None:
    case = Case(options=Options(min_nb_epochs=2, max_nb_epochs=9), sizes=Sizes(train=3), replaced=Replaced(stop=8))
    ends = [(v.current_epoch, v.batch_nb) for v in case.visits() if v.state is State.EPOCH_END]
    assert ends == [(0, 2), (1, 2), (2, 1)]


def test_a_stop_request_is_taken_regardless_of_min_nb_epochs_and_only_where_no_graph_is_alive() -> None:
    """Asked for in a forward or a backward, the turn is finished first."""
    for stop_at in (2, 3, 4, 5):
        case = Case(options=Options(min_nb_epochs=2, max_nb_epochs=2), sizes=Sizes(train=3), script=Script(stop_at=stop_at))
        assert names(list(case.visits())) == "start fetch train_batch backward step round_end"


def test_a_checkpoint_is_saved_once_per_due_batch_and_before_a_validation() -> None:
    loop = Loop(
        Options(max_nb_epochs=1, nb_sanity_val_steps=0, val_check_interval=1),
        Sizes(train=2, val=(1,)),
        guards=Guards(save=every_n_batches(1)),
    )
    turn = "fetch train_batch backward step round_end save round_end val_check"
    assert names(visits_of(loop)) == f"start {turn} early_stop {turn} epoch_end early_stop"


def test_a_validate_guard_replaces_val_check_interval_and_check_val_every_n_epoch() -> None:
    loop = Loop(
        Options(max_nb_epochs=3, nb_sanity_val_steps=0, val_check_interval=1, check_val_every_n_epoch=2),
        Sizes(train=5, val=(1,)),
        guards=Guards(validate=every_n_batches(3)),
    )
    assert batches(visits_of(loop), State.VAL_CHECK) == [2, 2, 2]


# ---- what a loop gets wrong if nobody looks


def test_splits_without_truncated_bptt_are_no_splits() -> None:
    """No window crosses an epoch, whatever number of splits the sizes name."""
    visits = run(3, epochs=2, accumulate_grad_batches=2, splits=3)
    assert batches(visits, State.STEP) == [1, 2] * 2
    assert {visit.signals.splits for visit in visits} == {1}


def test_a_validate_guard_replaces_the_flags_also_if_they_would_never_fire() -> None:
    """With a validate guard, neither epochs without validation nor an interval that does not fit matter."""
    checked = Options(max_nb_epochs=2, nb_sanity_val_steps=0, check_val_every_n_epoch=5)
    loop = Loop(checked, Sizes(train=2, val=(1,)), guards=Guards(validate=every_n_batches(2)))
    assert batches(visits_of(loop), State.VAL_CHECK) == [1, 1]


@pytest.mark.parametrize(("train", "flags"), [(2, {"val_check_interval": 5}), (None, {})])
def test_a_validate_guard_ignores_val_check_interval(train: int | None, flags: dict[str, float]) -> None:
    options = Options(max_nb_epochs=1, nb_sanity_val_steps=0, **flags)  # type: ignore[arg-type]
    Loop(options, Sizes(train=train, val=(1,)), guards=Guards(validate=every_n_batches(2)))
