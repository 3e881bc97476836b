"""How far a check goes through a run: what it tries of streams and splits, and what it takes for too long."""

from __future__ import annotations

from typing import Any

import pytest

from fsmtrain import Guards, Loop, Options, Sizes, State, after_batches, every_n_batches
from fsmtrain.core.checking.check import check_of
from fsmtrain.core.checking.foreseeing import length_of
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits


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
