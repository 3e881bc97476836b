"""Planning calls copies of guards that cannot be read: a plan equals the run, and changes nothing of it (law 6)."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fsmtrain import Guards, Loop, Options, Sizes, State, build
from fsmtrain.errors import GuardError
from fsmtrain.views.diagrams.tally import planned_tally
from tests.models import Validated, batches, flags

CALLS = [0]  # a global that guards change
calls = 0  # a global that guards bind anew


def by_a_global_list(limits: Any, counters: Any, signals: Any) -> bool:
    CALLS[0] += 1
    return CALLS[0] % 3 == 0


def by_a_global_name(limits: Any, counters: Any, signals: Any) -> bool:
    global calls
    calls += 1
    return calls % 3 == 0


def count_call() -> int:
    global calls
    calls += 1
    return calls


def by_a_helper(limits: Any, counters: Any, signals: Any) -> bool:
    return count_call() % 3 == 0 and calls > 0


def by_an_attribute(limits: Any, counters: Any, signals: Any) -> bool:
    asked: Any = by_an_attribute
    asked.calls = getattr(asked, "calls", 0) + 1
    return bool(asked.calls % 3 == 0)


def by_a_default(limits: Any, counters: Any, signals: Any, asked: list[int] = []) -> bool:  # noqa: B006 - it is the memory
    asked.append(1)
    return len(asked) % 3 == 0


class Counting:
    """A guard that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, limits: Any, counters: Any, signals: Any) -> bool:
        self.calls += 1
        return self.calls % 3 == 0

    method = __call__


class Slotted(Counting):
    """The same without a dict of attributes."""

    __slots__ = ("calls",)


class Either:
    """A guard of other guards, each of which is always called."""

    def __init__(self, *guards: Any) -> None:
        self.guards = guards

    def __call__(self, limits: Any, counters: Any, signals: Any) -> bool:
        return any([guard(limits, counters, signals) for guard in self.guards])  # noqa: C419 - all of them


def by_a_closure() -> Any:
    n = 0

    def guard(limits: Any, counters: Any, signals: Any) -> bool:
        nonlocal n
        n += 1
        return n % 3 == 0

    return guard


def wrapped(guard: Any) -> Any:
    @functools.wraps(guard)
    def wrapper(limits: Any, counters: Any, signals: Any) -> Any:
        return guard(limits, counters, signals)

    return wrapper


def by_an_iterator() -> Any:
    answers = itertools.cycle([False, False, True])
    return lambda limits, counters, signals: next(answers)


def by_a_bound_method() -> Any:
    asked: list[int] = []
    note = asked.append

    def guard(limits: Any, counters: Any, signals: Any) -> bool:
        note(1)
        return len(asked) % 3 == 0

    return guard


def by_its_own_generator() -> Any:
    dice = random.Random(3)
    return lambda limits, counters, signals: dice.random() < 0.4


def every_third(asked: list[int], limits: Any, counters: Any, signals: Any) -> bool:
    asked.append(1)
    return len(asked) % 3 == 0


MEMORIES: dict[str, Callable[[], Any]] = {
    "a global list": lambda: by_a_global_list,
    "a global name": lambda: by_a_global_name,
    "a helper": lambda: by_a_helper,
    "an attribute of the function": lambda: by_an_attribute,
    "a default": lambda: by_a_default,
    "an object": Counting,
    "an object with slots": Slotted,
    "a method": lambda: Counting().method,
    "a closure": by_a_closure,
    "a wrapped closure": lambda: wrapped(by_a_closure()),
    "guards in a guard": lambda: Either(by_a_closure(), Counting()),
    "an iterator": by_an_iterator,
    "a bound method": by_a_bound_method,
    "a generator of its own": by_its_own_generator,
    "a partial": lambda: functools.partial(every_third, []),
}
PLACES: dict[str, tuple[Callable[[Any], Guards], State]] = {
    "step": (lambda guard: Guards(step={0: guard}), State.STEP),
    "validate": (lambda guard: Guards(validate=guard), State.VAL_CHECK),
    "save": (lambda guard: Guards(save=guard), State.SAVE),
    "stop": (lambda guard: Guards(stop=guard), State.STEP),
}
OPTIONS = {"max_nb_epochs": 2, "min_nb_epochs": 0, "nb_sanity_val_steps": 0}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("memory", MEMORIES)
def test_the_plan_of_a_guard_with_a_memory_is_the_run_that_follows(memory: str, place: str) -> None:
    make, state = PLACES[place]
    loop = Loop(Options(**OPTIONS), Sizes(train=10, val=[1]), guards=make(MEMORIES[memory]()))  # type: ignore[arg-type]
    planned = loop.plan()
    told = [list(planned.events(*State)) for _ in range(2)]
    assert loop.plan().as_dict() == planned.as_dict()
    drawn = planned_tally(planned).visits
    run = list(loop)
    told.append(list(planned.events(*State)))  # also after the guard has been called
    for events in told:
        assert [(e.kind, e.current_epoch, e.batch_nb) for e in events] == [
            (v.state.value, v.current_epoch, v.batch_nb) for v in run
        ]
    assert drawn[state] == sum(visit.state is state for visit in run)
    assert planned.optimizer_steps == (sum(visit.state is State.STEP for visit in run),)


def test_guards_that_share_a_memory_share_its_copy() -> None:
    guard = Counting()
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=7, optimizers=2), guards=Guards(step={0: guard, 1: guard}))
    assert loop.plan().optimizer_steps == tuple(
        sum(visit.optimizer_i == i for visit in Loop(loop.options, loop.sizes, guards=loop.guards) if visit.state is State.STEP)
        for i in range(2)
    )


@pytest.mark.parametrize("ask", ["plan", "check", "draw"])
def test_asking_a_machine_does_not_change_its_training(ask: str, tmp_path: Any) -> None:
    def validations(*, asked: bool) -> int:
        torch.manual_seed(0)
        guards = Guards(validate=Counting())
        machine = build(
            flags(max_nb_epochs=2), Validated(), train_dataloader=batches(10), val_dataloaders=batches(2), guards=guards
        )
        asks: dict[str, Callable[[], object]] = {
            "plan": machine.plan,
            "check": machine.check,
            "draw": lambda: machine.draw(tmp_path / "a.dot", counts=True),
        }
        if asked:
            asks[ask]()
        return machine.run().counters.validations_done

    assert validations(asked=True) == validations(asked=False) == 3


def endless() -> Iterator[bool]:
    while True:
        yield True


def test_a_guard_that_cannot_be_copied_cannot_be_planned() -> None:
    answers = endless()
    guard: Any = lambda limits, counters, signals: next(answers)  # noqa: E731
    with pytest.raises(GuardError, match=r"cannot plan: the guard lambda cannot be read, so a copy .* cannot be copied"):
        Loop(Options(), Sizes(train=3), guards=Guards(stop=guard)).plan()


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(1).item()], ids=["random", "numpy", "torch"]
)
def test_a_guard_that_draws_random_numbers_cannot_be_planned_and_the_numbers_stay_drawable(draw: Any) -> None:
    def by_chance(limits: Any, counters: Any, signals: Any) -> bool:
        return bool(draw() < 0.5)

    loop = Loop(Options(), Sizes(train=3, val=[1]), guards=Guards(validate=by_chance))
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with pytest.raises(GuardError, match="cannot plan: a guard draws random numbers"):
        loop.plan()
    after = draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert draw() == after


def test_the_text_of_a_plan_names_the_guards_that_cannot_be_read() -> None:
    planned = Loop(Options(max_nb_epochs=1), Sizes(train=3), guards=Guards(stop=Counting())).plan()
    assert (
        "guard Counting          cannot be read, because it is not a plain function; this plan has the answers of a copy"
        in str(planned)
    )


# ---- an opaque guard replaces a rule: the flag that it replaces is not asked


@pytest.mark.parametrize("interval", [0.25, 1, 100])
@pytest.mark.parametrize("train", [3, 10, None])
def test_the_interval_is_not_asked_where_a_guard_replaces_it(interval: float, train: int | None) -> None:
    """Not in a run, a plan or a check, whether the guard can be read or not."""
    options = Options(max_nb_epochs=1, val_check_interval=interval)
    for guard in (Counting(), lambda limits, counters, signals: counters.batch_nb == 2):
        loop = Loop(options, Sizes(train=train, val=[1]), guards=Guards(validate=guard))
        assert not loop.check().findings
        if train is not None:
            assert loop.plan().validations == train // 3 or train == 10
