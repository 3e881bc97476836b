"""Contestants, and how they are measured: in turns inside one process, each against a loop written by hand.

Every turn trains a fresh model of the same first weights on the same batches, and must end with the same weights as the loop
by hand: who has not done the same work is not compared. One round is a turn of each. The order is turned round from round to
round, so that a machine that grows slower, or faster, favours nobody; what counts is the median of the differences within the
rounds. The first contestant runs again as the last: the difference of a loop to itself is the noise.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import define, field, frozen
from torch import nn

from benchmarks.batches import Spent, Stretch

Train = Callable[[Any], nn.Module]


@frozen
class Contestant:
    """A way to train: takes a loader, and returns the model that it has trained on it for one epoch.

    `draws` says that it is to write to the terminal meanwhile, which is looked after.
    """

    name: str
    train: Train
    draws: bool = False


@frozen
class Scenario:
    """What is trained: a loop by hand, and who else does the same.

    Args:
        name: What it is about.
        by_hand: The loop by hand.
        others: Who is compared with it.
        batches: Makes so many batches.
        loader: Makes a loader of batches and the stretch that is measured.
        times: How many batches are measured, as a multiple of what is usual.
    """

    name: str
    by_hand: Train
    others: Sequence[Contestant]
    batches: Callable[[int], Sequence[Any]]
    loader: Callable[[Sequence[Any], Stretch], Any]
    times: float = 1.0


@define
class Measured:
    """What a contestant's turns have cost, in microseconds a batch, and each of them less the loop by hand of its round."""

    name: str
    turns: list[Spent] = field(factory=list)
    differences: list[Spent] = field(factory=list)
    ratios: list[float] = field(factory=list)

    @property
    def wall(self) -> float:
        """The median on the clock."""
        return statistics.median(turn.wall for turn in self.turns)

    @property
    def added(self) -> float:
        """The median of the differences on the clock."""
        return statistics.median(difference.wall for difference in self.differences)

    @property
    def added_cpu(self) -> float:
        """The median of the differences in the processor's time."""
        return statistics.median(difference.cpu for difference in self.differences)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies half of the differences on the clock."""
        walls = sorted(difference.wall for difference in self.differences)
        if len(walls) < 2:
            return walls[0], walls[0]
        low, _, high = statistics.quantiles(walls, n=4, method="inclusive")
        return low, high

    @property
    def ratio(self) -> float:
        """The median of the ratios on the clock."""
        return statistics.median(self.ratios)


BY_HAND, AGAIN = "a loop by hand", "the same again"
LAST = 4  # batches at the end of each turn that are trained but not measured
PATIENCE = 5.0  # seconds that something which was drawn may take to be seen
WINDOWS = 8  # whose multiples the batches are, so that windows are full: not all trainers take a step for what is left over


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    """The model's parameters, in their order."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def see_that_they_are_equal(name: str, found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """See to it that two trainings came to the same weights, to rounding.

    Raises:
        RuntimeError: They did not.
    """
    same = len(found) == len(expected) and all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True)
    )
    if not same:
        raise RuntimeError(f"{name}: its last weights are not those of the loop by hand, so that it has not done the same work")


def _comes_true(what: Callable[[], bool]) -> bool:
    """Whether it is so soon: what was written has to come out at the terminal's other end, in another process."""
    until = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def measure(
    scenario: Scenario, *, batches: int, rounds: int, drawn: Callable[[], int] = lambda: 0, say: Callable[[str], None] = print
) -> list[Measured]:
    """The scenario's contestants in turns; the loop by hand comes first, and then itself.

    Args:
        scenario: What is trained.
        batches: Those that are measured in each turn. Half as many go before them: by then a thread that looks at the run
            now and then has done so, and has as much before it as at the end.
        rounds: Turns of each contestant. One more goes before them, and is not counted.
        drawn: How much has been written to the terminal so far.
        say: Told of each round.

    Raises:
        RuntimeError: A contestant did not do the same work, or did not draw though it should.
    """
    contestants = [Contestant(BY_HAND, scenario.by_hand), *scenario.others, Contestant(AGAIN, scenario.by_hand)]
    measured = {contestant.name: Measured(contestant.name) for contestant in contestants}
    batches = max(round(batches * scenario.times / WINDOWS), 1) * WINDOWS
    first = batches // 2
    data = scenario.batches(first + batches + LAST)
    expected: list[torch.Tensor] = []

    def turn(contestant: Contestant) -> Spent:
        loader = scenario.loader(data, stretch := Stretch(first, first + batches))
        before = drawn()
        gc.collect()
        weights = weights_of(contestant.train(loader))
        expected.extend(weights if not expected else [])
        see_that_they_are_equal(f"{scenario.name}, {contestant.name}", weights, expected)
        if contestant.draws and not _comes_true(lambda: drawn() > before):
            raise RuntimeError(f"{scenario.name}, {contestant.name}: nothing was drawn on the terminal")
        return stretch.spent

    for contestant in contestants:
        turn(contestant)
    gc.collect()
    gc.freeze()  # what is there by now is no work for the collector in any turn
    try:
        for number in range(rounds):
            spent = {c.name: turn(c) for c in (contestants if number % 2 == 0 else reversed(contestants))}
            for name, cost in spent.items():
                measured[name].turns.append(cost)
                measured[name].differences.append(cost - spent[BY_HAND])
                measured[name].ratios.append(cost.wall / spent[BY_HAND].wall)
            say(f"{scenario.name}: round {number + 1} of {rounds}")
    finally:
        gc.unfreeze()
    by_hand, *others, again = measured.values()
    return [by_hand, again, *others]
