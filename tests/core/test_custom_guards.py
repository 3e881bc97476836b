"""The user's guards: what they may return, and what is said of one that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fsmtrain import FsmtrainError, Guards, Loop, Options, Sizes, State
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.errors import GuardError

PLACES: list[Callable[[Any], Guards]] = [
    lambda guard: Guards(step={0: guard}),
    lambda guard: Guards(validate=guard),
    lambda guard: Guards(save=guard),
    lambda guard: Guards(stop=guard),
]


def loop_with(guards: Guards) -> Loop:
    return Loop(Options(max_nb_epochs=2, nb_sanity_val_steps=0), Sizes(train=4, val=[1]), guards=guards)


@pytest.mark.parametrize("place", PLACES)
def test_a_guard_may_answer_with_a_bool_of_numpy(place: Callable[[Any], Guards]) -> None:
    """A comparison with a NumPy number returns one; it counts as the bool that it is."""
    limit = np.int64(2)

    def numpy_guard(limits: Limits, counters: Counters, signals: Signals) -> Any:
        return counters.batch_nb >= limit

    def plain_guard(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb >= 2

    ours, plain = loop_with(place(numpy_guard)), loop_with(place(plain_guard))
    assert [visit.state for visit in ours] == [visit.state for visit in plain]
    assert ours.plan().as_dict() == plain.plan().as_dict()
    assert not ours.check().errors


@pytest.mark.parametrize(
    ("answer", "named"), [(1, "1, an int"), (None, "None, a NoneType"), (np.int64(1), "an int64"), ("", "'', a str")]
)
def test_any_other_answer_is_an_error_that_names_its_type(answer: Any, named: str) -> None:
    with pytest.raises(GuardError, match=named):
        list(loop_with(Guards(stop=lambda limits, counters, signals: answer)))


@pytest.mark.parametrize("place", PLACES)
def test_a_bool_as_the_index_of_an_optimizer_is_an_error(place: Callable[[Any], Guards]) -> None:
    def slip(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.optimizer_steps[False] >= 2

    with pytest.raises(GuardError, match=r"slip: `counters.optimizer_steps\[False\]` has a bool as the index"):
        loop_with(place(slip))


@pytest.mark.parametrize(
    "guard",
    [
        lambda limits, counters, signals: counters.optimizer_steps[7] >= 2,
        lambda limits, counters, signals: counters.optimizer_steps[True] >= 2,
        lambda limits, counters, signals: counters.batch_nb % 0 == 0,
        lambda limits, counters, signals: counters.batch_nb == 1 % 0,
        lambda limits, counters, signals: counters.no_such_counter == 0,
        lambda limits, counters, signals: counters.batch_nb[0] == 0,
    ],
)
def test_a_guard_that_cannot_be_evaluated_is_our_error(guard: Any) -> None:
    for use in (list, Loop.plan):
        with pytest.raises(FsmtrainError):
            use(loop_with(Guards(stop=guard)))
    try:
        report = loop_with(Guards(stop=guard)).check()
    except FsmtrainError:
        return
    assert report.errors


def test_a_negative_index_counts_from_the_last_optimizer() -> None:
    guards = Guards(stop=lambda limits, counters, signals: counters.optimizer_steps[-1] >= 2)
    loop = Loop(Options(min_nb_epochs=0), Sizes(train=4), guards=guards)
    assert sum(visit.state is State.STEP for visit in loop) == 2
