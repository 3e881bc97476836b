"""The cost of checkpoints in a run: the same run with and without them, in turns.

The model has 2.5 million parameters and Adam, and is saved every 50 batches::

    python -m benchmarks.measurements.checkpointing [--rounds 7] [--batches 150]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from attrs import frozen

from benchmarks.trainings.models import WIDTH, WideModel
from benchmarks.trainings.with_fsmtrain import BARE
from fsmtrain import ModelCheckpoint, Options, build

SAVE_INTERVAL = 50  # batches


def seconds(batches: int, folder: Path | None) -> tuple[float, float]:
    """Return the wall time of a run, and the processor time of its training thread."""
    torch.manual_seed(0)
    data = [torch.randn(100, WIDTH)] * batches
    callbacks = [ModelCheckpoint(every_n_batches=SAVE_INTERVAL, dirpath=folder)] if folder is not None else []
    machine = build(Options(**BARE), WideModel(), train_dataloader=data, callbacks=callbacks)
    wall, thread = time.perf_counter(), time.thread_time()
    machine.run()
    return time.perf_counter() - wall, time.thread_time() - thread


@frozen
class SavingCost:
    """The time of a run with checkpoints, as a multiple of one without."""

    wall_ratio: float
    thread_ratio: float  # of the processor time of the training thread
    thread_ms: float  # per batch, without checkpoints


def measure(*, rounds: int, batches: int) -> list[SavingCost]:
    """Return the cost of each round: a run with and one without checkpoints, in alternating order.

    A run continues for a while after its last save: it waits for its last checkpoint, which is a cost once a run.
    """
    seconds(10, None)
    batches = batches // SAVE_INTERVAL * SAVE_INTERVAL + SAVE_INTERVAL // 2
    costs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoints"
        for number in range(rounds):
            order = (None, folder) if number % 2 == 0 else (folder, None)
            times = {dirpath: seconds(batches, dirpath) for dirpath in order}
            (wall, thread), (saving_wall, saving_thread) = times[None], times[folder]
            costs.append(SavingCost(saving_wall / wall, saving_thread / thread, thread / batches * 1e3))
    return costs


def lines(costs: Sequence[SavingCost]) -> list[str]:
    """Return the table."""
    text = ["", f"2.5 million parameters, Adam, saved every {SAVE_INTERVAL} batches"]
    text += [
        f"  {c.thread_ms:5.1f} ms a batch; x {c.wall_ratio:.4f} in wall time, x {c.thread_ratio:.4f} in the training thread"
        for c in costs
    ]
    wall, thread = statistics.median(c.wall_ratio for c in costs), statistics.median(c.thread_ratio for c in costs)
    return [*text, f"  median: x {wall:.4f} in wall time, x {thread:.4f} in the training thread"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("\n".join(lines(measure(rounds=options.rounds, batches=options.batches))))


if __name__ == "__main__":
    main()
