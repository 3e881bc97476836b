"""What a machine pays for saving all that it remembers: the same run with and without checkpoints, in turns.

A model of 2.5 million parameters with Adam, saved every 50 batches::

    python benchmarks/resuming.py [--rounds 5] [--batches 100]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim

from fsmtrain import ModelCheckpoint, Options, TrainingModule, build

EVERY = 50  # batches


class Wide(TrainingModule):
    """A model whose batches take about 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(15):
            layers += [nn.Linear(400, 400), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(400, 10))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The loss."""
        return self.layers(batch).square().mean()

    def configure_optimizers(self) -> Any:
        """Adam."""
        return optim.Adam(self.parameters())


def seconds(batches: int, folder: Path | None) -> tuple[float, float]:
    """What a run takes on the clock, and of the training thread's own time."""
    torch.manual_seed(0)
    data = [torch.randn(100, 400)] * batches
    callbacks = [ModelCheckpoint(every_n_batches=EVERY, dirpath=folder)] if folder is not None else []
    machine = build(
        Options(max_nb_epochs=1, progress_bar=False, device="cpu"), Wide(), train_dataloader=data, callbacks=callbacks
    )
    begin, own = time.perf_counter(), time.thread_time()
    machine.run()
    return time.perf_counter() - begin, time.thread_time() - own


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds(10, None)
    ratios: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            without = seconds(options.batches, None)
            saving = seconds(options.batches, Path(folder) / "checkpoints")
            ratios.append((saving[0] / without[0], saving[1] / without[1]))
            clock, own = ratios[-1]
            print(f"  {without[1] / options.batches * 1e3:5.1f} ms a batch; x {clock:.4f} on the clock, x {own:.4f}")
    clock, own = (statistics.median(ratio[i] for ratio in ratios) for i in (0, 1))
    print(f"median: x {clock:.4f} on the clock, x {own:.4f} in the training thread's own time")


if __name__ == "__main__":
    main()
