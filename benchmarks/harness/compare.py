"""Compare contestants in turns, inside one process, with a loop written by hand.

Every turn trains a fresh model with the same initial weights on the same batches, and must end with the same weights as the
loop by hand: a contestant that has not done the same work is an error. A round is one turn of each contestant. The order is
reversed from round to round, so that a drift of the computer favours no one. What counts is the median of the differences
within the rounds. The loop by hand runs a second time in each round: its difference to itself is the noise.
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

from benchmarks.harness.timed_loaders import TimedRange, Times

Train = Callable[[Any], nn.Module]


@frozen
class Contestant:
    """A way to train: takes a loader, trains a model on it for one epoch, and returns the model.

    If `draws` is true, it must write to the terminal meanwhile.
    """

    name: str
    train: Train
    draws: bool = False


@frozen
class Scenario:
    """A training, by hand and by others.

    Args:
        name: The heading of its table.
        by_hand: The loop by hand.
        others: The contestants that are compared with it.
        batches: Makes a number of batches.
        loader: Makes a loader from batches and the range that is measured.
        times: The number of measured batches, as a multiple of the usual number.
    """

    name: str
    by_hand: Train
    others: Sequence[Contestant]
    batches: Callable[[int], Sequence[Any]]
    loader: Callable[[Sequence[Any], TimedRange], Any]
    times: float = 1.0


@define
class ContestantResult:
    """The costs of a contestant's turns, in microseconds a batch, and their differences to the loop by hand."""

    name: str
    turns: list[Times] = field(factory=list)
    differences: list[Times] = field(factory=list)
    ratios: list[float] = field(factory=list)

    @property
    def wall(self) -> float:
        """The median wall time."""
        return statistics.median(turn.wall for turn in self.turns)

    @property
    def added(self) -> float:
        """The median of the differences in wall time."""
        return statistics.median(difference.wall for difference in self.differences)

    @property
    def added_cpu(self) -> float:
        """The median of the differences in processor time."""
        return statistics.median(difference.cpu for difference in self.differences)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The quartiles of the differences in wall time."""
        walls = sorted(difference.wall for difference in self.differences)
        if len(walls) < 2:
            return walls[0], walls[0]
        low, _, high = statistics.quantiles(walls, n=4, method="inclusive")
        return low, high

    @property
    def ratio(self) -> float:
        """The median of the ratios in wall time."""
        return statistics.median(self.ratios)


BY_HAND, BY_HAND_AGAIN = "loop by hand", "loop by hand, repeated"
UNTIMED_LAST_BATCHES = 4  # at the end of each turn
TERMINAL_SECONDS = 5.0  # that drawn text may take to reach the other end of the terminal
BATCH_MULTIPLE = 8  # so that accumulation windows are full: not all trainers step for a shorter last one


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    """Return copies of the model's parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def raise_if_different(name: str, weights: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Compare the weights of two trainings.

    Raises:
        RuntimeError: They differ by more than rounding errors.
    """
    same = len(weights) == len(expected) and all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(weights, expected, strict=True)
    )
    if not same:
        raise RuntimeError(f"{name}: its final weights differ from those of the loop by hand, so it has not done the same work")


def _wait_until(condition: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true in time: another process reads the other end of the terminal."""
    deadline = time.monotonic() + TERMINAL_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def measure_in_turns(
    scenario: Scenario, *, batches: int, rounds: int, drawn: Callable[[], int] = lambda: 0, say: Callable[[str], None] = print
) -> list[ContestantResult]:
    """Return the results of a scenario's contestants: the loop by hand, its repetition, then the others.

    Args:
        scenario: What is trained.
        batches: Batches that are measured in each turn. Half as many run before them: by then a thread that polls the run has
            polled it, and has as much work before it as at the end.
        rounds: Turns of each contestant, after one that is not counted.
        drawn: Returns the bytes written to the terminal so far.
        say: Called with a line of progress after each round.

    Raises:
        RuntimeError: A contestant did not do the same work, or did not draw although it should.
    """
    contestants = [Contestant(BY_HAND, scenario.by_hand), *scenario.others, Contestant(BY_HAND_AGAIN, scenario.by_hand)]
    measured = {contestant.name: ContestantResult(contestant.name) for contestant in contestants}
    batches = max(round(batches * scenario.times / BATCH_MULTIPLE), 1) * BATCH_MULTIPLE
    first = batches // 2
    data = scenario.batches(first + batches + UNTIMED_LAST_BATCHES)
    expected: list[torch.Tensor] = []

    def turn(contestant: Contestant) -> Times:
        loader = scenario.loader(data, timed := TimedRange(first, first + batches))
        before = drawn()
        gc.collect()
        weights = weights_of(contestant.train(loader))
        expected.extend(weights if not expected else [])
        raise_if_different(f"{scenario.name}, {contestant.name}", weights, expected)
        if contestant.draws and not _wait_until(lambda: drawn() > before):
            raise RuntimeError(f"{scenario.name}, {contestant.name}: it has written nothing to the terminal")
        return timed.per_batch

    for contestant in contestants:
        turn(contestant)
    gc.collect()
    gc.freeze()  # what exists by now costs the collector nothing in any turn
    try:
        for number in range(rounds):
            costs = {c.name: turn(c) for c in (contestants if number % 2 == 0 else reversed(contestants))}
            for name, cost in costs.items():
                measured[name].turns.append(cost)
                measured[name].differences.append(cost - costs[BY_HAND])
                measured[name].ratios.append(cost.wall / costs[BY_HAND].wall)
            say(f"{scenario.name}: round {number + 1} of {rounds}")
    finally:
        gc.unfreeze()
    by_hand, *others, again = measured.values()
    return [by_hand, again, *others]
