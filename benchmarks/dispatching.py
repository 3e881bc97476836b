"""The machine alone: the folded table and its dispatcher with actions that do nothing, for many batches.

And the same rows as a machine of the package ``transitions``, where that is installed: as it is with the package itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field

from benchmarks.by_hand import EVERY, WINDOW
from benchmarks.models import SPLIT, TIME
from fsmtrain import Guards, Options, Sizes, every_n_batches
from fsmtrain.adapters.transitions import as_transitions
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.loop import Loop

SPLITS = -(-TIME // SPLIT)


def nothing() -> None:
    """An action."""


def loop_of(batches: int, *, epochs: int = 1, guards: Guards | None = None, sizes: Any = None, **flags: Any) -> Loop:
    """A loop of so many batches an epoch."""
    options = Options(max_nb_epochs=epochs, nb_sanity_val_steps=0, **flags)
    return Loop(options, Sizes(train=batches, **(sizes or {})), guards=guards or Guards())


def run_of(loop: Loop) -> Dispatcher:
    """A run of it whose every state has an action that does nothing."""
    counters, signals = Counters.begin(loop.limits.optimizers), Signals(splits=loop.spec.splits)
    return Dispatcher(loop.table, loop.limits, counters, signals, dict.fromkeys(loop.table.states, nothing))


CONFIGURATIONS: dict[str, Callable[[int], Loop]] = {
    "a step for each batch": lambda batches: loop_of(batches),
    f"windows of {WINDOW}": lambda batches: loop_of(batches, accumulate_grad_batches=WINDOW),
    "two optimizers": lambda batches: loop_of(batches, sizes={"optimizers": 2}),
    f"truncated BPTT, {SPLITS} splits a batch": lambda batches: loop_of(
        batches, sizes={"splits": SPLITS}, truncated_bptt_steps=SPLIT
    ),
    f"2 val batches every {EVERY}": lambda batches: loop_of(batches, sizes={"val": [2]}, val_check_interval=EVERY),
    "a guard for the steps": lambda batches: loop_of(batches, guards=Guards(step={0: every_n_batches(WINDOW)})),
}


@define
class Alone:
    """What a configuration has cost by itself: nanoseconds of the processor a batch, and the size of its table."""

    name: str
    rows: int
    states: int
    transitions: float  # a batch
    batches: list[float] = field(factory=list)  # ns a batch, of each round

    @property
    def nanoseconds(self) -> float:
        """The median, a batch."""
        return statistics.median(self.batches)


def nanoseconds(run: Callable[[], object], batches: int) -> float:
    """What a run costs a batch, of the processor's time."""
    begun = time.process_time_ns()
    run()
    return (time.process_time_ns() - begun) / batches


def alone(*, batches: int, rounds: int) -> list[Alone]:
    """Each configuration by our own dispatcher, in turns."""
    found: list[Alone] = []
    for name, make in CONFIGURATIONS.items():
        loop = make(100)
        run_of(loop).run()
        (run := run_of(loop)).run()
        found.append(Alone(name, len(loop.table), len(loop.table.states), run.trace.total / 100))
    for _ in range(rounds):
        for one in found:
            one.batches.append(nanoseconds(run_of(CONFIGURATIONS[one.name](batches)).run, batches))
    return found


def by_transitions(*, batches: int, rounds: int) -> float:
    """A step for each batch by the package ``transitions``: ns a batch."""
    machines = [as_transitions(run_of(loop_of(batches))) for _ in range(rounds)]
    return statistics.median(nanoseconds(machine.model.run, batches) for machine in machines)


def lines(found: Sequence[Alone], by_the_package: float) -> list[str]:
    """The table."""
    head = f"{'µs a batch':>10}{'least':>9}{'most':>9}{'transitions':>13}{'rows':>6}{'states':>8}"
    told = ["", f"{'the machine alone, actions do nothing':<40}{head}"]
    for one in found:
        cost = f"{one.nanoseconds / 1e3:>10.2f}{min(one.batches) / 1e3:>9.2f}{max(one.batches) / 1e3:>9.2f}"
        told.append(f"  {one.name:<38}{cost}{one.transitions:>13.1f}{one.rows:>6}{one.states:>8}")
    return [*told, f"  {'the first, by the package transitions':<38}{by_the_package / 1e3:>10.2f}"]
