"""A run that is resumed with other limits keeps every rule, from each moment that a checkpoint can hold.

No model here: runs of the bare loop. `test_resumed_loaders.py` and `test_resumed_settings.py` train.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmtrain import EarlyStopping, Guards, Loop, Options, Sizes, State, after_batches, every_n_batches
from fsmtrain.core import loop_spec, transition_guards
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.resume_point import ResumePoint, adopt_limits, limits_from
from fsmtrain.core.stop_reasons import StopReason, stop_reason
from fsmtrain.errors import ResumeError

TAKES_REQUESTS = {State.START, State.SANITY_VAL, State.ROUND_END, State.VAL_CHECK, State.EARLY_STOP}
MAX_VISITS = 2_000


def moments(loop: Loop, exhausted_after: int = 99) -> Iterator[ResumePoint]:
    """Yield every moment of a run that a checkpoint can hold; its patience is exhausted after so many validations."""
    begun = loop.spec.beginning
    counters, signals = begun.counters, begun.signals
    run = Dispatcher(loop.table, loop.limits, counters, signals, {}, state=begun.state)
    while not run.is_finished:
        at = ResumePoint(state=run.state, work_done=False, counters=counters.copy(), signals=signals.copy())
        if run.state in (State.FETCH, State.VAL_CHECK):
            yield at
        if run.state is State.VAL_CHECK and counters.validations_done + 1 >= exhausted_after and loop.limits.stops_early:
            signals.patience_exhausted = True
        if run.state in TAKES_REQUESTS or (run.state is State.EPOCH_END and counters.epoch_ended_early):
            yield ResumePoint(state=run.state, work_done=True, counters=counters.copy(), signals=signals.copy())
        run.advance()


def resumed(at: ResumePoint, loop: Loop) -> Loop:
    """Return a loop as it resumes there."""
    if at.state in (State.VAL_CHECK, State.SANITY_VAL) and at.state not in loop.table.states:
        counters = at.counters.copy()
        state = State.ROUND_END if at.state is State.VAL_CHECK else State.START
        at = ResumePoint(state=state, work_done=state is State.ROUND_END, counters=counters, signals=at.signals)
    at = ResumePoint(
        state=at.state, work_done=at.work_done, counters=at.counters.copy(), signals=at.signals.copy(), limits_differ=True
    )
    lengths = loop.limits.train_batches, loop.limits.val_check_batches  # the runtime asks the loader for them
    at.counters.epoch_batches, at.counters.epoch_val_check_batches = lengths
    at.signals.epoch_length, at.signals.epoch_val_interval = lengths
    return Loop(loop.options, loop.sizes, guards=loop.guards, resumes_at=adopt_limits(at, loop.limits, loop.guards))


def follow(loop: Loop) -> tuple[list[tuple[State, Any]], Dispatcher]:
    """Run a loop to its end; return each visit with the counters at it, and the run."""
    begun = loop.spec.beginning
    run = Dispatcher(loop.table, loop.limits, begun.counters.copy(), begun.signals.copy(), {}, state=begun.state)
    visits = []
    while not run.is_finished:
        visits.append((run.state, run.counters.copy()))
        assert len(visits) < MAX_VISITS, "it never ends"
        run.advance()
    return visits, run


APART = {0: every_n_batches(2), 1: every_n_batches(2, first=0)}  # windows that never close together
LOOPS = [
    Loop(
        Options(max_nb_epochs=epochs, min_nb_epochs=min(least, epochs), accumulate_grad_batches=k, val_check_interval=interval,
                check_val_every_n_epoch=every, early_stop_callback=stopping, nb_sanity_val_steps=0),
        Sizes(train=train, val=[1], optimizers=2),
        guards=guards,
    )
    for (epochs, least), k, interval, every, train, stopping, guards in [
        ((4, 1), 1, 2, 1, 4, None, Guards()),
        ((4, 1), 3, 1.0, 2, 4, None, Guards()),
        ((2, 1), 2, 1, 1, 3, None, Guards()),
        ((1, 1), 1, 1, 1, 2, None, Guards()),
        ((3, 3), 2, 3, 1, 5, EarlyStopping(patience=2), Guards()),
        ((4, 1), 4, 1, 3, 5, EarlyStopping(patience=1), Guards()),
        ((3, 2), 2, 2, 1, 4, None, Guards(stop=every_n_batches(3))),
        ((3, 1), 1, 3, 2, 3, None, Guards(step={1: every_n_batches(2)}, save=every_n_batches(2))),
        ((2, 1), 1, 3, 1, 7, None, Guards(step=APART, stop=after_batches(9))),
    ]
]  # fmt: skip


PAIRS = list(itertools.product(range(len(LOOPS)), repeat=2))


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_run_resumed_with_any_limits_at_any_moment_ends_and_keeps_every_rule(before: int, after: int) -> None:
    loop = LOOPS[after]
    for at in moments(LOOPS[before], exhausted_after=2):
        run = resumed(at, loop)
        visits, end = follow(run)
        keeps_every_rule(run, visits, end)


def keeps_every_rule(loop: Loop, visits: list[tuple[State, Any]], end: Dispatcher) -> None:
    """The laws of the design, counted here by their words alone."""
    begun, limits = loop.spec.beginning, loop.limits
    least = max(limits.min_epochs, 0)
    # Law 5. A stop that patience or a guard decided waits for min_nb_epochs.
    assert end.state is State.DONE
    assert end.counters.epochs_done <= max(limits.epochs, begun.counters.epochs_done)
    assert end.counters.epochs_done >= least
    reason = stop_reason(end.state, limits, end.counters, end.signals, has_stop_guard=loop.guards.stop is not None)
    assert (reason is StopReason.MAX_EPOCHS) is (end.counters.epochs_done >= limits.epochs)
    # Law 2: no window crosses an epoch, and none is left open.
    assert end.counters.open_windows == end.counters.gathered == 0
    for (state, _), (_, after) in itertools.pairwise(visits):
        if state is State.EPOCH_END:
            assert after.open_windows == 0
    # A window has at most K backwards, or one more than it had when the run was resumed.
    for state, at in visits:
        if state is State.STEP and at.optimizer_i not in loop.guards.step:
            had = (
                begun.counters.gathered_by[at.optimizer_i]
                if at.optimizer_i != begun.counters.optimizer_i
                else begun.counters.gathered
            )
            assert at.gathered <= max(limits.window_of(at.current_epoch), had + 1)
    # A run past its last epoch ends at the first batch end without an open window.
    if begun.is_within_epoch and begun.counters.epochs_done >= limits.epochs:
        ends = [at for state, at in visits if state is State.ROUND_END and at.optimizer_i + 1 == limits.optimizers]
        assert all(at.open_windows for at in ends[:-2])
        assert not any(at.current_epoch != begun.counters.current_epoch for _, at in visits)
    # An epoch has no more batches than its limit, or than one more than had begun when the run was resumed.
    for state, at in visits:
        if state is State.TRAIN_BATCH:
            own = begun.counters.batch_nb + 1 if at.current_epoch == begun.counters.current_epoch else 0
            assert at.batch_nb < max(limits.train_batches, own + 1)
    validations_are_as_due(loop, visits)


def validations_are_as_due(loop: Loop, visits: list[tuple[State, Any]]) -> None:
    """Law 4: as soon as the interval is reached, then counted from there; none in an epoch that is not a validation epoch."""
    begun, limits = loop.spec.beginning, loop.limits
    since, epochs = begun.counters.batches_since_validation, begun.counters.epochs_since_validation
    due = False
    for number, (state, at) in enumerate(visits):
        if state is State.FETCH and at.batch_nb == 0 and not (number == 0 and begun.state is State.FETCH):
            epochs = epochs + 1 if epochs < limits.val_check_epochs else 1
            since = 0
        if state is State.FETCH:
            since += 1
        if state is State.VAL_CHECK and (number or begun.state is not State.VAL_CHECK):
            assert due, at
            since, due = 0, False
        if state is State.ROUND_END and at.optimizer_i + 1 == limits.optimizers:
            due = since >= limits.val_check_batches and epochs >= limits.val_check_epochs
        elif state not in (State.ROUND_END, State.SAVE, State.VAL_CHECK):
            assert not due, f"a validation was left out before {state}"


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_the_plan_of_a_resumed_run_is_what_the_run_does(before: int, after: int) -> None:
    for at in moments(LOOPS[before]):
        loop = resumed(at, LOOPS[after])
        if loop.spec.beginning.signals.patience_exhausted:
            continue
        plan, (visits, end) = loop.plan(), follow(loop)
        begun = loop.spec.beginning
        assert plan.global_step == end.counters.global_step
        assert plan.optimizer_steps == tuple(end.counters.optimizer_steps)
        assert plan.validations == end.counters.validations_done
        skipped = int(begun.work_done)  # the work of the first visit is done
        fetched = sum(state is State.FETCH for state, _ in visits[skipped:])
        assert sum(group.count * group.epoch.batches for group in plan.epochs) == fetched + (
            begun.counters.batch_nb + 1 - begun.batches_done if begun.is_within_epoch and begun.state is not State.FETCH else 0
        )
        steps = [(e.current_epoch, e.batch_nb, e.optimizer_i, e.gathered) for e in plan.events(State.STEP)]
        assert steps == [
            (at.current_epoch, at.batch_nb, at.optimizer_i, at.gathered) for state, at in visits if state is State.STEP
        ]


def test_without_a_difference_a_resumed_run_is_the_rest_of_the_run() -> None:
    for loop in LOOPS:
        whole, _ = follow(loop)
        for number, at in enumerate(moments(loop)):
            visits, _ = follow(Loop(loop.options, loop.sizes, guards=loop.guards, resumes_at=at))
            assert visits == whole[-len(visits) :], number


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_static_check_finds_no_broken_law_in_a_resumed_run(data: st.DataObject) -> None:
    before, after = data.draw(st.sampled_from(LOOPS)), data.draw(st.sampled_from(LOOPS))
    at = data.draw(st.sampled_from(list(moments(before, exhausted_after=2))))
    assert resumed(at, after).check().errors == ()


# ---- examples


def test_a_run_resumed_in_its_sixth_epoch_with_max_nb_epochs_5_ends_at_once() -> None:
    at = next(at for at in moments(Loop(Options(max_nb_epochs=8), Sizes(train=20))) if at.counters.batches_begun == 105)
    at = next(m for m in moments(Loop(Options(max_nb_epochs=8), Sizes(train=20))) if m.counters == at.counters and m.work_done)
    visits, end = follow(resumed(at, Loop(Options(max_nb_epochs=5), Sizes(train=20))))
    assert [state for state, _ in visits] == [State.ROUND_END, State.EARLY_STOP, State.EPOCH_END]
    assert (end.state, end.counters.epochs_done) == (State.DONE, 5)


def test_a_shorter_val_check_interval_that_was_passed_is_due_at_once_and_counted_from_there() -> None:
    loop = Loop(Options(max_nb_epochs=1, val_check_interval=20), Sizes(train=20, val=[1]))
    at = next(m for m in moments(loop) if m.state is State.ROUND_END and m.counters.batch_nb == 8)
    visits, _ = follow(resumed(at, Loop(Options(max_nb_epochs=1, val_check_interval=5), Sizes(train=20, val=[1]))))
    assert [at.batch_nb for state, at in visits if state is State.VAL_CHECK] == [8, 13, 18]


def test_an_early_stop_that_no_longer_holds_is_taken_back() -> None:
    """Stopped at the end of an epoch that patience had ended early; resumed without early stopping, the epoch continues."""
    loop = Loop(Options(max_nb_epochs=2, early_stop_callback=True, val_check_interval=1), Sizes(train=4, val=[1]))
    at = next(m for m in moments(loop, exhausted_after=6) if m.counters.epoch_ended_early)
    visits, end = follow(resumed(at, Loop(Options(max_nb_epochs=2), Sizes(train=4, val=[1]))))
    assert [at.batch_nb for state, at in visits if state is State.TRAIN_BATCH] == [2, 3]
    assert end.counters.epochs_done == 2


def test_a_run_without_epochs_does_not_resume_within_training() -> None:
    at = next(m for m in moments(Loop(Options(max_nb_epochs=2), Sizes(train=4))) if m.state is State.ROUND_END)
    with pytest.raises(ResumeError, match="max_nb_epochs=0: a run without epochs cannot continue from within its training"):
        resumed(at, Loop(Options(max_nb_epochs=0), Sizes(train=4)))


# ---- planted faults: each limit asked for by equality, or not adopted, is found by the laws above


def no_longer_adopted(name: str) -> Callable[..., Any]:
    """Return `adopt_limits` as if one counter kept the value of the saved run."""
    original = adopt_limits

    def adopt(at: ResumePoint, limits: Any, guards: Guards) -> ResumePoint:
        adopted = original(at, limits, guards)
        setattr(adopted.counters, name, getattr(at.counters, name))
        return adopted

    return adopt


def never_past_the_end(limits: Any, at: ResumePoint) -> Any:
    return evolve(limits_from(limits, at), is_past_last_epoch=False)


def never_in_a_window(limits: Any, at: ResumePoint) -> Any:
    return evolve(limits_from(limits, at), begins_in_window=False)


def equal_interval(limits: Any, counters: Any, signals: Any) -> bool:
    return bool(
        counters.batches_since_validation == counters.epoch_val_check_batches
        and counters.epochs_since_validation == limits.val_check_epochs
    )


def equal_epochs(limits: Any, counters: Any, signals: Any) -> bool:
    return bool(counters.epochs_done == limits.epochs)


def equal_window(limits: Any, counters: Any, signals: Any) -> bool:
    return bool(counters.gathered == counters.window_length)


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "epochs_done == max_nb_epochs": (transition_guards, "epochs_are_exhausted", equal_epochs),
    "batches since a validation == the interval": (transition_guards, "validation_interval_is_over", equal_interval),
    "gathered == K": (transition_guards, "window_is_full", equal_window),
    "an epoch past the last one is completed": (loop_spec, "limits_from", never_past_the_end),
    "K is 1 although a longer window is open": (loop_spec, "limits_from", never_in_a_window),
    "an open window does not lengthen its epoch": (sys.modules[__name__], "adopt_limits", no_longer_adopted("epoch_batches")),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_a_law_of_resumed_runs_and_none_of_fresh_ones(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    loops = [Loop(loop.options, loop.sizes, guards=loop.guards) for loop in LOOPS]
    for loop in loops:
        fresh, end = follow(loop)
        keeps_every_rule(loop, fresh, end)
    assert any(breaks_a_law(at, loop) for before in loops for loop in loops for at in moments(before, exhausted_after=2))


def breaks_a_law(at: ResumePoint, loop: Loop) -> bool:
    try:
        run = resumed(at, loop)
        keeps_every_rule(run, *follow(run))
    except AssertionError:
        return True
    return False
