"""What a machine pays for saving all that it remembers: the same run with and without checkpoints, in turns.

A model of 2.5 million parameters with Adam, saved every 50 batches::

    python -m benchmarks.resuming [--rounds 7] [--batches 150]
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

from benchmarks.models import WIDTH, Wide
from benchmarks.ours import BARE
from fsmtrain import ModelCheckpoint, Options, build

EVERY = 50  # batches


def seconds(batches: int, folder: Path | None) -> tuple[float, float]:
    """What a run takes on the clock, and of the training thread's own time."""
    torch.manual_seed(0)
    data = [torch.randn(100, WIDTH)] * batches
    callbacks = [ModelCheckpoint(every_n_batches=EVERY, dirpath=folder)] if folder is not None else []
    machine = build(Options(**BARE), Wide(), train_dataloader=data, callbacks=callbacks)
    begin, own = time.perf_counter(), time.thread_time()
    machine.run()
    return time.perf_counter() - begin, time.thread_time() - own


@frozen
class Ratio:
    """What a run that saves takes, as a multiple of one that does not: on the clock, and of the training thread's own time."""

    clock: float
    own: float
    without: float  # milliseconds a batch, of the thread's own time


def measure(*, rounds: int, batches: int) -> list[Ratio]:
    """Runs with and without checkpoints in turns; which of the two is first changes.

    They go on for a while after the last save: a run does not end before its last checkpoint is written, which is once a run.
    """
    seconds(10, None)
    batches = batches // EVERY * EVERY + EVERY // 2
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoints"
        for number in range(rounds):
            order = (None, folder) if number % 2 == 0 else (folder, None)
            took = {where: seconds(batches, where) for where in order}
            (clock, own), (clock_saving, own_saving) = took[None], took[folder]
            found.append(Ratio(clock_saving / clock, own_saving / own, own / batches * 1e3))
    return found


def lines(found: Sequence[Ratio]) -> list[str]:
    """The table."""
    text = ["", f"2.5 million parameters, Adam, saved every {EVERY} batches"]
    text += [
        f"  {r.without:5.1f} ms a batch; x {r.clock:.4f} on the clock, x {r.own:.4f} in the thread's own time" for r in found
    ]
    clock, own = statistics.median(r.clock for r in found), statistics.median(r.own for r in found)
    return [*text, f"  median: x {clock:.4f} on the clock, x {own:.4f} in the training thread's own time"]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("\n".join(lines(measure(rounds=options.rounds, batches=options.batches))))


if __name__ == "__main__":
    main()
