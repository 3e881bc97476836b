"""Goals: how much fsmtrain may cost, and how much it does. The last table of a run of the benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from attrs import define, field

from benchmarks.harness.compare import ContestantResult
from benchmarks.measurements.checkpointing import SavingCost
from benchmarks.measurements.dispatcher import DispatcherCost
from benchmarks.measurements.saving_thread import SavingThread, torch_save_ratio
from benchmarks.measurements.startup import ProcessTimes as Started
from benchmarks.trainings.with_fsmtrain import BARE_NAME, DEFAULT_NAME


@define
class Results:
    """The results of all parts; empty if a part was not measured."""

    turns: dict[str, list[ContestantResult]] = field(factory=dict)
    dispatcher: Sequence[DispatcherCost] = ()
    startup: Mapping[str, Sequence[Started]] = field(factory=dict)
    saving: Sequence[SavingCost] = ()
    saving_thread: SavingThread | None = None


def goals(results: Results) -> Iterator[tuple[str, float, float]]:
    """Yield the name of each goal, its limit and the measured value."""
    if results.dispatcher:
        yield "dispatcher without any work, µs a batch", 2.0, results.dispatcher[0].nanoseconds / 1e3
    for part, name, limit in (("plain", BARE_NAME, 5.0), ("defaults", DEFAULT_NAME, 15.0)):
        for result in results.turns.get(part, ()):
            if result.name == name:
                yield f"added to a batch, {name}, µs", limit, result.added
                yield "    in processor time of all threads", limit, result.added_cpu
    if results.startup:
        yield "import after torch, ms", 150.0, statistics.median(times["import"] for times in results.startup["fsmtrain"]) * 1e3
    if results.saving:
        yield "saving every 50 batches, %", 2.0, (statistics.median(cost.wall_ratio for cost in results.saving) - 1) * 100
    if (measured := results.saving_thread) is not None:
        copying = statistics.median(one.save / one.copy for one in measured.large)
        yield "save of 5,000 tensors, % of torch.save", 50.0, torch_save_ratio(measured.small) * 100
        yield "save of large tensors, copies' time", 1.5, copying
        yield "memory of saving, copies of the state", 2.1, measured.copies


def lines(results: Results) -> list[str]:
    """Return the table."""
    rows = list(goals(results))
    head = [] if not rows else ["", f"{'goals':<42}{'at most':>10}{'measured':>10}"]
    return head + [
        f"  {name:<40}{limit:>10.1f}{value:>10.1f}  {'' if value <= limit else 'missed'}".rstrip()
        for name, limit, value in rows
    ]
