"""The cost of the dispatcher by itself, with actions that do nothing, and of the same as a machine of ``transitions``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field

from benchmarks.trainings.by_hand import VALIDATION_INTERVAL, WINDOW
from benchmarks.trainings.models import SEQUENCE_LENGTH, SPLIT_LENGTH
from fsmtrain import Guards, Options, Sizes, every_n_batches
from fsmtrain.adapters.transitions import as_transitions
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.loop import Loop

SPLITS = -(-SEQUENCE_LENGTH // SPLIT_LENGTH)


def noop() -> None:
    """Do nothing."""


def make_loop(batches: int, *, epochs: int = 1, guards: Guards | None = None, sizes: Any = None, **flags: Any) -> Loop:
    """Return a loop with this many batches an epoch."""
    options = Options(max_nb_epochs=epochs, nb_sanity_val_steps=0, **flags)
    return Loop(options, Sizes(train=batches, **(sizes or {})), guards=guards or Guards())


def idle_run(loop: Loop) -> Dispatcher:
    """Return a run whose actions do nothing."""
    counters, signals = Counters.begin(loop.limits.optimizers), Signals(splits=loop.spec.splits)
    return Dispatcher(loop.table, loop.limits, counters, signals, dict.fromkeys(loop.table.states, noop))


CONFIGURATIONS: dict[str, Callable[[int], Loop]] = {
    "a step for each batch": lambda batches: make_loop(batches),
    f"windows of {WINDOW}": lambda batches: make_loop(batches, accumulate_grad_batches=WINDOW),
    "two optimizers": lambda batches: make_loop(batches, sizes={"optimizers": 2}),
    f"truncated BPTT, {SPLITS} splits a batch": lambda batches: make_loop(
        batches, sizes={"splits": SPLITS}, truncated_bptt_steps=SPLIT_LENGTH
    ),
    f"2 val batches every {VALIDATION_INTERVAL}": lambda batches: make_loop(
        batches, sizes={"val": [2]}, val_check_interval=VALIDATION_INTERVAL
    ),
    "a step guard": lambda batches: make_loop(batches, guards=Guards(step={0: every_n_batches(WINDOW)})),
}


@define
class DispatcherCost:
    """The cost of a configuration, and the size of its table."""

    name: str
    rows: int
    states: int
    transitions: float  # per batch
    rounds: list[float] = field(factory=list)  # ns of processor time per batch

    @property
    def nanoseconds(self) -> float:
        """The median, per batch."""
        return statistics.median(self.rounds)


def nanoseconds(run: Callable[[], object], batches: int) -> float:
    """Return the processor time of a run, per batch."""
    start = time.process_time_ns()
    run()
    return (time.process_time_ns() - start) / batches


def measure_dispatcher(*, batches: int, rounds: int) -> list[DispatcherCost]:
    """Return the cost of each configuration, measured in turns."""
    costs: list[DispatcherCost] = []
    for name, make in CONFIGURATIONS.items():
        loop = make(100)
        idle_run(loop).run()
        (run := idle_run(loop)).run()
        costs.append(DispatcherCost(name, len(loop.table), len(loop.table.states), run.trace.total / 100))
    for _ in range(rounds):
        for cost in costs:
            cost.rounds.append(nanoseconds(idle_run(CONFIGURATIONS[cost.name](batches)).run, batches))
    return costs


def by_transitions(*, batches: int, rounds: int) -> float:
    """Return ns a batch of a machine of the library ``transitions`` that steps at each batch."""
    machines = [as_transitions(idle_run(make_loop(batches))) for _ in range(rounds)]
    return statistics.median(nanoseconds(machine.model.run, batches) for machine in machines)


def lines(costs: Sequence[DispatcherCost], transitions_ns: float) -> list[str]:
    """Return the table."""
    head = f"{'µs a batch':>10}{'min':>9}{'max':>9}{'transitions':>13}{'rows':>6}{'states':>8}"
    text = ["", f"{'dispatcher without any work':<40}{head}"]
    for cost in costs:
        times = f"{cost.nanoseconds / 1e3:>10.2f}{min(cost.rounds) / 1e3:>9.2f}{max(cost.rounds) / 1e3:>9.2f}"
        text.append(f"  {cost.name:<38}{times}{cost.transitions:>13.1f}{cost.rows:>6}{cost.states:>8}")
    return [*text, f"  {'a step for each batch, by transitions':<38}{transitions_ns / 1e3:>10.2f}"]
