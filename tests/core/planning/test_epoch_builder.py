"""The record of an epoch: what a plan says of it, and windows and saves in a stretch that repeats itself."""

from __future__ import annotations

from collections import Counter

from hypothesis import assume, example, given
from hypothesis import strategies as st

from fsmtrain.core.counters import Counters
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.affine import AffineInt, Repetitions
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.planning.epoch_builder import EpochBuilder
from fsmtrain.core.states import State
from tests.core.planning.ascending import ranges_of
from tests.strategies import Case, cases


def an_epoch() -> EpochBuilder:
    """A recorder of an epoch with one optimizer."""
    return EpochBuilder(Counters())


@given(cases())
def test_each_epoch_of_a_plan_has_the_batches_that_are_begun_in_it(case: Case) -> None:
    assume(None not in (case.sizes.train, *case.sizes.val, *case.sizes.test))
    loop = LoopSpec(case.options, case.sizes, guards=case.guards)
    trained = {(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.TRAIN_BATCH}
    begun = Counter(epoch for epoch, _ in trained)
    planned = [group.epoch.batches for group in make_plan(loop).epochs for _ in range(group.count)]
    assert planned == [begun[epoch] for epoch in sorted(begun)]


def test_saves_at_an_even_distance_are_repeated_at_once_however_often() -> None:
    repeated, one, within = an_epoch(), an_epoch(), Repetitions(0)
    for first in (1, 4):
        one.saves.add(AffineInt(first, 6, within))
    repeated.repeat(one, 10**15)
    assert repeated.saves.build().ranges == (range(1, 6 * 10**15, 3),)


@given(
    st.dictionaries(st.integers(0, 4), st.integers(0, 1), min_size=1, max_size=3),
    st.none() | st.integers(0, 3),
    *[st.integers(1, 4)] * 2,
)
@example({0: 0, 1: 1}, None, 3, 2)  # at a distance that is another in each outer repetition
@example({0: 0, 1: 1, 4: 1}, None, 2, 4)  # the last of one repetition comes close to the first of the next
@example({2: 0}, 1, 3, 2)  # several at an even distance, and one by itself
def test_saves_come_out_the_same_one_by_one_and_in_repetitions_of_repetitions(
    at: dict[int, int], last: int | None, times: int, widely: int
) -> None:
    """Each inner repetition has 12 batches, each outer one 60; some come a batch later each time."""
    later, marks = 0, []
    for nb, drifts in sorted(at.items()):
        later += drifts  # those behind one that comes later do so too
        marks.append((nb, 60 + later))
    ends = [] if last is None else [55 + last]
    top, outer, inner, around, within = (an_epoch(), an_epoch(), an_epoch(), Repetitions(0), Repetitions(1))
    for nb, wide in marks:
        inner.saves.add(AffineInt(AffineInt(nb, wide, around), 12, within))
    outer.repeat(inner, times)
    for nb in ends:
        outer.saves.add(AffineInt(nb, 60, around))
    top.repeat(outer, widely)
    singly: list[int] = []
    for j in range(widely):
        singly += [nb + wide * j + 12 * k for k in range(times) for nb, wide in marks]
        singly += [nb + 60 * j for nb in ends]
    assert top.saves.build() == ranges_of(singly)


# ---- a stretch and its repetitions

lengths = st.lists(st.integers(1, 3), max_size=5)


@given(lengths, lengths, st.integers(1, 4))
@example([], [1, 2, 1], 3)  # the last window of a repetition goes on with the first of the next
@example([2], [2, 2, 1], 3)
@example([], [2], 3)
def test_windows_come_out_the_same_one_by_one_and_repeated(before: list[int], part: list[int], times: int) -> None:
    singly, repeated, one = an_epoch(), an_epoch(), an_epoch()
    for builder, steps in ((singly, before + part * times), (repeated, before), (one, part)):
        for length in steps:
            builder.add_window(0, length)
    repeated.repeat(one, times)
    assert repeated.windows == singly.windows


@given(st.sets(st.integers(0, 7), min_size=1), st.integers(0, 5), st.integers(1, 4))
@example({0, 1, 3}, 0, 3)  # at no even distance
def test_saves_come_out_the_same_one_by_one_and_repeated(at: set[int], first: int, times: int) -> None:
    """Each stands for one batch in each repetition of 8 batches."""
    repeated, one, within = an_epoch(), an_epoch(), Repetitions(0)
    for nb in sorted(at):
        one.saves.add(AffineInt(first + nb, 8, within))
    repeated.repeat(one, times)
    assert repeated.saves.build() == ranges_of(first + nb + 8 * k for k in range(times) for nb in sorted(at))


def test_saves_that_stand_for_several_are_several_in_each_repetition() -> None:
    repeated, one = an_epoch(), an_epoch()
    one.saves.add(AffineInt(1, 8, Repetitions(0)), step=3, count=2)
    repeated.repeat(one, 3)
    assert repeated.saves.build() == ranges_of([1, 4, 9, 12, 17, 20])
