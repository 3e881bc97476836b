"""Ascending numbers as ranges: a sequence like any other, and the same ranges however they were added."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.planning.int_ranges import IntRangesBuilder
from tests.core.planning.ascending import ranges_of


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
    assert Counter(ranges_of(runs.build())) == Counter(runs.build())


@given(st.sets(st.integers(0, 30)), st.integers(-2, 32))
def test_places_are_a_sequence_of_their_numbers(numbers: set[int], number: int) -> None:
    places, inside = ranges_of(sorted(numbers)), sorted(numbers)
    assert (number in places) == (number in numbers)
    assert places[2:-1] == tuple(inside[2:-1])
    if -len(inside) <= number < len(inside):
        assert places[number] == inside[number]
    else:
        with pytest.raises(IndexError, match=f"index {number} is out of range for {len(inside)} numbers"):
            places[number]


def test_places_are_shown_up_to_the_eighth() -> None:
    assert repr(ranges_of(range(8))) == "IntRanges(0, 1, 2, 3, 4, 5, 6, 7)"
    assert repr(ranges_of(range(9))) == "IntRanges(0, 1, 2, 3, 4, 5, 6, 7, ...)"
