"""What no guard can tell apart is planned once, and the plan is the same as if every visit were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from fsmtrain import Guards, Loop, Options, Sizes, after_batches, after_steps, every_n_batches, every_n_steps_of, plan
from fsmtrain.core.counters import Counters, Signals, signal_values
from fsmtrain.core.dispatcher import nodes_of
from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import read
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning import planner, simulation
from fsmtrain.core.planning.affine import AffineInt, NotAffineError, Repetitions, affine, change
from fsmtrain.core.planning.epoch_builder import Epoch, EpochBuilder
from fsmtrain.core.planning.int_ranges import IntRanges, IntRangesBuilder
from fsmtrain.core.planning.planner import Walk
from fsmtrain.core.sizes import Schedule
from fsmtrain.core.states import State
from fsmtrain.errors import GuardError

MILLION = 1_000_000

# ---- guards that look at what grows, in ways that no built-in one does


def at_one_moment(n: int) -> Guard:
    def is_at_it(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun == n

    return is_at_it


def in_turn(n: int, r: int) -> Guard:
    def is_in_turn(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun % n <= r < counters.batch_nb + 3

    return is_in_turn


def in_blocks(n: int) -> Guard:
    def is_in_block(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step // n % 2 == 1 and counters.batch_nb != 7

    return is_in_block


def overtaken(n: int) -> Guard:
    def is_overtaken(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 3 * counters.validations_done - counters.current_epoch > counters.optimizer_steps[0] - n

    return is_overtaken


def longer_than(n: int) -> Guard:
    def is_longer(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.gathered > n or counters.round_nb - counters.stepped_in[0] >= 2 * n

    return is_longer


small = st.integers(1, 40)
far = st.integers(1, 900)
own_guards = st.one_of(
    st.builds(every_n_batches, small),
    st.builds(every_n_batches, far, first=st.integers(0, 50)),
    st.builds(after_batches, far),
    st.builds(after_steps, far),
    st.builds(at_one_moment, far),
    st.builds(in_turn, small, st.integers(0, 5)),
    st.builds(in_blocks, small),
    st.builds(overtaken, far),
    st.builds(longer_than, small),
    st.builds(every_n_steps_of, st.just(0), small),
)


@st.composite
def loops(draw: st.DrawFn) -> Loop:
    """Loops that are long enough for something to repeat itself."""
    train, optimizers, most = draw(st.integers(1, 300)), draw(st.integers(1, 3)), draw(st.integers(1, 9))
    options = Options(
        max_nb_epochs=most,
        min_nb_epochs=draw(st.integers(0, most)),
        accumulate_grad_batches=draw(small | st.dictionaries(st.integers(0, 5), small, min_size=1, max_size=3)),
        truncated_bptt_steps=draw(st.sampled_from([None, None, 5])),
        val_check_interval=draw(st.integers(1, train) | st.sampled_from([1.0, 0.95, 0.5, 0.25, 0.1])),
        check_val_every_n_epoch=draw(st.integers(1, 3)),
        early_stop_callback=draw(st.booleans()),
    )
    sizes = Sizes(
        train=train,
        val=draw(st.sampled_from([[], [1], [3], [20, 30]])),
        test=draw(st.sampled_from([[], [40]])),
        optimizers=optimizers,
        splits=draw(st.integers(1, 4)),
    )
    maybe = st.none() | st.none() | own_guards
    guards = Guards(
        step=draw(st.dictionaries(st.integers(0, optimizers - 1), own_guards, max_size=optimizers)),
        validate=draw(maybe),
        save=draw(maybe),
        stop=draw(maybe),
    )
    return Loop(options, sizes, guards=guards)


def patient(*, least: int, every: int) -> Loop:
    """A loop that has lost patience long before it may stop, and may do so at the end of an epoch without a check."""
    options = Options(
        max_nb_epochs=40, min_nb_epochs=least, check_val_every_n_epoch=every, val_check_interval=1.0, early_stop_callback=True
    )
    return Loop(options, Sizes(train=4, val=[1]))


def walked(loop: Loop, exhausted_after: int | None = None, *, jumps: bool) -> tuple[list[Epoch], Any]:
    """The epochs of a loop one by one, and where it ends."""
    walk = Walk(loop.table, loop.limits, loop.spec.splits, exhausted_after, jumps=jumps)
    epochs = [epoch for count, epoch in walk.epochs() for _ in range(count)]
    return epochs, (walk.counters.values(), walk.sanity_batches, walk.test_batches)


@given(loops(), st.none() | st.integers(1, 60), st.sampled_from([(16, 32), (2, 1)]))
@example(Loop(Options(max_nb_epochs=3), Sizes(train=300), guards=Guards(save=at_one_moment(777))), None, (2, 1))
@example(patient(least=21, every=2), 3, (16, 32))
def test_a_plan_with_jumps_is_the_plan_without(loop: Loop, exhausted_after: int | None, worth: tuple[int, int]) -> None:
    """Whatever the guards look at, however small the jumps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "MANY", worth[0])
        patch.setattr(planner, "WORTH", worth[1])
        assert walked(loop, exhausted_after, jumps=True) == walked(loop, exhausted_after, jumps=False)


@pytest.mark.parametrize("length", [1, 9])
def test_no_jump_goes_beyond_the_one_moment_at_which_a_guard_answers_otherwise(length: int) -> None:
    """Be it in the middle of a jump of an epoch that comes after many that are equal."""
    for n in range(1, 10 * 64 + 5, 13):
        options = Options(max_nb_epochs=10, accumulate_grad_batches=length)
        epochs, _ = walked(Loop(options, Sizes(train=64), guards=Guards(save=at_one_moment(n))), jumps=True)
        assert [64 * i + nb + 1 for i, epoch in enumerate(epochs) for nb in epoch.saves] == ([n] if n <= 640 else [])


# ---- how much is walked


def visits(options: Options, guards: Guards | None = None, **sizes: Any) -> int:
    loop = Loop(options, Sizes(**sizes), guards=guards or Guards())
    walk = Walk(loop.table, loop.limits, loop.spec.splits)
    assert sum(count for count, _ in walk.epochs()) == options.max_nb_epochs
    return walk.visits


def test_without_jumps_each_visit_is_made_and_counted() -> None:
    loop = Loop(Options(max_nb_epochs=2, accumulate_grad_batches=3), Sizes(train=40, val=[20], test=[3]))
    walk = Walk(loop.table, loop.limits, loop.spec.splits, jumps=False)
    assert len(list(walk.epochs())) == 2
    assert walk.visits == len(list(loop))


@pytest.mark.parametrize("epochs", [1, 1000])
@pytest.mark.parametrize(
    ("flags", "guards", "sizes"),
    [
        ({}, Guards(), {}),
        ({"accumulate_grad_batches": 4}, Guards(), {}),
        ({"accumulate_grad_batches": 100_000}, Guards(), {}),
        ({"accumulate_grad_batches": 4, "truncated_bptt_steps": 5}, Guards(), {"splits": 3}),
        ({"accumulate_grad_batches": 4, "val_check_interval": 100}, Guards(), {}),
        ({"val_check_interval": 1}, Guards(), {}),
        ({"check_val_every_n_epoch": 2}, Guards(), {}),
        ({}, Guards(step={1: every_n_steps_of(0, 5)}), {"optimizers": 2}),
        ({}, Guards(step={0: every_n_batches(400_000)}), {}),
        ({}, Guards(stop=after_steps(10**9 + 1), save=after_batches(10**9 + 1)), {}),
        ({"val_check_interval": 0.25}, Guards(), {"val": [MILLION, MILLION], "test": [MILLION]}),
    ],
)
def test_a_million_batches_take_few_visits(epochs: int, flags: dict[str, Any], guards: Guards, sizes: dict[str, Any]) -> None:
    assert visits(Options(max_nb_epochs=epochs, **flags), guards, **{"train": MILLION, "val": [10], **sizes}) < 5000


def test_a_million_checks_take_no_more_room_than_one() -> None:
    planned = plan(Options(max_nb_epochs=1000, val_check_interval=1), train=MILLION, val=[10])
    assert planned.validations == 1000 * MILLION
    assert planned.epochs[0].epoch.validations.ranges == (range(MILLION),)
    assert len(planned.to_json()) < 2000


# ---- guards that cannot be read


def test_a_guard_that_cannot_be_read_is_asked_at_each_of_its_moments_in_the_order_of_the_run() -> None:
    asked: list[tuple[int, int]] = []

    def remembering(limits: Limits, counters: Counters, signals: Signals) -> bool:
        asked.append((counters.current_epoch, counters.batch_nb))
        return len(asked) % 7 == 0

    assert is_opaque(read(remembering))
    planned = plan(Options(max_nb_epochs=3), train=200, guards=Guards(save=remembering))
    assert asked == [(epoch, batch) for epoch in range(3) for batch in range(200)]
    saved = [200 * epoch.first + nb for epoch in planned.epochs for nb in epoch.epoch.saves]
    assert saved == list(range(6, 600, 7))


class Remembering:
    """A guard that counts how often it was asked, and answers by that alone. It keeps what it was shown."""

    def __init__(self, period: int, holds: frozenset[int], until: int) -> None:
        self.period, self.holds, self.until = period, holds, until
        self.shown: list[tuple[object, ...]] = []

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        self.shown.append((*counters.values(), signal_values(signals)))
        nb = len(self.shown)
        return nb < self.until and nb % self.period in self.holds


memories = st.tuples(st.integers(1, 12), st.frozensets(st.integers(0, 11), max_size=4), st.sampled_from([50, 333, MILLION]))
places = st.dictionaries(st.sampled_from(["step", "validate", "save", "stop"]), memories, min_size=1, max_size=3)


def with_memories(loop: Loop, given: dict[str, tuple[int, frozenset[int], int]]) -> tuple[Loop, list[Remembering]]:
    """The loop with fresh guards that remember in these places, and the guards."""
    new = {place: Remembering(*memory) for place, memory in given.items()}
    guards: dict[str, Any] = {place: guard for place, guard in new.items() if place != "step"}
    if "step" in new:
        guards["step"] = {**loop.guards.step, 0: new["step"]}
    return evolve(loop, guards=evolve(loop.guards, **guards)), list(new.values())


@given(loops(), places, st.none() | st.integers(1, 60), st.sampled_from([(16, 32), (2, 1)]))
def test_guards_that_remember_are_shown_with_jumps_what_they_are_shown_without(
    loop: Loop, given: dict[str, tuple[int, frozenset[int], int]], exhausted_after: int | None, worth: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "MANY", worth[0])
        patch.setattr(planner, "WORTH", worth[1])
        patch.setattr(simulation, "ASKED", worth[1])
        (left, seen), (right, shown) = with_memories(loop, given), with_memories(loop, given)
        assert walked(left, exhausted_after, jumps=True) == walked(right, exhausted_after, jumps=False)
    assert [guard.shown for guard in seen] == [guard.shown for guard in shown]


@pytest.mark.parametrize(
    ("period", "place"), [(1, "save"), (3, "save"), (50, "save"), (1, "step"), (7, "step"), (13, "validate"), (1, "stop")]
)
def test_batches_between_which_a_guard_that_remembers_goes_round_are_left_out(period: int, place: str) -> None:
    """It is asked in each, and few visits are made."""
    holds = frozenset[int]() if place == "stop" else frozenset({0})
    loop = Loop(Options(max_nb_epochs=2), Sizes(train=10_000, val=[1]))
    loop, (guard,) = with_memories(loop, {place: (period, holds, MILLION)})
    walk = Walk(loop.table, loop.limits, loop.spec.splits)
    assert sum(count for count, _ in walk.epochs()) == 2
    assert len(guard.shown) == (10_000 if place == "stop" else 20_000)  # a stop waits for the first epoch's end
    assert walk.visits < 15_000  # of 100,000


@pytest.mark.parametrize("period", range(255, 265))
def test_an_answer_is_given_once_be_the_batches_before_it_just_enough_for_a_jump_or_one_too_few(period: int) -> None:
    """A jump over a guard's moments is of 256 batches at least, which come behind those by which it is noticed."""
    loop, given = Loop(Options(max_nb_epochs=1), Sizes(train=600)), {"save": (period, frozenset({0}), MILLION)}
    (left, (seen,)), (right, (shown,)) = with_memories(loop, given), with_memories(loop, given)
    assert walked(left, jumps=True) == walked(right, jumps=False)
    assert seen.shown == shown.shown


def test_between_checks_that_come_again_and_again_a_guard_that_remembers_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jumps over its moments are not left out as a part of a larger one: nobody would ask there."""
    monkeypatch.setattr(planner, "WORTH", 1)
    monkeypatch.setattr(simulation, "ASKED", 1)
    loop = Loop(Options(max_nb_epochs=2, val_check_interval=20), Sizes(train=400, val=[1]))
    loop, (guard,) = with_memories(loop, {"save": (MILLION, frozenset(), MILLION)})
    epochs, _ = walked(loop, jumps=True)
    assert [list(epoch.validations) for epoch in epochs] == [list(range(19, 400, 20))] * 2
    assert len(guard.shown) == 800


def trial_of(loop: Loop) -> simulation.Simulation:
    """A trial that stands at a batch's end."""
    (end,) = (node for state, node in nodes_of(loop.table, {}).items() if state is State.ROUND_END)
    opaque, counters = frozenset({State.ROUND_END}), Counters.begin(1)
    return simulation.Simulation(loop.limits, opaque, None, end, counters, Signals(), EpochBuilder(1), depth=1)


def test_a_trial_goes_no_way_that_leads_not_on_from_where_it_stands() -> None:
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=3))
    rows = {row.source: i for i, row in enumerate(loop.table)}
    for row in (None, rows[State.FETCH]):
        with pytest.raises(NotAffineError):
            trial_of(loop).visit(row)
    trial = trial_of(loop)
    assert trial.visit(rows[State.ROUND_END]) == rows[State.ROUND_END]
    assert [moment.row for moment in trial.moments] == [rows[State.ROUND_END]]


def test_a_trial_that_marks_the_same_batch_each_time_is_refused() -> None:
    run = trial_of(Loop(Options(max_nb_epochs=1), Sizes(train=3)))
    by = change(run.counters, run.counters)
    run.attempt(lambda trial: trial.notes.saves.add(AffineInt(3, 1, Repetitions(0))), by)
    with pytest.raises(NotAffineError):
        run.attempt(lambda trial: trial.notes.saves.add(3), by)


def test_a_guard_that_fails_in_a_batch_that_would_be_left_out_fails_there() -> None:
    asked: list[int] = []

    def failing(limits: Limits, counters: Counters, signals: Signals) -> bool:
        asked.append(counters.batch_nb)
        return bool(1 / (700 - counters.batch_nb)) and False

    with pytest.raises(GuardError, match=r"Guards\(save=failing\): the guard raised ZeroDivisionError"):
        plan(Options(max_nb_epochs=1), train=1000, guards=Guards(save=failing))
    assert asked == list(range(701))


# ---- numbers that stand for all repetitions

Asking = Callable[[Any, Any], bool]
questions: list[Asking] = [
    lambda a, b: a < b,
    lambda a, b: a <= 7,
    lambda a, b: 3 - a > 2 * b,
    lambda a, b: a >= b + 5,
    lambda a, b: a == b,
    lambda a, b: a + 2 != b,
    lambda a, b: a % 5 == 2,
    lambda a, b: (a - b) // 4 >= 1,
    lambda a, b: bool(a),
]


@given(st.tuples(*[st.integers(-30, 30)] * 2), st.tuples(*[st.integers(-3, 3)] * 2), st.sampled_from(questions))
def test_an_answer_stays_the_same_for_as_many_repetitions_as_it_says(
    starts: tuple[int, int], slopes: tuple[int, int], ask: Asking
) -> None:
    of = Repetitions(0)
    a, b = (AffineInt(start, slope, of) if slope else start for start, slope in zip(starts, slopes, strict=True))
    answer = ask(a, b)
    answers = [ask(starts[0] + slopes[0] * k, starts[1] + slopes[1] * k) for k in range(100)]
    assert answer == answers[0]
    most = of.most()
    assert set(answers[:most]) == {answer}
    if ask in questions[:4] and most is not None and most < 100:
        assert answers[most] != answer


@given(st.tuples(*[st.tuples(st.integers(-30, 30), st.integers(-3, 3), st.integers(-6, 6))] * 2), st.sampled_from(questions))
@example(((2, 1, 5), (0, 0, 0)), questions[6])  # the remainder is the same in each inner repetition, not in each outer one
@example(((7, -1, 4), (0, 0, 0)), questions[7])
def test_an_answer_stays_the_same_in_repetitions_of_repetitions(numbers: tuple[tuple[int, int, int], ...], ask: Asking) -> None:
    around, within = Repetitions(0), Repetitions(1)
    a, b = (affine(affine(start, wide, around), narrow, within) for start, wide, narrow in numbers)
    answer = ask(a, b)
    often = within.most()
    times = 20 if often is None else min(often, 20)
    within.confirm(times)
    most = around.most()
    for k in range(20 if most is None else min(most, 20)):
        for j in range(times):
            assert ask(*(start + wide * k + narrow * j for start, wide, narrow in numbers)) == answer


@given(st.lists(st.integers(1, 3), max_size=20), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), max_size=4))
def test_places_come_out_the_same_one_by_one_and_in_runs(gaps: list[int], more: list[tuple[int, int]]) -> None:
    single, runs = IntRangesBuilder(), IntRangesBuilder()
    at = 0
    for gap in gaps:
        at += gap
        single.add(at)
        runs.add(at)
    for step, count in more:
        for k in range(count):
            single.add(at + 1 + step * k)
        runs.add_range(at + 1, step, count)
        at += 1 + step * (count - 1)
    assert single.build() == runs.build()
    assert list(runs.build()) == sorted(set(runs.build()))
    assert [runs.build()[i] for i in range(-len(runs.build()), 0)] == list(runs.build())
    assert Counter(IntRanges.of(runs.build())) == Counter(runs.build())


@given(st.sets(st.integers(0, 30)), st.integers(-2, 32))
def test_places_are_a_sequence_of_their_numbers(numbers: set[int], number: int) -> None:
    places, inside = IntRanges.of(sorted(numbers)), sorted(numbers)
    assert (number in places) == (number in numbers)
    assert places[2:-1] == tuple(inside[2:-1])
    if -len(inside) <= number < len(inside):
        assert places[number] == inside[number]
    else:
        with pytest.raises(IndexError, match=f"index {number} is out of range for {len(inside)} numbers"):
            places[number]


def test_places_are_shown_up_to_the_eighth() -> None:
    assert repr(IntRanges.of(range(8))) == "IntRanges(0, 1, 2, 3, 4, 5, 6, 7)"
    assert repr(IntRanges.of(range(9))) == "IntRanges(0, 1, 2, 3, 4, 5, 6, 7, ...)"


# ---- what is written down of a part that repeats itself

lengths = st.lists(st.integers(1, 3), max_size=5)


@given(lengths, lengths, st.integers(1, 4))
@example([], [1, 2, 1], 3)  # the last window of a repetition goes on with the first of the next
@example([2], [2, 2, 1], 3)
@example([], [2], 3)
def test_windows_come_out_the_same_one_by_one_and_repeated(before: list[int], part: list[int], times: int) -> None:
    singly, repeated, one = EpochBuilder(1), EpochBuilder(1), EpochBuilder(1)
    for notes, steps in ((singly, before + part * times), (repeated, before), (one, part)):
        for length in steps:
            notes.step(0, length)
    repeated.repeat(one, times)
    assert repeated.windows == singly.windows


@given(st.sets(st.integers(0, 7), min_size=1), st.integers(0, 5), st.integers(1, 4))
@example({0, 1, 3}, 0, 3)  # at no even distance
def test_saves_come_out_the_same_one_by_one_and_repeated(at: set[int], first: int, times: int) -> None:
    """Each stands for one batch in each repetition of 8 batches."""
    repeated, one, within = EpochBuilder(1), EpochBuilder(1), Repetitions(0)
    for nb in sorted(at):
        one.saves.add(AffineInt(first + nb, 8, within))
    repeated.repeat(one, times)
    assert repeated.saves.build() == IntRanges.of(first + nb + 8 * k for k in range(times) for nb in sorted(at))


def test_saves_that_stand_for_several_are_several_in_each_repetition() -> None:
    repeated, one = EpochBuilder(1), EpochBuilder(1)
    one.saves.add(AffineInt(1, 8, Repetitions(0)), step=3, count=2)
    repeated.repeat(one, 3)
    assert repeated.saves.build() == IntRanges.of([1, 4, 9, 12, 17, 20])


@pytest.mark.parametrize("kind", ["validations", "saves"])
def test_a_batch_that_is_the_same_in_each_repetition_is_not_one_for_each(kind: str) -> None:
    one = EpochBuilder(1)
    assert not one.has_places
    getattr(one, kind).add(AffineInt(3, 1, Repetitions(0)))
    assert not one.has_places
    getattr(one, kind).add(3)
    assert one.has_places


def test_equal_epochs_are_said_together() -> None:
    loop = Loop(Options(max_nb_epochs=MILLION), Sizes(train=3))
    assert len(list(Walk(loop.table, loop.limits, loop.spec.splits).epochs())) < 10


def test_the_rows_of_a_plan_are_all_that_happens_unless_some_are_asked_for() -> None:
    planned = plan(Options(max_nb_epochs=1, nb_sanity_val_steps=1), train=2, val=[1], test=[1])
    one_batch = ["step", "val_check"]
    assert [event.kind for event in planned.events()] == ["sanity_val", *one_batch, *one_batch, "epoch_end", "test"]
    assert [event.kind for event in planned.events(State.STEP)] == ["step", "step"]


def test_a_scheduler_that_needs_validations_is_counted_in_each_of_many_equal_epochs() -> None:
    every_third = Schedule(interval="epoch", frequency=3, needs_validation=True)
    planned = plan(Options(max_nb_epochs=5), train=2, val=[1], schedulers=[every_third])
    assert planned.scheduler_steps == (1,)
    assert [event.current_epoch for event in planned.events("scheduler")] == [2]


def test_an_epoch_that_is_cut_short_behind_a_check_counts_for_no_scheduler() -> None:
    options = Options(max_nb_epochs=5, min_nb_epochs=0, val_check_interval=5)
    guards, schedulers = Guards(stop=after_batches(25)), [Schedule(needs_validation=True)]
    planned = plan(options, train=10, val=[1], schedulers=schedulers, guards=guards)
    assert [(group.count, len(group.epoch.validations), group.epoch.ended_early) for group in planned.epochs] == [
        (2, 2, False),
        (1, 1, True),
    ]
    assert planned.scheduler_steps == (2,)
    assert [(event.current_epoch, event.gathered) for event in planned.events("scheduler")] == [(0, 0), (1, 0)]


def test_a_plan_without_validation_has_no_batches_of_a_check() -> None:
    assert plan(Options(max_nb_epochs=1), train=2).validation_batches == 0
    assert plan(Options(max_nb_epochs=1), train=2, val=[3, 4]).validation_batches == 7
