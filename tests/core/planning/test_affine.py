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
    advanced_counters,
    affine,
    affine_counters,
    counter_slopes,
    identical,
    identical_counters,
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
    assert within.max_count() is None


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


def test_an_affine_int_is_no_index() -> None:
    with pytest.raises(TypeError):
        _: Any = [10, 11, 12][AffineInt(1, 1, WITHIN)]  # type: ignore[call-overload]


@pytest.mark.parametrize("slope", [-1, 1])
@pytest.mark.parametrize("start", [-2, -1, 0, 1, 2])
def test_a_number_is_true_where_it_is_not_0_for_as_long_as_that_is_so(start: int, slope: int) -> None:
    within = Repetitions(0)
    assert bool(AffineInt(start, slope, within)) is (start != 0)
    comes_to_zero = start * slope < 0
    assert within.max_count() == (abs(start) if comes_to_zero else None if start else 1)


def test_repetitions_that_go_on_for_ever_have_no_number() -> None:
    within = Repetitions(0)
    assert AffineInt(3, 1, within) > 2
    assert within.max_count() is None
    within.confirm(10**9)


# ---- counters


def counters(**changed: Any) -> Counters:
    return Counters(**{"gathered_by": [0, 0], "optimizer_steps": [1, 2], "stepped_in": [-1, 3], **changed})


@given(whole, whole, st.integers(0, 9))
def test_counters_grow_as_often_as_they_are_advanced_counters(batches: int, steps: int, times: int) -> None:
    before, after = counters(), counters(batch_nb=batches, optimizer_steps=[1, 2 + steps])
    by = counter_slopes(before, after)
    assert advanced_counters(before, by, 1) == after
    assert advanced_counters(before, by, times) == counters(batch_nb=batches * times, optimizer_steps=[1, 2 + steps * times])
    all_of_them = affine_counters(before, by, WITHIN)
    assert at(all_of_them.batch_nb, times) == batches * times
    assert at(all_of_them.optimizer_steps[1], times) == 2 + steps * times
    assert all_of_them.optimizer_steps[0] == 1
    assert (all_of_them.epoch_ended_early, all_of_them.saved) == (False, False)


@pytest.mark.parametrize("flag", ["epoch_ended_early", "saved"])
@pytest.mark.parametrize("value", [True, False])
def test_a_flag_that_has_changed_is_not_affine(flag: str, value: bool) -> None:
    with pytest.raises(NotAffineError):
        counter_slopes(counters(**{flag: value}), counters(**{flag: not value}))
    same = counters(**{flag: value})
    slopes = counter_slopes(same, same)
    assert getattr(advanced_counters(same, slopes, 3), flag) is value
    assert getattr(affine_counters(same, slopes, WITHIN), flag) is value


@pytest.mark.parametrize("name", ["batch_nb", "optimizer_steps"])
def test_a_counter_that_grows_by_more_each_time_is_not_affine(name: str) -> None:
    more = AffineInt(1, 1, WITHIN)
    with pytest.raises(NotAffineError):
        counter_slopes(counters(), counters(**{name: more if name == "batch_nb" else [more, 2]}))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (3, 3, True),
        (3, 4, False),
        (AffineInt(1, 2, WITHIN), AffineInt(1, 2, WITHIN), True),
        (AffineInt(1, 2, WITHIN), AffineInt(0, 2, WITHIN), False),
        (AffineInt(1, 2, WITHIN), AffineInt(1, 3, WITHIN), False),
        (AffineInt(1, 2, WITHIN), AffineInt(1, 2, Repetitions(0)), False),
        (AffineInt(1, 2, WITHIN), 1, False),
        (1, AffineInt(1, 2, WITHIN), False),
    ],
)
def test_numbers_are_compared_without_recording_a_comparison(left: Any, right: Any, same: bool) -> None:
    assert identical(left, right) is same
    assert identical_counters(counters(batch_nb=left), counters(batch_nb=right)) is same
    assert identical_counters(counters(stepped_in=[0, left]), counters(stepped_in=[0, right])) is same
    assert WITHIN.max_count() is None


def test_counters_with_another_flag_are_not_identical() -> None:
    assert not identical_counters(counters(epoch_ended_early=True), counters())


# ---- laws of comparisons

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
def test_a_comparison_holds_for_exactly_the_promised_repetitions(
    starts: tuple[int, int], slopes: tuple[int, int], ask: Asking
) -> None:
    of = Repetitions(0)
    a, b = (AffineInt(start, slope, of) if slope else start for start, slope in zip(starts, slopes, strict=True))
    answer = ask(a, b)
    answers = [ask(starts[0] + slopes[0] * k, starts[1] + slopes[1] * k) for k in range(100)]
    assert answer == answers[0]
    most = of.max_count()
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
    often = within.max_count()
    times = 20 if often is None else min(often, 20)
    within.confirm(times)
    most = around.max_count()
    for k in range(20 if most is None else min(most, 20)):
        for j in range(times):
            assert ask(*(start + wide * k + narrow * j for start, wide, narrow in numbers)) == answer
