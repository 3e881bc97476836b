"""Whether cost and memory grow with the length of a run: with its batches, epochs or val batches.

The model of these runs does next to nothing, so that it hides no cost. `tests/laws/test_growth.py` tests the same by counts
instead of times.
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

from benchmarks.harness.timed_loaders import TimedRange, Times, read_clocks
from benchmarks.measurements.dispatcher import idle_run, make_loop
from benchmarks.measurements.fresh_process import resident
from benchmarks.trainings.with_fsmtrain import BARE
from fsmtrain import Machine, Options, TrainingModule, build

PROBES = 10  # in a run


class NullModel(TrainingModule):
    """A parameter that is its own loss, and is never stepped."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss."""
        return self.parameter

    def optimizer_step(self, *_: Any) -> None:
        """Do not step."""

    def configure_optimizers(self) -> Any:
        """Return an optimizer that is never used."""
        return optim.SGD(self.parameters(), lr=0.0)


class LoggingModel(NullModel):
    """Logs a metric at each batch."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the loss."""
        self.log("half", 0.5)
        return self.parameter


class LargeValOutputs(NullModel):
    """Returns a large output from each val batch, of which only a number is needed."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        """Return 100 kB and a number."""
        return {"val_loss": torch.zeros(()), "output": torch.zeros(25_000)}


@define
class ProbedLoader:
    """A loader that repeats one batch, and records time and memory at given batches of an epoch."""

    count: int
    probe_batches: list[int]
    probes: list[tuple[Times, int, int]] = field(factory=list)  # clocks, memory blocks of Python, resident bytes

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        done = 0
        for batch in self.probe_batches:
            for _ in range(batch - done):
                yield 0
            self.probes.append((read_clocks(), sys.getallocatedblocks(), resident()))
            done = batch
        for _ in range(self.count - done):
            yield 0

    def costs(self) -> list[float]:
        """Return microseconds of processor time per batch, between each two probes."""
        pairs = zip(self.probes, self.probes[1:], self.probe_batches, self.probe_batches[1:], strict=False)
        return [(b[0] - a[0]).microseconds_each(j - i).cpu for a, b, i, j in pairs]


def machine_of(model: nn.Module, loader: Any, **flags: Any) -> Machine:
    """Return a bare machine."""
    val = flags.pop("val", ())
    return build(Options(**{**BARE, **flags}), model, train_dataloader=loader, val_dataloaders=val)


def growth_over_batches(count: int, description: str, model: nn.Module, **flags: Any) -> list[str]:
    """Return lines about one epoch of many batches."""
    probe_batches = [count * i // PROBES for i in range(PROBES)] + [count]
    probe_batches[0] = count // 100  # the first batches warm up
    loader = ProbedLoader(count + 1, probe_batches)  # the last probe is when one more batch is requested
    machine = machine_of(model, loader, **flags)
    machine.run()
    (_, blocks, size), (_, blocks_after, size_after) = loader.probes[0], loader.probes[-1]
    costs = ", ".join(f"{cost:.2f}" for cost in loader.costs())
    return [
        f"  {count:,} batches {description}, µs a batch in each tenth: {costs}",
        f"    memory at the end, less that after {probe_batches[0]:,}: {blocks_after - blocks:+,} blocks of Python, "
        f"{(size_after - size) / 1e6:+.2f} MB of the process; the trace keeps {len(machine.trace):,} of "
        f"{machine.trace.total:,} transitions",
    ]


def growth_over_epochs(batches: int, epochs: int) -> list[str]:
    """Return a line about many epochs of a few batches."""
    first = batches // 10
    ranges: list[TimedRange] = []

    class Epochs:
        """A loader that times a range of each epoch."""

        def __len__(self) -> int:
            return batches + 1

        def __iter__(self) -> Iterator[int]:
            ranges.append(timed := TimedRange(first, batches))
            for number in range(batches + 1):
                if number in (first, batches):
                    timed.read()
                yield 0

    machine_of(NullModel(), Epochs(), max_nb_epochs=epochs, min_nb_epochs=1).run()
    costs = [timed.per_batch.cpu for timed in ranges]
    tenth = max(epochs // 10, 1)
    early, late = statistics.median(costs[1 : tenth + 1]), statistics.median(costs[-tenth:])
    return [f"  {epochs} epochs of {batches:,} batches, µs a batch: {early:.2f} in epochs 1 to {tenth}, {late:.2f} in the last"]


def growth_of_dispatcher(shortest: int, longest: int, rounds: int) -> list[str]:
    """Return lines about the dispatcher by itself: epochs of few to very many batches, and the same batches in more epochs."""
    lengths = [shortest]
    while lengths[-1] < longest:
        lengths.append(lengths[-1] * 10)
    by_length = []
    for length in lengths:
        costs = []
        for _ in range(rounds):
            runs = [idle_run(make_loop(length)) for _ in range(max(longest // 10 // length, 1))]
            start = read_clocks()
            for run in runs:
                run.run()
            costs.append((read_clocks() - start).microseconds_each(length * len(runs)).cpu)
        by_length.append(f"{length:,}: {statistics.median(costs):.2f}")
    by_epochs = []
    for count in (1, 10, 100):
        costs = []
        for _ in range(rounds):
            run = idle_run(make_loop(longest // 10 // count, epochs=count))
            start = read_clocks()
            run.run()
            costs.append((read_clocks() - start).microseconds_each(longest // 10).cpu)
        by_epochs.append(f"{count}: {statistics.median(costs):.2f}")
    return [
        f"  dispatcher without any work, µs a batch, by the batches of one epoch: {'; '.join(by_length)}",
        f"  the same for {longest // 10:,} batches, by the number of epochs: {'; '.join(by_epochs)}",
    ]


def growth_of_validation(count: int) -> list[str]:
    """Return a line about the peak memory of a validation of many batches whose outputs are only averaged."""
    peaks = []
    for number in (count // 10, count):
        machine = machine_of(LargeValOutputs(), range(1), val=range(number), val_check_interval=1)
        tracemalloc.start()
        before = resident()
        machine.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(f"{number:,}: {peak / 1e3:.0f} kB of Python, {(resident() - before) / 1e6:+.1f} MB of the process")
    return [f"  validation with outputs of 0.1 MB that are only averaged, by its val batches: {'; '.join(peaks)}"]


def lines(*, batches: int, rounds: int) -> list[str]:
    """Return the numbers of runs of up to this many batches."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            "",
            "growth",
            *growth_of_dispatcher(1000, batches, rounds),
            *growth_over_batches(batches, "of a model that does nothing", NullModel()),
            *growth_over_batches(
                batches // 4,
                "with a logged metric and a run folder, with records that wait to be written",
                LoggingModel(),
                runs_dir=folder,
            ),
            *growth_over_epochs(max(batches // 1000, 100), 100),
            *growth_of_validation(1000),
        ]
