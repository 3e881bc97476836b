"""The cost of the progress bar, the run folder and loggers: a small training with one of them on at a time.

    python -m benchmarks.measurements.recording

Processor time of all threads is measured too, so it includes the threads that draw and write.
"""

from __future__ import annotations

import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import tables
from benchmarks.harness.compare import Contestant, Scenario, measure_in_turns
from benchmarks.harness.pseudo_terminal import terminal
from benchmarks.harness.timed_loaders import TimedRange, in_memory, make_batches
from benchmarks.trainings import by_hand
from benchmarks.trainings.models import LoggedLoss
from benchmarks.trainings.with_fsmtrain import train_bare, train_with_defaults
from fsmtrain import Options
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.sizes import Sizes
from fsmtrain.loop import Loop


class Logger:
    """A logger that discards everything."""

    def log_metrics(self, metrics: Any, step: int) -> None:
        """Do nothing."""


def contestants(folder: Path) -> list[Contestant]:
    """Return machines with a progress bar, a run folder or a logger."""
    recorded: dict[str, Any] = {"runs_dir": folder / "runs"}
    return [
        Contestant("... with bar and summaries", train_bare(quiet=False), draws=True),
        Contestant("... with a run folder", train_bare(**recorded)),
        Contestant("... with a run folder, logging", train_bare(LoggedLoss, **recorded)),
        Contestant("... with a logger, logging", train_bare(LoggedLoss, logger=Logger())),
        Contestant("all defaults", train_with_defaults(), draws=True),
        Contestant("all defaults, logging", train_with_defaults(LoggedLoss), draws=True),
    ]


def clock_nanoseconds() -> float:
    """Return what a transition pays for the time by state."""
    code = "last = 0; now = clock(); node.nanoseconds += now - last; node.visits += 1; last = now"
    loop = Loop(Options(), Sizes(train=1))
    node = Dispatcher(loop.table, loop.limits, Counters(), Signals(), {})._node
    scope = {"clock": time.perf_counter_ns, "node": node}
    return min(timeit.repeat(code, globals=scope, number=100_000, repeat=5)) / 100_000 * 1e9


def lines(*, batches: int) -> list[str]:
    """Return what is not measured in turns: the clock and the size of a run folder."""
    with tempfile.TemporaryDirectory() as name:
        train_bare(LoggedLoss, runs_dir=name)(in_memory(make_batches(batches), TimedRange(0, batches)))
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    return [
        f"  time by state: {clock_nanoseconds() / 1e3:.3f} µs a transition",
        f"  run folder of {batches:,} batches with a metric each: {size / 1e6:.2f} MB",
    ]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, terminal() as drawn:
        others = [Contestant("bare", train_bare()), *contestants(Path(name))]
        scenario = Scenario("showing and recording", by_hand.plain, others, make_batches, in_memory)
        results = measure_in_turns(scenario, batches=5000, rounds=5, drawn=drawn, say=lambda _: None)
    print("\n".join([*tables.comparison_table(scenario.name, results), *lines(batches=20_000)]))


if __name__ == "__main__":
    main()
