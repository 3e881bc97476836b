"""Numbers that stand for all repetitions: which arithmetic is exact, what is refused, and counters made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsmtrain.core.counters import Counters
from fsmtrain.core.planning.affine import (
    AffineInt,
    NotAffineError,
    Repetitions,
    affine,
    change,
    grown,
    identical,
    moved,
)

WITHIN = Repetitions(0)

whole = st.integers(-20, 20)
divisors = st.integers(1, 6)


@given(whole, st.integers(-3, 3), divisors, st.integers(0, 9))
@example(3, 2, 1, 4)
def test_a_number_that_grows_by_multiples_of_its_divisor_is_divided_evenly(start: int, times: int, n: int, k: int) -> None:
    """And its remainder is always the same, so that nothing is asked of it."""
    within = Repetitions(0)
    slope = times * n
    quotient, remainder = affine(start, slope, within) // n, affine(start, slope, within) % n
    assert at(quotient, k) == (start + slope * k) // n
    assert at(remainder, k) == (start + slope * k) % n
    assert within.most() is None


def at(number: Any, k: int) -> int:
    """A number in the k-th repetition."""
    return int(number.start + number.slope * k) if isinstance(number, AffineInt) else int(number)


@given(whole, st.integers(1, 5), whole, whole, st.integers(0, 9))
def test_sums_differences_and_multiples_are_exact(start: int, slope: int, other: int, factor: int, k: int) -> None:
    number, plain = affine(start, slope, WITHIN), start + slope * k
    assert at(number + other, k) == at(other + number, k) == plain + other
    assert at(number - other, k) == plain - other
    assert at(other - number, k) == other - plain
    assert at(number * factor, k) == at(factor * number, k) == plain * factor
    assert at(-number, k) == -plain
    assert at(number - number, k) == 0


UNEVEN: list[Callable[[Any], Any]] = [
    lambda number: number * number,
    lambda number: number * 0.5,
    lambda number: number // -2,
    lambda number: number // 0,
    lambda number: number // 2.0,
    lambda number: number % -2,
    lambda number: number % 0,
    lambda number: number % 2.0,
    lambda number: number % number,
]


@pytest.mark.parametrize("work", UNEVEN)
def test_what_is_no_straight_line_is_refused(work: Callable[[Any], Any]) -> None:
    with pytest.raises(NotAffineError):
        work(AffineInt(3, 2, WITHIN))


def test_a_number_that_grows_is_the_index_of_its_first_repetition_alone() -> None:
    within = Repetitions(0)
    assert [10, 11, 12][AffineInt(1, 1, within)] == 11
    assert within.most() == 1


@pytest.mark.parametrize("slope", [-1, 1])
@pytest.mark.parametrize("start", [-2, -1, 0, 1, 2])
def test_a_number_is_true_where_it_is_not_0_for_as_long_as_that_is_so(start: int, slope: int) -> None:
    within = Repetitions(0)
    assert bool(AffineInt(start, slope, within)) is (start != 0)
    comes_to_zero = start * slope < 0
    assert within.most() == (abs(start) if comes_to_zero else None if start else 1)


def test_repetitions_that_go_on_for_ever_have_no_number() -> None:
    within = Repetitions(0)
    assert AffineInt(3, 1, within) > 2
    assert within.most() is None
    within.confirm(10**9)


# ---- counters


def counters(**changed: Any) -> Counters:
    return Counters(**{"gathered_by": [0, 0], "optimizer_steps": [1, 2], "stepped_in": [-1, 3], **changed})


@given(whole, whole, st.integers(0, 9))
def test_counters_grow_as_often_as_they_are_moved(batches: int, steps: int, times: int) -> None:
    before, after = counters(), counters(batch_nb=batches, optimizer_steps=[1, 2 + steps])
    by = change(before, after)
    assert moved(before, by, 1) == after
    assert moved(before, by, times) == counters(batch_nb=batches * times, optimizer_steps=[1, 2 + steps * times])
    all_of_them = grown(before, by, WITHIN)
    assert at(all_of_them.batch_nb, times) == batches * times
    assert at(all_of_them.optimizer_steps[1], times) == 2 + steps * times
    assert all_of_them.optimizer_steps[0] == 1
    assert (all_of_them.epoch_ended_early, all_of_them.saved) == (False, False)


@pytest.mark.parametrize("flag", ["epoch_ended_early", "saved"])
@pytest.mark.parametrize("raised", [True, False])
def test_a_flag_that_has_changed_does_not_change_again(flag: str, raised: bool) -> None:
    with pytest.raises(NotAffineError):
        change(counters(**{flag: raised}), counters(**{flag: not raised}))
    assert change(counters(**{flag: raised}), counters(**{flag: raised}))[flag] == 0
    assert getattr(moved(counters(**{flag: raised}), change(counters(), counters()), 3), flag) is raised


@pytest.mark.parametrize("name", ["batch_nb", "optimizer_steps"])
def test_what_grows_by_more_each_time_is_refused(name: str) -> None:
    more = AffineInt(1, 1, WITHIN)
    with pytest.raises(NotAffineError):
        change(counters(), counters(**{name: more if name == "batch_nb" else [more, 2]}))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (3, 3, True),
        (3, 4, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 3], False),
        ([1, 2], [0, 2], False),
        (AffineInt(1, 2, WITHIN), AffineInt(1, 2, WITHIN), True),
        (AffineInt(1, 2, WITHIN), AffineInt(0, 2, WITHIN), False),
        (AffineInt(1, 2, WITHIN), AffineInt(1, 3, WITHIN), False),
        (AffineInt(1, 2, WITHIN), AffineInt(1, 2, Repetitions(0)), False),
        (AffineInt(1, 2, WITHIN), 1, False),
        (1, AffineInt(1, 2, WITHIN), False),
        (counters(batch_nb=3), counters(batch_nb=3), True),
        (counters(batch_nb=3), counters(batch_nb=4), False),
        (counters(optimizer_steps=[1, 2]), counters(optimizer_steps=[1, 3]), False),
        (counters(epoch_ended_early=True), counters(), False),
    ],
)
def test_numbers_are_compared_without_asking_anything_of_them(left: Any, right: Any, same: bool) -> None:
    assert identical(left, right) is same
    assert WITHIN.most() is None
