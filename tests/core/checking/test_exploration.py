"""How far a check goes through a run: what it tries of streams and splits, and what it takes for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from fsmtrain import Guards, Loop, Options, Sizes, State, after_batches, every_n_batches
from fsmtrain.core import effects as do
from fsmtrain.core.checking.check import check_loop
from fsmtrain.core.checking.exploration import Exploration, Explorer
from fsmtrain.core.checking.findings import Finding, Severity
from fsmtrain.core.checking.guards_to_check import may_tell_epochs_apart, without_opaque
from fsmtrain.core.checking.patience_and_schedule_checks import nb_schedule_batches
from fsmtrain.core.checking.row_choices import RowChoices, compare_with_source
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import Effect
from fsmtrain.core.interval_guards import every_n_steps
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard, never, window_is_full
from fsmtrain.core.transition_table import Row, Table
from tests.strategies import assert_ends


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({}, 7),  # 3 batches twice, and one more
        ({"accumulate_grad_batches": 4}, 9),
        ({"accumulate_grad_batches": {0: 2, 1: 6, 2: 1}}, 13),
        ({"accumulate_grad_batches": 4, "val_check_interval": 5}, 11),
    ],
)
def test_a_stream_is_tried_for_two_windows_or_validations_and_a_batch(options: dict[str, Any], longest: int) -> None:
    given = {"max_nb_epochs": 1, "nb_sanity_val_steps": 0, "val_check_interval": 1, **options}
    report = Loop(Options(**given), Sizes(train=None, val=[1])).check()
    assert report.not_checked == (f"streams were tried with up to {longest} batches; endless streams are not covered",)


def at_split(n: int) -> Guard:
    def is_at_split(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.split_nb == n

    return is_at_split


@pytest.mark.parametrize(("split_nb", "is_saved"), [(0, True), (2, True), (3, False)])
def test_batches_are_tried_with_one_to_three_splits(split_nb: int, is_saved: bool) -> None:
    options = Options(max_nb_epochs=1, truncated_bptt_steps=5)
    loop = Loop(options, Sizes(train=2), guards=Guards(save=at_split(split_nb)))
    report = loop.check()
    untaken = {loop.table.rows[index].to for index in report.unused_rows}
    assert (State.SAVE not in untaken) == is_saved
    assert "batches were tried with up to 3 splits" in report.not_checked


@pytest.mark.parametrize(
    ("options", "sizes", "guards", "length"),
    [
        ({"max_nb_epochs": 2}, {}, Guards(), 2 * 10),
        ({}, {}, Guards(), 3 * 10),  # the first epoch, the last, and one between them
        ({"check_val_every_n_epoch": 4}, {"optimizers": 3}, Guards(), 6 * 10 * 3),
        ({"check_val_every_n_epoch": 4, "accumulate_grad_batches": {0: 1, 3: 2}}, {}, Guards(), 10 * 10),
        ({"early_stop_callback": True}, {"val": [1]}, Guards(), 3 * 10 * 2),  # and once more, for the earliest end
        ({}, {}, Guards(save=every_n_batches(3)), 3 * 10),
        ({}, {}, Guards(save=after_batches(3)), 3 * 10),  # it changes its answer once
        ({}, {}, Guards(save=every_n_steps(3)), 1000 * 10),
    ],
)
def test_how_many_batches_are_gone_through_for_a_plan(
    options: dict[str, Any], sizes: dict[str, Any], guards: Guards, length: int
) -> None:
    assert nb_schedule_batches(Loop(Options(**options), Sizes(train=10, **sizes), guards=guards).spec) == length


def test_an_epoch_that_is_too_long_to_explore_is_reported() -> None:
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=500_001), guards=Guards(save=every_n_batches(600_000)))
    report = check_loop(loop.spec, max_moments=100)
    assert "the schedule of 500,001 batches was not simulated, so nothing is reported about it" in report.not_checked
    assert report.findings == ()
    shorter = Loop(Options(max_nb_epochs=1), Sizes(train=500_000), guards=loop.guards)
    [finding] = check_loop(shorter.spec, max_moments=100).findings
    assert "never fires" in finding.text


# ---- what is gone through, moment by moment


def explored(loop: Loop, rows: Callable[[list[Row]], list[Row]] = list, *, most: int = 10_000) -> Exploration:
    """What is found on the way through a loop, with other rows in its table where they are given."""
    table = Table(tuple(rows(list(loop.table))))
    return Explorer(table, loop.limits, loop.guards, distinguish_totals=False, max_moments=most).explore()


def a_loop(*, guards: Guards | None = None, **given: Any) -> Loop:
    """One epoch of three batches, unless told otherwise."""
    given = {"max_nb_epochs": 1, "nb_sanity_val_steps": 0, "train": 3, **given}
    sizes = {name: given.pop(name) for name in ("train", "val", "test", "optimizers", "splits") if name in given}
    return Loop(Options(**given), Sizes(**sizes), guards=guards or Guards())


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"accumulate_grad_batches": 2, "optimizers": 2},
        {"val": [2], "nb_sanity_val_steps": 1},
        {"val": [2, 1], "val_check_interval": 0.5, "test": [2]},
        {"max_nb_epochs": 3},
        {"max_nb_epochs": 0},
    ],
)
def test_where_nothing_comes_from_outside_each_visit_is_a_moment(given: dict[str, Any]) -> None:
    loop = a_loop(**given)
    assert loop.check().nb_moments == len(list(assert_ends(loop)))


@pytest.mark.parametrize(
    ("given", "as_many_as"),
    [
        ({"max_nb_epochs": 10}, 3),  # the first, which no stop may end, one of those between, and the last
        ({"max_nb_epochs": 10, "min_nb_epochs": 0}, 2),
        ({"max_nb_epochs": 10, "min_nb_epochs": 4}, 2),  # one that no stop may end, and the last
        ({"max_nb_epochs": 2}, 2),
        ({"max_nb_epochs": 6, "accumulate_grad_batches": {0: 1, 2: 2}}, 4),  # and the first with longer windows
        ({"max_nb_epochs": 6, "accumulate_grad_batches": {0: 1, 4: 2}}, 6),  # the last is not like those between
    ],
)
def test_epochs_that_begin_alike_are_gone_through_once_and_once_as_the_last(given: dict[str, Any], as_many_as: int) -> None:
    seen = [step.state for step in moments(a_loop(**given))]
    assert seen.count(State.EPOCH_END) == as_many_as


def moments(loop: Loop) -> list[Any]:
    """The moments of a loop, each once."""
    found: list[Any] = []

    class Listening(Explorer):
        def _choose(self, moment: Any) -> Any:
            found.append(moment)
            return super()._choose(moment)

    Listening(loop.table, loop.limits, loop.guards, distinguish_totals=False, max_moments=10_000).explore()
    return found


def test_a_stream_is_gone_through_as_if_it_had_each_length() -> None:
    met = set()
    for length in range(1, 8):
        for visit in assert_ends(a_loop(train=length)):
            met.add((visit.state, visit.batch_nb, visit.state is not State.START and visit.batch_nb + 1 == length))
    assert explored(a_loop(train=None)).nb_moments == len(met)


def test_a_batch_is_gone_through_as_if_it_had_each_number_of_splits() -> None:
    met = set()
    for splits in (1, 2, 3):
        for visit in assert_ends(a_loop(train=1, splits=splits, truncated_bptt_steps=5)):
            met.add((visit.state, visit.split_nb, visit.state is State.START or splits))
    assert explored(a_loop(train=1, truncated_bptt_steps=5)).nb_moments == len(met)


@pytest.mark.parametrize(("given", "ways"), [({"on_nonfinite": "skip"}, 2), ({"on_nonfinite": "rollback"}, 4)])
def test_each_step_may_be_skipped_or_rolled_back(given: dict[str, Any], ways: int) -> None:
    """Neither is told apart afterwards, but by totals."""
    loop = a_loop(**given)
    steps = [visit for visit in assert_ends(loop) if visit.state is State.STEP]
    found = explored(loop)
    assert found.nb_moments == len(list(assert_ends(loop))) + (ways - 1) * len(steps)
    assert {index for index, r in enumerate(loop.table) if r.source is State.STEP} <= found.taken


def test_a_rollback_may_leave_gradients_of_other_optimizers_behind() -> None:
    loop = a_loop(on_nonfinite="rollback", optimizers=2, accumulate_grad_batches=2, guards=Guards(step={0: every_n_batches(1)}))
    found = explored(loop)
    assert State.ROLLED_BACK in {loop.table.rows[index].to for index in found.taken}
    assert found.unstepped_ends == []


def test_the_nearest_place_where_a_run_may_loop_forever_is_reported() -> None:
    """Checkpoints that are not noted: they may be written over and over after each batch."""

    def forgetting(rows: list[Row]) -> list[Row]:
        return [evolve(r, then=()) if r.to is State.SAVE else r for r in rows]

    circling = explored(a_loop(guards=Guards(save=every_n_batches(1))), forgetting).endless
    assert circling is not None
    assert (circling.state, circling.counters.batch_nb) == (State.ROUND_END, 0)
    assert explored(a_loop(guards=Guards(save=every_n_batches(1)))).endless is None


@pytest.mark.parametrize("given", [{"train": None}, {"val": [None]}, {"truncated_bptt_steps": 5}, {"on_nonfinite": "rollback"}])
def test_what_was_seen_in_a_moment_stays_as_it_was(given: dict[str, Any]) -> None:
    """Nobody asked for a stop in any of them; that is only tried."""
    seen: list[tuple[Any, Signals, object]] = []

    class Listening(Explorer):
        def _choose(self, moment: Any) -> Any:
            seen.append((moment, moment.signals.copy(), moment.counters.values()))
            return super()._choose(moment)

    loop = a_loop(**given)
    Listening(loop.table, loop.limits, loop.guards, distinguish_totals=False, max_moments=10_000).explore()
    assert not any(signals.stop_requested for _, signals, _ in seen)
    assert [(moment.signals, moment.counters.values()) for moment, _, _ in seen] == [said[1:] for said in seen]


def test_the_optimizers_that_step_are_those_whose_step_is_come_to() -> None:
    assert explored(a_loop(optimizers=3)).stepped == {0, 1, 2}
    first = at(batch_nb=0)
    gathering = [Row(State.BACKWARD, when=first, to=State.STEP), Row(State.BACKWARD, unless=first, to=State.ACCUMULATE)]
    found = explored(a_loop(optimizers=2), lambda rows: [*gathering, *(r for r in rows if r.source is not State.BACKWARD)])
    assert found.stepped == {0}


def test_what_a_guard_raises_is_kept_with_its_moment_and_nothing_follows_it() -> None:
    def divides(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 1 // (counters.batch_nb - 1) == 1

    found = explored(a_loop(guards=Guards(save=divides)))
    [(message, moment)] = found.guard_errors.items()
    assert "ZeroDivisionError" in message
    assert (moment.state, moment.counters.batch_nb) == (State.ROUND_END, 1)
    assert found.nb_moments == 1 + 2 * 5


def full_windows_alone(rows: list[Row]) -> list[Row]:
    """A window is stepped when it is full, and not at an epoch's end."""
    others = [r for r in rows if r.source is not State.BACKWARD]
    then = {r.to: r.then for r in rows if r.source is State.BACKWARD}
    full = Row(State.BACKWARD, when=window_is_full, to=State.STEP, then=then[State.STEP])
    return [*others, full, Row(State.BACKWARD, unless=window_is_full, to=State.ACCUMULATE, then=then[State.ACCUMULATE])]


@pytest.mark.parametrize("epochs", [1, 2])
def test_gradients_may_not_go_from_one_epoch_into_the_next(epochs: int) -> None:
    """Windows of two in three batches: after two epochs all are closed, but between them one is open."""
    found = explored(a_loop(max_nb_epochs=epochs, accumulate_grad_batches=2), full_windows_alone)
    assert [(moment.state, moment.counters.current_epoch) for moment in found.unstepped_ends] == [(State.EARLY_STOP, 0)]


@pytest.mark.parametrize("most", [1, 17, 18, 19])
def test_an_exploration_is_given_up_only_where_more_is_left(most: int) -> None:
    loop = a_loop()
    found = explored(loop, most=most)
    assert len(list(assert_ends(loop))) == 18
    assert found.nb_moments == min(most, 18)
    assert found.is_complete == (most >= 18)
    assert found.not_explored == ([] if most >= 18 else [f"the exploration stopped after {most} moments"])


def test_a_pass_over_a_stream_is_gone_through_as_if_it_had_each_length() -> None:
    met = set()
    for length in range(1, 8):
        met |= {met_in(moment, length) for moment in moments(a_loop(val=[length]))}
    assert explored(a_loop(val=[None])).nb_moments == len(met)


def met_in(moment: Any, length: int) -> tuple[State, int, int, bool]:
    counters = moment.counters
    return moment.state, counters.batch_nb, counters.eval_nb, moment.state is State.VAL_CHECK and counters.eval_nb + 1 == length


def test_a_stream_among_the_loaders_lets_a_pass_go_on_beyond_the_others() -> None:
    assert explored(a_loop(val=[None], test=[2])).past_the_end is None


def test_patience_is_exhausted_at_a_validation_or_not() -> None:
    loop = a_loop(val=[1], val_check_interval=1.0, early_stop_callback=True)
    lost = {moment.state for moment in moments(loop) if moment.signals.patience_exhausted}
    kept = {moment.state for moment in moments(loop) if not moment.signals.patience_exhausted}
    assert lost == {State.VAL_CHECK, State.EARLY_STOP, State.EPOCH_END}
    assert kept == {visit.state for visit in assert_ends(loop)}
    assert not any(moment.signals.patience_exhausted for moment in moments(a_loop(val=[1])))


def always_on(source: State, to: State, then: Effect) -> Callable[[list[Row]], list[Row]]:
    """One way from a state alone."""
    return lambda rows: [*(r for r in rows if r.source is not source), Row(source, to=to, then=then)]


@pytest.mark.parametrize(
    ("given", "state", "last"),
    [
        ({"val": [1]}, State.VAL_CHECK, 0),
        ({"val": [2]}, State.VAL_CHECK, 1),
        ({"val": [2], "nb_sanity_val_steps": 2}, State.SANITY_VAL, 1),
        ({"test": [2]}, State.TEST, 1),
    ],
)
def test_a_pass_that_nothing_ends_goes_beyond_its_last_batch(given: dict[str, Any], state: State, last: int) -> None:
    beyond = explored(a_loop(**given), always_on(state, state, do.next_eval_batch)).past_the_end
    assert beyond is not None
    assert (beyond.state, beyond.counters.eval_nb) == (state, last)


def test_of_moments_beyond_the_bounds_the_nearest_is_reported() -> None:
    """A check may come after each of three batches."""
    loop = a_loop(val=[2], guards=Guards(validate=hidden))
    beyond = explored(loop, always_on(State.VAL_CHECK, State.VAL_CHECK, do.next_eval_batch)).past_the_end
    assert beyond is not None
    assert beyond.counters.batch_nb == 0


@pytest.mark.parametrize("train", [1, 2])
def test_an_epoch_that_nothing_ends_goes_beyond_its_last_batch(train: int) -> None:
    found = explored(a_loop(train=train), always_on(State.ROUND_END, State.FETCH, do.next_batch))
    assert found.past_the_end is not None
    assert found.past_the_end.counters.batch_nb == train - 1
    assert found.is_complete


def test_a_run_that_nothing_ends_goes_beyond_its_last_epoch() -> None:
    found = explored(a_loop(max_nb_epochs=2), always_on(State.EARLY_STOP, State.FETCH, do.begin_epoch))
    assert found.past_the_end is not None
    assert found.past_the_end.counters.epochs_done == 2
    assert found.is_complete


def test_a_stop_is_tried_in_each_moment() -> None:
    loop = a_loop(val=[2], test=[2], nb_sanity_val_steps=2)
    found = explored(loop)
    stopping = {index: r.source for index, r in enumerate(loop.table) if r.to is State.STOPPED}
    assert {stopping[index] for index in found.taken & set(stopping)} == set(stopping.values())
    assert {State.START, State.SANITY_VAL, State.TEST} < set(stopping.values())


# ---- guards of the user's


def hidden(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return bool(hash(counters.batch_nb) >= 0)  # cannot be read


@pytest.mark.parametrize(
    ("guards", "source", "to"),
    [
        (Guards(step={0: hidden}), State.BACKWARD, {State.STEP, State.ACCUMULATE}),
        (Guards(validate=hidden), State.ROUND_END, {State.VAL_CHECK, State.FETCH, State.EPOCH_END}),
        (Guards(save=hidden), State.ROUND_END, {State.SAVE, State.FETCH, State.EPOCH_END, State.VAL_CHECK}),
    ],
)
def test_both_answers_of_a_guard_that_cannot_be_read_are_gone_through(guards: Guards, source: State, to: set[State]) -> None:
    loop = a_loop(val=[1], guards=guards)
    found = explored(loop)
    assert {loop.table.rows[i].to for i in found.taken if loop.table.rows[i].source is source} >= to
    assert found.wrong_choices == {}


def also_hidden(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return bool(hash(counters.split_nb) >= 0)


def test_two_guards_that_cannot_be_read_may_answer_in_four_ways() -> None:
    """Nobody knows that they do not hold at once, nor that one of them does; one and the same guard holds or does not."""
    two = [Row(State.BACKWARD, when=hidden, to=State.STEP), Row(State.BACKWARD, when=also_hidden, to=State.ACCUMULATE)]
    one = [Row(State.BACKWARD, when=hidden, to=State.STEP), Row(State.BACKWARD, unless=hidden, to=State.ACCUMULATE)]
    for rows, ways in ((two, {(), (0,), (1,), (0, 1)}), (one, {(0,), (1,)})):
        choices = RowChoices(Table(tuple(rows)), a_loop().limits)
        assert choices.holding_rows(State.BACKWARD, Counters(), Signals()) == ways
        assert choices.holding_rows(State.STEP, Counters(), Signals()) == {()}


@pytest.mark.parametrize(
    ("says", "answers", "agree"),
    [
        (True, True, True),
        (False, False, True),
        (True, False, False),
        (1, True, False),  # a number is no answer, even where it is equal to one
        (True, 1, False),
        (2, 2, True),
    ],
)
def test_a_guard_agrees_with_its_source_if_both_return_the_same(says: Any, answers: object, agree: bool) -> None:
    moment = a_loop().limits, Counters(), Signals()
    found = compare_with_source(hidden, answers, lambda *_: says, moment)
    assert (found is None) == agree
    assert agree or (found is not None and (found.guard, found.source_answer, found.answer) == (hidden, says, answers))


def test_a_source_that_cannot_be_worked_out_disagrees() -> None:
    def divides(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb // limits.val_batches == 0

    found = compare_with_source(divides, True, divides, (a_loop().limits, Counters(), Signals()))
    assert found is not None
    assert isinstance(found.source_answer, ZeroDivisionError)


def at(**where: int) -> Guard:
    """A guard that holds at one place."""
    batch_nb, optimizer_i = where.get("batch_nb", 0), where.get("optimizer_i", 0)
    split_nb, epochs_done = where.get("split_nb", 0), where.get("epochs_done", 0)

    def is_at(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return (
            counters.batch_nb == batch_nb
            and counters.optimizer_i == optimizer_i
            and counters.split_nb == split_nb
            and counters.epochs_done == epochs_done
        )

    return is_at


@pytest.mark.parametrize(
    ("guards", "state"),
    [
        (Guards(step={0: at(batch_nb=1)}), State.BACKWARD),
        (Guards(step={1: at(batch_nb=1, optimizer_i=1)}), State.BACKWARD),
        (Guards(step={0: at(batch_nb=1, optimizer_i=1)}), None),  # the turn of another
        (Guards(save=at(batch_nb=1, optimizer_i=1)), State.ROUND_END),
        (Guards(save=at(batch_nb=1)), None),  # in mid-round
        (Guards(save=at(batch_nb=2, optimizer_i=1, epochs_done=1)), None),  # between epochs
        (Guards(validate=at(batch_nb=2, optimizer_i=1, epochs_done=1)), None),
        (Guards(stop=at(batch_nb=2, optimizer_i=1, epochs_done=1)), State.EARLY_STOP),
        (Guards(stop=at(batch_nb=1, optimizer_i=1)), State.ROUND_END),
    ],
)
def test_a_guard_is_seen_to_hold_where_what_it_decides_is_open(guards: Guards, state: State | None) -> None:
    held = list(explored(a_loop(optimizers=2, val=[1], guards=guards)).held.values())
    assert [moment.state for moment in held] == ([] if state is None else [state])


@pytest.mark.parametrize(("split_nb", "is_held"), [(0, True), (2, True), (3, False)])
def test_a_batch_s_end_is_that_of_its_last_split(split_nb: int, is_held: bool) -> None:
    loop = a_loop(truncated_bptt_steps=5, guards=Guards(save=at(split_nb=split_nb)))
    held = list(explored(loop).held.values())
    assert [moment.counters.batch_splits for moment in held] == ([split_nb + 1] if is_held else [])


def test_a_batch_does_not_end_with_an_earlier_split() -> None:
    def first_of_two(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_splits == 2 and counters.split_nb == 0

    loop = a_loop(truncated_bptt_steps=5, guards=Guards(save=first_of_two))
    assert explored(loop).held == {}


def test_opaque_guards_are_not_called_by_the_exploration() -> None:
    third, fifth = every_n_batches(3), every_n_batches(5)
    assert without_opaque(Guards(step={0: hidden, 1: third}, validate=hidden, save=fifth)) == Guards(
        step={1: third}, validate=never, save=fifth
    )
    assert without_opaque(Guards(step={0: third}, stop=hidden)) == Guards(step={0: third})


def in_the_third_epoch(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb == 2 and counters.epochs_done == 2


def after_a_step_of_the_second(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.optimizer_steps[1] > 0 and counters.batch_nb == 2


@pytest.mark.parametrize(
    ("guards", "looks"),
    [
        (Guards(), False),
        (Guards(step={0: every_n_batches(3)}, save=every_n_batches(2)), False),
        (Guards(step={0: every_n_batches(3)}, save=after_batches(2)), True),
        (Guards(save=in_the_third_epoch), True),
        (Guards(save=after_a_step_of_the_second), True),
        (Guards(save=hidden), True),  # it may look at anything
    ],
)
def test_epochs_that_began_alike_are_told_apart_by_a_guard_on_growing_counters(guards: Guards, looks: bool) -> None:
    assert may_tell_epochs_apart(guards) == looks


class Even(int):
    """A number that takes each of its own kind for itself."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) % 2 == other % 2

    __hash__ = int.__hash__


def test_a_guard_disagrees_with_its_source_in_those_moments_alone_in_which_it_does() -> None:
    own = at(batch_nb=Even(2))
    found = explored(a_loop(train=6, guards=Guards(save=own)))
    assert {moment.counters.batch_nb for _, moment in found.disagreements} == {0, 4}
    assert own in {seen.guard for seen, _ in found.disagreements}


def test_a_guard_of_the_table_s_that_disagrees_with_its_source_is_found_too() -> None:
    own = at(batch_nb=Even(2))
    two = [Row(State.BACKWARD, when=own, to=State.STEP), Row(State.BACKWARD, unless=own, to=State.STEP)]
    found = explored(a_loop(train=6), lambda rows: [*two, *(r for r in rows if r.source is not State.BACKWARD)])
    assert {(seen.guard, moment.counters.batch_nb) for seen, moment in found.disagreements} == {(own, 0), (own, 4)}


def test_that_the_table_itself_was_made_from_a_source_that_misleads_is_one_error() -> None:
    """In a file that was edited while Python runs, folding has gone by what is not so: nobody can take that back."""
    own, loop = at(batch_nb=Even(2)), a_loop(train=6)
    two = [Row(State.BACKWARD, when=own, to=State.STEP), Row(State.BACKWARD, unless=own, to=State.STEP)]
    rows = Table((*two, *(r for r in loop.table if r.source is not State.BACKWARD)))
    object.__setattr__(loop.spec, "table", rows)
    [told] = [finding for finding in check_loop(loop.spec).findings if finding.severity is Severity.ERROR]
    assert told.about == "the guard is_at"
    assert told.text.startswith("its source gives False, but it returned True, and the table was built from the source.")
    assert told.example[-1] == "backward (epoch 0, batch 0, optimizer 0)"


def errors_without_steps(**given: Any) -> list[Finding]:
    """What is said of a loop that leaves all gradients where they are."""
    loop = a_loop(**given)
    never = Row(State.BACKWARD, to=State.ACCUMULATE)
    rows = Table((never, *(r for r in loop.table if r.source is not State.BACKWARD), Row(State.ACCUMULATE, to=State.ROUND_END)))
    object.__setattr__(loop.spec, "table", rows)
    return [finding for finding in check_loop(loop.spec).findings if finding.severity is Severity.ERROR]


def test_an_optimizer_that_never_steps_is_reported_also_in_a_run_of_one_epoch() -> None:
    unstepped, never = errors_without_steps(max_nb_epochs=2)
    assert unstepped.example[-1] == "early_stop (epoch 0, batch 2, optimizer 0)"
    assert (never.about, never.text) == ("optimizer 0", "it never steps: no run reaches its `step`.")
    assert [told.about for told in errors_without_steps(max_nb_epochs=1)][-1] == "optimizer 0"


def test_a_guard_that_raises_is_not_also_reported_as_an_optimizer_that_never_steps() -> None:
    def broken(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.gathered_by[7] == 0

    [told] = [f for f in check_loop(a_loop(guards=Guards(step={0: broken})).spec).findings if f.severity is Severity.ERROR]
    assert "IndexError" in told.text


def test_an_added_row_is_reported_only_if_it_is_never_taken() -> None:
    def with_step(change: Callable[[Row], list[Row]]) -> list[str]:
        loop = a_loop(train=4, accumulate_grad_batches=2)
        rows = [new for r in loop.table for new in (change(r) if r.source is State.STEP else [r])]
        object.__setattr__(loop.spec, "table", Table(tuple(rows)))
        return [finding.about for finding in check_loop(loop.spec).findings if "never taken" in finding.text]

    assert with_step(lambda step: [evolve(step, then=(*step.then, do.reset_saved))]) == []
    never = at(batch_nb=99)
    assert with_step(lambda step: [evolve(step, when=never), evolve(step, unless=(never,))]) == ["row step -> round_end"]


def test_a_row_with_a_guard_that_is_not_ours_counts_as_added() -> None:
    loop = a_loop()
    object.__setattr__(loop.spec, "table", Table((Row(State.START, when=at(batch_nb=99), to=State.STOPPED), *loop.table)))
    assert [finding.about for finding in check_loop(loop.spec).findings] == ["row start -> stopped"]


def on_patience(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.patience_exhausted


def on_request(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.stop_requested


@pytest.mark.parametrize(("guard", "differs"), [(on_patience, False), (on_request, True)])
def test_a_guard_may_look_at_signals_that_every_rank_sees_the_same(guard: Guard, differs: bool) -> None:
    given = {"train": 4, "val": [1], "max_nb_epochs": 9, "early_stop_callback": True, "val_check_interval": 1}
    told = check_loop(a_loop(guards=Guards(save=guard), **given).spec).findings
    assert any("differ between ranks" in finding.text for finding in told) == differs
