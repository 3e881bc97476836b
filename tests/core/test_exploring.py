"""How far a check goes through a run: what it tries of streams and splits, and what it takes for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from fsmtrain import Guards, Loop, Options, Sizes, State, after_batches, every_n_batches
from fsmtrain.core.checking.check import check_of
from fsmtrain.core.checking.exploring import Exploration, Explorer
from fsmtrain.core.checking.foreseeing import length_of
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guards import Guard, window_is_full
from fsmtrain.core.limits import Limits
from fsmtrain.core.table import Row, Table, row
from tests.strategies import ending


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ({}, 7),  # 3 batches twice, and one more
        ({"accumulate_grad_batches": 4}, 9),
        ({"accumulate_grad_batches": {0: 2, 1: 6, 2: 1}}, 13),
        ({"accumulate_grad_batches": 4, "val_check_interval": 5}, 11),
    ],
)
def test_a_stream_is_tried_for_two_windows_or_checks_and_a_batch(options: dict[str, Any], longest: int) -> None:
    given = {"max_nb_epochs": 1, "nb_sanity_val_steps": 0, "val_check_interval": 1, **options}
    report = Loop(Options(**given), Sizes(train=None, val=[1])).check()
    assert report.bounded == (f"streams were tried up to {longest} batches, and one that never ends is not seen through",)


def at_split(n: int) -> Guard:
    def is_at_split(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.split_nb == n

    return is_at_split


@pytest.mark.parametrize(("split_nb", "is_saved"), [(0, True), (2, True), (3, False)])
def test_batches_are_tried_with_one_to_three_splits(split_nb: int, is_saved: bool) -> None:
    options = Options(max_nb_epochs=1, truncated_bptt_steps=5)
    loop = Loop(options, Sizes(train=2), guards=Guards(save=at_split(split_nb)))
    report = loop.check()
    untaken = {loop.table.rows[index].to for index in report.untaken}
    assert (State.SAVE not in untaken) == is_saved
    assert "batches were tried with up to 3 splits" in report.bounded


@pytest.mark.parametrize(
    ("options", "sizes", "guards", "length"),
    [
        ({"max_nb_epochs": 2}, {}, Guards(), 2 * 10),
        ({}, {}, Guards(), 3 * 10),  # the first epoch, the last, and one between them
        ({"check_val_every_n_epoch": 4}, {"optimizers": 3}, Guards(), 6 * 10 * 3),
        ({"check_val_every_n_epoch": 4, "accumulate_grad_batches": {0: 1, 3: 2}}, {}, Guards(), 10 * 10),
        ({"early_stop_callback": True}, {"val": [1]}, Guards(), 3 * 10 * 2),  # and once more, for the earliest end
        ({}, {}, Guards(save=every_n_batches(3)), 3 * 10),
        ({}, {}, Guards(save=after_batches(3)), 1000 * 10),
    ],
)
def test_how_many_batches_are_gone_through_for_a_plan(
    options: dict[str, Any], sizes: dict[str, Any], guards: Guards, length: int
) -> None:
    assert length_of(Loop(Options(**options), Sizes(train=10, **sizes), guards=guards)) == length


def test_an_epoch_that_is_too_long_to_be_gone_through_is_said() -> None:
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=500_001), guards=Guards(save=every_n_batches(600_000)))
    report = check_of(loop, most=100)
    assert "the schedule of 500,001 batches was not gone through, so what it shows is not told" in report.bounded
    assert report.findings == ()
    shorter = Loop(Options(max_nb_epochs=1), Sizes(train=500_000), guards=loop.guards)
    [finding] = check_of(shorter, most=100).findings
    assert "never fires" in finding.text


# ---- what is gone through, moment by moment


def explored(loop: Loop, rows: Callable[[list[Row]], list[Row]] = list, *, most: int = 10_000) -> Exploration:
    """What is found on the way through a loop, with other rows in its table where they are given."""
    table = Table(tuple(rows(list(loop.table))))
    return Explorer(table, loop.limits, loop.guards, tells_totals=False, most=most).explore()


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
    assert loop.check().explored == len(list(ending(loop)))


@pytest.mark.parametrize(
    ("given", "as_many_as"),
    [
        ({"max_nb_epochs": 10}, 3),  # the first, which no stop may end, one of those between, and the last
        ({"max_nb_epochs": 10, "min_nb_epochs": 0}, 2),
        ({"max_nb_epochs": 10, "min_nb_epochs": 4}, 2),  # one that no stop may end, and the last
        ({"max_nb_epochs": 2}, 2),
        ({"max_nb_epochs": 6, "accumulate_grad_batches": {0: 1, 2: 2}}, 4),  # and the first with longer windows
    ],
)
def test_epochs_that_begin_alike_are_gone_through_once_and_once_more_as_the_last(given: dict[str, Any], as_many_as: int) -> None:
    seen = [step.state for step in moments(a_loop(**given))]
    assert seen.count(State.EPOCH_END) == as_many_as


def moments(loop: Loop) -> list[Any]:
    """The moments of a loop, each once."""
    found: list[Any] = []

    class Listening(Explorer):
        def _choose(self, moment: Any) -> Any:
            found.append(moment)
            return super()._choose(moment)

    Listening(loop.table, loop.limits, loop.guards, tells_totals=False, most=10_000).explore()
    return found


def test_a_stream_is_gone_through_as_if_it_had_each_length() -> None:
    met = set()
    for length in range(1, 8):
        for visit in ending(a_loop(train=length)):
            met.add((visit.state, visit.batch_nb, visit.state is not State.START and visit.batch_nb + 1 == length))
    assert explored(a_loop(train=None)).explored == len(met)


def test_a_batch_is_gone_through_as_if_it_had_each_number_of_splits() -> None:
    met = set()
    for splits in (1, 2, 3):
        for visit in ending(a_loop(train=1, splits=splits, truncated_bptt_steps=5)):
            met.add((visit.state, visit.split_nb, visit.state is State.START or splits))
    assert explored(a_loop(train=1, truncated_bptt_steps=5)).explored == len(met)


@pytest.mark.parametrize(("given", "ways"), [({"on_nonfinite": "skip"}, 2), ({"on_nonfinite": "rollback"}, 4)])
def test_each_step_may_be_skipped_or_rolled_back(given: dict[str, Any], ways: int) -> None:
    """Neither is told apart afterwards, but by totals."""
    loop = a_loop(**given)
    steps = [visit for visit in ending(loop) if visit.state is State.STEP]
    assert explored(loop).explored == len(list(ending(loop))) + (ways - 1) * len(steps)


def test_a_rollback_may_leave_gradients_of_other_optimizers_behind() -> None:
    loop = a_loop(on_nonfinite="rollback", optimizers=2, accumulate_grad_batches=2, guards=Guards(step={0: every_n_batches(1)}))
    found = explored(loop)
    assert State.ROLLED_BACK in {loop.table.rows[index].to for index in found.taken}
    assert found.unstepped == []


def full_windows_alone(rows: list[Row]) -> list[Row]:
    """A window is stepped when it is full, and not at an epoch's end."""
    others = [r for r in rows if r.source is not State.BACKWARD]
    full = row(State.BACKWARD, when=window_is_full, to=State.STEP, then=steps_of(rows, State.STEP))
    return [*others, full, row(State.BACKWARD, unless=window_is_full, to=State.ACCUMULATE, then=steps_of(rows, State.ACCUMULATE))]


def steps_of(rows: list[Row], to: State) -> Any:
    """What the row from `backward` to this state changes."""
    return next((r.then for r in rows if r.source is State.BACKWARD and r.to is to), ())


@pytest.mark.parametrize(("epochs", "at"), [(1, [State.EARLY_STOP]), (2, [State.EARLY_STOP])])
def test_gradients_may_not_go_from_one_epoch_into_the_next(epochs: int, at: list[State]) -> None:
    """Windows of two in three batches: after two epochs all are closed, but between them one is open."""
    found = explored(a_loop(max_nb_epochs=epochs, accumulate_grad_batches=2), full_windows_alone)
    assert [(moment.state, moment.counters.current_epoch) for moment in found.unstepped] == [(state, 0) for state in at]


@pytest.mark.parametrize("most", [1, 17, 18, 19])
def test_an_exploration_is_given_up_only_where_more_is_left(most: int) -> None:
    loop = a_loop()
    found = explored(loop, most=most)
    assert len(list(ending(loop))) == 18
    assert found.explored == min(most, 18)
    assert found.is_whole == (most >= 18)
    assert found.bounded == ([] if most >= 18 else [f"it stopped after {most} moments"])
