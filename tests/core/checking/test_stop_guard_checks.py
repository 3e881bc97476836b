"""A stop guard that holds from the beginning on, or that ``min_nb_epochs`` keeps from acting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import Guards, Loop, Options, Sizes, State, after_batches, after_steps
from fsmtrain.core.checking.check import quick_findings
from fsmtrain.core.counters import Counters


def steps_of(loop: Loop) -> int:
    return sum(visit.state is State.STEP for visit in loop)


def told(loop: Loop) -> list[str]:
    return [finding.text for finding in quick_findings(loop.spec)]


@given(st.integers(0, 30), st.integers(0, 4), st.integers(1, 3), st.sampled_from([after_steps, after_batches]))
def test_a_guard_that_min_nb_epochs_holds_back_is_reported_with_the_steps_of_both_runs(
    n: int, min_epochs: int, window: int, make: Any
) -> None:
    """Two real runs of the loop, with the flag and without it."""

    def loop(minimum: int) -> Loop:
        options = Options(min_nb_epochs=minimum, max_nb_epochs=6, accumulate_grad_batches=window)
        return Loop(options, Sizes(train=5), guards=Guards(stop=make(n)))

    ours, free = steps_of(loop(min_epochs)), steps_of(loop(0))
    findings = [text for text in told(loop(min_epochs)) if "it never" not in text]
    if n == 0 and min_epochs < 6:
        assert [f"allows, after {ours} step" in text for text in findings] == [True]
    else:
        assert [f"by itself it would stop the run after {free} step" in text for text in findings] == [True] * (ours != free)
        assert all(f"so the run makes {ours}." in text for text in findings)


def always(limits: Any, counters: Any, signals: Any) -> bool:
    return True


def early(limits: Any, counters: Counters, signals: Any) -> bool:
    return counters.global_step < 5


@pytest.mark.parametrize("guard", [always, early, after_steps(0), lambda limits, counters, signals: 1 == 1])
@pytest.mark.parametrize("train", [4, None])
def test_a_guard_that_holds_before_the_first_batch_is_reported(guard: Any, train: int | None) -> None:
    [text] = told(Loop(Options(), Sizes(train=train), guards=Guards(stop=guard)))
    assert "it holds before the first batch already, so the run ends as soon as min_nb_epochs=1 allows" in text


def test_a_guard_that_is_held_back_is_found_with_the_default_number_of_epochs() -> None:
    [text] = told(Loop(Options(), Sizes(train=45), guards=Guards(stop=after_steps(10))))
    assert text == (
        "by itself it would stop the run after 10 steps, but min_nb_epochs=1 allows no stop before 1 epoch, so the run makes "
        "45. To stop earlier pass min_nb_epochs=0."
    )


@pytest.mark.parametrize(
    "guard",
    [
        lambda limits, counters, signals: signals.stop_requested,  # from outside
        lambda limits, counters, signals: bool([1]),  # cannot be read, so it is not called
        after_steps(10_000),
    ],
)
def test_nothing_is_said_of_a_guard_that_is_unknown_or_late(guard: Any) -> None:
    assert told(Loop(Options(max_nb_epochs=1000), Sizes(train=45), guards=Guards(stop=guard))) == []


@pytest.mark.parametrize(("train", "least", "is_reported"), [(None, 1, True), (None, 2, True), (None, 0, False), (9, 1, False)])
def test_min_nb_epochs_may_keep_a_stream_that_never_ends_from_being_stopped(
    train: int | None, least: int, is_reported: bool
) -> None:
    options = Options(min_nb_epochs=least, max_nb_epochs=2)
    found = told(Loop(options, Sizes(train=train), guards=Guards(stop=after_steps(10))))
    assert any("if it never does, the run never stops" in text for text in found) is is_reported
