"""A check finds what is wrong before it runs, and nothing where nothing is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings

from fsmtrain import Guards, Loop, Options, Sizes, State, after_batches, check, every_n_batches
from fsmtrain.core.checking.check import MAX_QUICK_BATCHES, MAX_SCHEDULE_BATCHES, check_loop, quick_findings
from fsmtrain.core.checking.findings import Report, Severity, error, warning
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.sizes import Schedule
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.early_stopping import EarlyStopping
from tests.strategies import Case, cases


class Planted(Loop):
    """A loop with a table that somebody spoilt."""


def with_rows(loop: Loop, change: object) -> Report:
    """The report on a loop whose rows were changed."""
    assert callable(change)
    object.__setattr__(loop.spec, "table", Table(tuple(change(list(loop.table)))))
    return check_loop(loop.spec)


PLAIN = Options(max_nb_epochs=2, nb_sanity_val_steps=0)


@pytest.mark.slow
@settings(max_examples=60)
@given(cases())
def test_no_configuration_of_ours_has_an_error(case: Case) -> None:
    """Law 1: in each moment exactly one row holds."""
    report = Loop(case.options, case.sizes, guards=case.guards).check()
    assert report.errors == ()
    assert report.nb_moments > 0


def test_a_report_without_findings_has_the_number_of_moments() -> None:
    report = check(Options(), train=100, val=[5])
    assert report.findings == ()
    assert str(report).startswith("nothing found\n(")
    assert f"{report.nb_moments:,} moments" in str(report)


def test_a_dropped_row_leaves_a_state_that_nothing_leaves() -> None:
    loop = Loop(PLAIN, Sizes(train=3))
    report = with_rows(loop, lambda rows: [r for r in rows if not (r.source is State.ROUND_END and r.to is State.EPOCH_END)])
    [error] = report.errors
    assert error.about == "state round_end"
    assert "no row holds" in error.text
    assert error.example[-1] == "round_end (epoch 0, batch 2, optimizer 0)"


def test_two_rows_that_overlap_are_found_with_their_targets() -> None:
    loop = Loop(evolve(PLAIN, accumulate_grad_batches=2), Sizes(train=3))
    report = with_rows(loop, lambda rows: [evolve(r, unless=()) if r.to is State.ACCUMULATE else r for r in rows])
    [error] = report.errors
    assert error.severity is Severity.ERROR
    assert "2 rows hold at once, to step, accumulate" in error.text
    assert error.example[-1].startswith("backward (epoch 0, batch 1")


def with_splits(n: int) -> Guard:
    def has_so_many_splits(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_splits == n

    return has_so_many_splits


def test_of_each_kind_of_mistake_in_a_state_the_nearest_is_reported() -> None:
    """A batch of one split has two ways to go on from, one of two splits has none."""
    loop = Loop(evolve(PLAIN, truncated_bptt_steps=5), Sizes(train=3))
    one, three = with_splits(1), with_splits(3)
    new = [
        Row(State.BACKWARD, when=one, to=State.STEP),
        Row(State.BACKWARD, when=one, to=State.ACCUMULATE),
        Row(State.BACKWARD, when=three, unless=one, to=State.STEP),
    ]
    report = with_rows(loop, lambda rows: [*new, *(r for r in rows if r.source is not State.BACKWARD)])
    overlap, gap = report.errors
    assert "2 rows hold at once, to step, accumulate. Use one of has_so_many_splits, has_so_many_splits as" in overlap.text
    assert "no row holds" in gap.text
    here = ("fetch (epoch 0, batch 0, optimizer 0)", "train_batch (epoch 0, batch 0, optimizer 0)")
    assert overlap.example == gap.example == (*here, "backward (epoch 0, batch 0, optimizer 0)")


def test_rows_without_a_guard_that_overlap_are_named_as_such() -> None:
    loop = Loop(PLAIN, Sizes(train=3))
    report = with_rows(loop, lambda rows: [*rows, Row(State.BACKWARD, to=State.ACCUMULATE)])
    [error] = report.errors
    assert "2 rows hold at once, to step, accumulate. Use one of rows without a guard as" in error.text


@pytest.mark.parametrize(("batch_nb", "lines"), [(0, 1), (1, 6), (2, 7)])
def test_the_way_to_a_mistake_has_its_last_six_moments(batch_nb: int, lines: int) -> None:
    """Each batch is five: its fetch, its forward, its backward, the step, and the end of the round."""
    loop = Loop(PLAIN, Sizes(train=3))
    late = every_n_batches(batch_nb + 1)
    report = with_rows(loop, lambda rows: [*rows, Row(State.FETCH, when=late, to=State.DONE)])
    [error] = report.errors
    assert len(error.example) == lines
    assert (error.example[0] == "...") == (lines == 7)
    assert error.example[-1] == f"fetch (epoch 0, batch {batch_nb}, optimizer 0)"


def test_a_row_that_nothing_takes_is_listed() -> None:
    loop = Loop(PLAIN, Sizes(train=3))
    report = with_rows(loop, lambda rows: [*rows, Row(State.SAVE, to=State.ROUND_END)])
    assert loop.table.rows[report.unused_rows[-1]].source is State.SAVE


def reads_the_stream(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.stream_ended


@pytest.mark.parametrize(
    ("loop", "about", "text"),
    [
        (
            Loop(PLAIN, Sizes(train=5), guards=Guards(step={0: every_n_batches(9)})),
            "step={0: nth_batch_is_done}",
            "never fires",
        ),
        (Loop(PLAIN, Sizes(train=5), guards=Guards(stop=after_batches(99))), "stop=n_batches_are_begun", "never fires"),
        (
            Loop(PLAIN, Sizes(train=5, val=[1]), guards=Guards(validate=after_batches(99))),
            "validate=n_batches_are_begun",
            "no validation takes place",
        ),
        (
            Loop(evolve(PLAIN, check_val_every_n_epoch=3), Sizes(train=5, val=[1])),
            "check_val_every_n_epoch=3",
            "no validation takes",
        ),
        (
            Loop(evolve(PLAIN, early_stop_callback=EarlyStopping(patience=9)), Sizes(train=5, val=[1])),
            "patience=9",
            "there are only 2 validations",
        ),
        (Loop(PLAIN, Sizes(train=5, schedulers=[Schedule(needs_validation=True)])), "scheduler 0", "will never act"),
        (
            Loop(PLAIN, Sizes(train=5, schedulers=[Schedule(interval="step", length=500)])),
            "scheduler 0",
            "the run makes only 10",
        ),
        (Loop(PLAIN, Sizes(train=5, schedulers=[Schedule(frequency=7)])), "scheduler 0", "frequency=7 is counted in epochs"),
        (
            Loop(PLAIN, Sizes(train=5, schedulers=[Schedule(interval="step", length=9, raises_after_end=True)])),
            "scheduler 0",
            "it raises an error after 9 steps, but the run makes 10",
        ),
        (
            Loop(PLAIN, Sizes(train=None), guards=Guards(save=reads_the_stream)),
            "save=reads_the_stream",
            "may differ between ranks",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning_that_names_it(loop: Loop, about: str, text: str) -> None:
    found = [finding for finding in loop.check().findings if about in finding.about and text in finding.text]
    assert len(found) >= 1
    assert found[0].severity is Severity.WARNING


def test_a_report_of_an_exploration_that_was_given_up_says_so() -> None:
    report = check_loop(Loop(Options(), Sizes(train=1000)).spec, max_moments=100)
    assert any("stopped after 100 moments" in bound for bound in report.not_checked)
    assert "stopped after 100 moments" in str(report)


def test_a_guard_that_fires_in_time_is_not_complained_of() -> None:
    guard: Guard = every_n_batches(5)
    assert Loop(PLAIN, Sizes(train=5), guards=Guards(step={0: guard})).check().findings == ()


def test_a_guard_that_fails_is_an_error() -> None:
    def failing(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb // limits.val_batches == 1

    report = Loop(PLAIN, Sizes(train=4), guards=Guards(save=failing)).check()
    [finding] = report.findings
    assert (finding.severity, finding.about) == (Severity.ERROR, "state round_end")
    assert "ZeroDivisionError" in finding.text


def test_errors_come_before_warnings() -> None:
    report = evolve(Loop(PLAIN, Sizes(train=4)).check(), findings=(warning("a", "..."), error("b", "..."), warning("c", "...")))
    assert [finding.about for finding in report.findings] == ["b", "a", "c"]


def test_a_report_as_json_holds_all_of_its_fields() -> None:
    whole = Loop(PLAIN, Sizes(train=4)).check()
    report = evolve(whole, findings=(warning("a", "b", ("c", "d")),), not_checked=("e",), unused_rows=(3,))
    said = json.loads(report.to_json())
    finding = {"severity": "warning", "about": "a", "text": "b", "example": ["c", "d"]}
    assert said == {"findings": [finding], "nb_moments": report.nb_moments, "not_checked": ["e"], "unused_rows": [3]}


# ---- what is told beside what


WINDOWS = evolve(PLAIN, accumulate_grad_batches=2)


def fires_late(n: int) -> Guards:
    return Guards(save=every_n_batches(n))


@pytest.mark.parametrize(("batches", "is_told"), [(MAX_QUICK_BATCHES, True), (MAX_QUICK_BATCHES + 1, False)])
def test_quick_findings_explore_only_short_epochs(batches: int, is_told: bool) -> None:
    loop = Loop(evolve(PLAIN, max_nb_epochs=1), Sizes(train=batches), guards=fires_late(MAX_QUICK_BATCHES + 9))
    assert ["never fires" in finding.text for finding in quick_findings(loop.spec)] == [True] * is_told


def test_a_table_with_errors_gets_no_warnings() -> None:
    loop = Loop(PLAIN, Sizes(train=3), guards=fires_late(9))
    report = with_rows(loop, lambda rows: [*rows, Row(State.BACKWARD, to=State.ACCUMULATE)])
    assert [finding.severity for finding in report.findings] == [Severity.ERROR]


def always_so(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb >= 0


def never_so(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb < 0


@pytest.mark.parametrize(
    ("added", "why"),
    [
        (Row(State.SAVE, to=State.ROUND_END), "no run reaches the state save"),
        (Row(State.FETCH, when=never_so, to=State.DONE), "never_so never holds when it is called there"),
        (Row(State.FETCH, unless=always_so, to=State.DONE), "one of its `unless` guards always holds"),
    ],
)
def test_the_reason_why_an_added_row_is_never_taken_is_reported(added: Row, why: str) -> None:
    loop = Loop(PLAIN, Sizes(train=3))
    [finding] = with_rows(loop, lambda rows: [*rows, added]).findings
    assert (finding.about, finding.text) == (f"row {added.source} -> {added.to}", f"it is never taken: {why}.")
    assert check_loop(loop.spec, max_moments=5).findings == ()  # it may be taken later


def test_a_run_without_epochs_needs_no_step() -> None:
    assert Loop(evolve(PLAIN, max_nb_epochs=0), Sizes(train=3, val=[1])).check().findings == ()


def test_a_run_with_streams_has_no_schedule_that_could_be_too_long() -> None:
    bounded = check_loop(Loop(PLAIN, Sizes(train=MAX_SCHEDULE_BATCHES, test=[None])).spec, max_moments=10).not_checked
    assert not any("was not simulated" in bound for bound in bounded)
    assert any(
        "was not simulated" in bound
        for bound in check_loop(Loop(PLAIN, Sizes(train=MAX_SCHEDULE_BATCHES)).spec, max_moments=10).not_checked
    )


def test_each_optimizer_that_no_row_steps_is_an_error_once_all_has_been_gone_through() -> None:
    loop = Loop(WINDOWS, Sizes(train=3, optimizers=2))
    report = with_rows(loop, lambda rows: [Row(State.BACKWARD, to=State.ACCUMULATE), *without(rows, State.BACKWARD)])
    about = [finding.about for finding in report.errors if "never steps" in finding.text]
    assert about == ["optimizer 0", "optimizer 1"]
    assert check_loop(loop.spec, max_moments=10).errors == ()


def without(rows: list[Row], source: State) -> list[Row]:
    return [r for r in rows if r.source is not source]


def hidden(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return bool(hash(counters.batch_nb) >= 0)  # cannot be read


def test_a_run_that_gets_stuck_is_not_reported_as_endless() -> None:
    """A checkpoint may be written over and over, and there is no row for each third batch."""
    third = every_n_batches(3)
    loop = Loop(WINDOWS, Sizes(train=4), guards=Guards(save=hidden))

    def change(rows: list[Row]) -> list[Row]:
        forgetting = [evolve(r, then=()) if r.to is State.SAVE else r for r in rows]
        return [*without(forgetting, State.BACKWARD), Row(State.BACKWARD, unless=third, to=State.ACCUMULATE)]

    assert [finding.about for finding in with_rows(loop, change).errors] == ["state backward"]


def looks_at_splits(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_splits == 2 and counters.split_nb == 1


def is_asked_to(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.patience_exhausted


@pytest.mark.parametrize("guard", [looks_at_splits, is_asked_to, every_n_batches(2)])
def test_what_all_ranks_see_alike_may_be_looked_at(guard: Guard) -> None:
    loop = Loop(evolve(PLAIN, truncated_bptt_steps=5), Sizes(train=4), guards=Guards(save=guard))
    assert not any("may differ between ranks" in finding.text for finding in loop.check().findings)


def test_a_guard_that_reads_a_counted_signal_is_told_the_counter() -> None:
    def reads_the_signal(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return signals.splits == 2

    loop = Loop(evolve(PLAIN, truncated_bptt_steps=5), Sizes(train=4), guards=Guards(save=reads_the_signal))
    [text] = [finding.text for finding in loop.check().findings if "signals.splits" in finding.text]
    assert "Read counters.batch_splits" in text


@pytest.mark.parametrize(
    ("sizes", "is_bounded"),
    [({}, True), ({"train": 2, "val": [None]}, True), ({"train": 2, "test": [1, None]}, True), ({"train": 2}, False)],
)
def test_with_a_stream_the_report_has_the_lengths_that_were_tried(sizes: dict[str, Any], is_bounded: bool) -> None:
    bounded = Loop(PLAIN, Sizes(**{"train": None, **sizes})).check().not_checked
    assert ["streams were tried with up to 7 batches" in bound for bound in bounded] == [True] * is_bounded
