"""Whether what fsmtrain adds grows with the length of a run: with its batches, its epochs, its val batches.

The model of these runs does next to nothing, so that nothing is hidden behind it. That no such thing grows is also a law, with
counts and not with times: tests/laws/test_growth.py.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from typing import Any

import torch
from attrs import define, field
from torch import nn, optim

from benchmarks.batches import Spent, Stretch, now
from benchmarks.dispatching import loop_of, run_of
from benchmarks.fresh import resident
from benchmarks.ours import BARE
from fsmtrain import Machine, Options, TrainingModule, build

MOMENTS = 10  # of a run, at which it is looked at


class Null(TrainingModule):
    """A parameter that is its own loss, and is never stepped."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        return self.parameter

    def optimizer_step(self, *_: Any) -> None:
        """Nothing."""

    def configure_optimizers(self) -> Any:
        """One, for form's sake."""
        return optim.SGD(self.parameters(), lr=0.0)


class Telling(Null):
    """Logs a metric at each batch."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        self.log("half", 0.5)
        return self.parameter


class Evaluated(Null):
    """Returns a big output from each val batch, of which only a number is needed."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        """100 kB and a number."""
        return {"val_loss": torch.zeros(()), "output": torch.zeros(25_000)}


@define
class Watched:
    """A loader of one batch again and again, which looks at its process at given batches of an epoch."""

    count: int
    looks: list[int]
    seen: list[tuple[Spent, int, int]] = field(factory=list)  # the moment, blocks of Python's memory, resident bytes

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        done = 0
        for look in self.looks:
            for _ in range(look - done):
                yield 0
            self.seen.append((now(), sys.getallocatedblocks(), resident()))
            done = look
        for _ in range(self.count - done):
            yield 0

    def costs(self) -> list[float]:
        """Microseconds of the processor a batch, from each look to the next."""
        pairs = zip(self.seen, self.seen[1:], self.looks, self.looks[1:], strict=False)
        return [(b[0] - a[0]).each(j - i).cpu for a, b, i, j in pairs]


def machine_of(model: nn.Module, loader: Any, **flags: Any) -> Machine:
    """A bare machine."""
    val = flags.pop("val", ())
    return build(Options(**{**BARE, **flags}), model, train_dataloader=loader, val_dataloaders=val)


def over_batches(count: int, what: str, model: nn.Module, **flags: Any) -> list[str]:
    """One epoch of many batches."""
    looks = [count * i // MOMENTS for i in range(MOMENTS)] + [count]
    looks[0] = count // 100  # the first ones warm up
    loader = Watched(count + 1, looks)  # the last look is when one batch more is asked for
    machine = machine_of(model, loader, **flags)
    machine.run()
    costs, (_, blocks, size), (_, blocks_then, size_then) = loader.costs(), loader.seen[0], loader.seen[-1]
    told = ", ".join(f"{cost:.2f}" for cost in costs)
    return [
        f"  {count:,} batches {what}, µs a batch in each tenth of them: {told}",
        f"    the memory after all, less that after {looks[0]:,}: {blocks_then - blocks:+,} blocks of Python's, "
        f"{(size_then - size) / 1e6:+.2f} MB of the process; the trace holds {len(machine.trace):,} of "
        f"{machine.trace.total:,} transitions",
    ]


def over_epochs(batches: int, epochs: int) -> list[str]:
    """Many epochs of a few batches."""
    first = batches // 10
    stretches: list[Stretch] = []

    class Epochs:
        """A loader with a stretch in each epoch."""

        def __len__(self) -> int:
            return batches + 1

        def __iter__(self) -> Iterator[int]:
            stretches.append(stretch := Stretch(first, batches))
            for number in range(batches + 1):
                if number in (first, batches):
                    stretch.read()
                yield 0

    machine_of(Null(), Epochs(), max_nb_epochs=epochs, min_nb_epochs=1).run()
    costs = [stretch.spent.cpu for stretch in stretches]
    tenth = max(epochs // 10, 1)
    early, late = statistics.median(costs[1 : tenth + 1]), statistics.median(costs[-tenth:])
    return [
        f"  {epochs} epochs of {batches:,} batches, µs a batch: {early:.2f} in epochs 1 to {tenth}, {late:.2f} in the last",
    ]


def of_the_machine(least: int, most: int, rounds: int) -> list[str]:
    """The dispatcher alone, from a few batches to very many, and the same batches in more epochs."""
    lengths = [least]
    while lengths[-1] < most:
        lengths.append(lengths[-1] * 10)
    told = []
    for length in lengths:
        costs = []
        for _ in range(rounds):
            runs = [run_of(loop_of(length)) for _ in range(max(most // 10 // length, 1))]
            begun = now()
            for run in runs:
                run.run()
            costs.append((now() - begun).each(length * len(runs)).cpu)
        told.append(f"{length:,}: {statistics.median(costs):.2f}")
    epochs = []
    for count in (1, 10, 100):
        costs = []
        for _ in range(rounds):
            run = run_of(loop_of(most // 10 // count, epochs=count))
            begun = now()
            run.run()
            costs.append((now() - begun).each(most // 10).cpu)
        epochs.append(f"{count}: {statistics.median(costs):.2f}")
    return [
        f"  the machine alone, µs a batch in one epoch of so many batches: {'; '.join(told)}",
        f"  the same for {most // 10:,} batches in so many epochs: {'; '.join(epochs)}",
    ]


def of_a_check(count: int) -> list[str]:
    """The most memory that a check of many val batches needs, where their outputs are only averaged."""
    peaks = []
    for number in (count // 10, count):
        machine = machine_of(Evaluated(), range(1), val=range(number), val_check_interval=1)
        tracemalloc.start()
        before = resident()
        machine.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(f"{number:,}: {peak / 1e3:.0f} kB of Python's, {(resident() - before) / 1e6:+.1f} MB of the process")
    return [f"  a check of so many val batches whose outputs of 0.1 MB are only averaged: {'; '.join(peaks)}"]


def lines(*, batches: int, rounds: int) -> list[str]:
    """The numbers, of runs of up to so many batches."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            "",
            "growth",
            *of_the_machine(1000, batches, rounds),
            *over_batches(batches, "of a model that does nothing", Null()),
            *over_batches(
                batches // 4,
                "of one that logs a metric, recorded; what waits to be written is in it",
                Telling(),
                runs_dir=folder,
            ),
            *over_epochs(max(batches // 1000, 100), 100),
            *of_a_check(1000),
        ]
