"""What it costs to show and to record a run: a small training with everything off, and with one thing after the other on.

    python -m benchmarks.recording

The processor's time is counted too, of all threads, so that what the writing threads do is in it.
"""

from __future__ import annotations

import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

import torch

from benchmarks import by_hand, tables
from benchmarks.batches import Stretch, batches_of, in_memory
from benchmarks.models import Logging
from benchmarks.ours import trains, trains_by_default
from benchmarks.terminal import terminal
from benchmarks.turns import Contestant, Scenario, measure
from fsmtrain import Options
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.sizes import Sizes
from fsmtrain.loop import Loop


class Logger:
    """A logger that throws everything away."""

    def log_metrics(self, metrics: Any, step: int) -> None:
        """Nothing."""


def contestants(folder: Path) -> list[Contestant]:
    """Machines that show or record what they do."""
    recorded: dict[str, Any] = {"runs_dir": folder / "runs"}
    return [
        Contestant("... with the bar and the tables", trains(quiet=False), draws=True),
        Contestant("... recorded in a folder", trains(**recorded)),
        Contestant("... recorded, that logs a metric", trains(Logging, **recorded)),
        Contestant("... with a logger, that logs a metric", trains(Logging, logger=Logger())),
        Contestant("all defaults", trains_by_default(), draws=True),
        Contestant("all defaults, that logs a metric", trains_by_default(Logging), draws=True),
    ]


def clock_nanoseconds() -> float:
    """What a transition pays for the clock by state."""
    code = "last = 0; now = clock(); node.nanoseconds += now - last; node.visits += 1; last = now"
    loop = Loop(Options(), Sizes(train=1))
    node = Dispatcher(loop.table, loop.limits, Counters(), Signals(), {})._node
    scope = {"clock": time.perf_counter_ns, "node": node}
    return min(timeit.repeat(code, globals=scope, number=100_000, repeat=5)) / 100_000 * 1e9


def lines(*, batches: int) -> list[str]:
    """What is not measured in turns."""
    with tempfile.TemporaryDirectory() as name:
        trains(Logging, runs_dir=name)(in_memory(batches_of(batches), Stretch(0, batches)))
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    return [
        f"  the clock by state: {clock_nanoseconds() / 1e3:.3f} µs a transition",
        f"  the folder of {batches:,} batches, each with a metric: {size / 1e6:.2f} MB",
    ]


def main() -> None:
    """Measure, and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, terminal() as drawn:
        others = [Contestant("bare", trains()), *contestants(Path(name))]
        scenario = Scenario("showing and recording", by_hand.plain, others, batches_of, in_memory)
        found = measure(scenario, batches=5000, rounds=5, drawn=drawn, say=lambda _: None)
    print("\n".join([*tables.of_turns(scenario.name, found), *lines(batches=20_000)]))


if __name__ == "__main__":
    main()
