"""What it costs to record and to show a run: a small training with everything off, and with one thing after the other on.

    python -m benchmarks.recording

The processor's time is counted, of all threads, so that what the writing threads do is in it. The smallest of several rounds
counts, and the variants take turns, so that a busy machine does not favour one of them.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
import time
import timeit
from typing import Any

import torch
from torch.nn.functional import mse_loss

from fsmtrain import Options, TrainingModule, build
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatch import Dispatcher
from fsmtrain.core.loop import Loop
from fsmtrain.core.sizes import Sizes

BATCHES, ROUNDS = 20_000, 5


class Model(TrainingModule):
    """A linear layer that returns its loss and one metric."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(32, 2)

    def training_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
        """A loss, to be shown, and a second metric."""
        loss = mse_loss(self.layer(batch), batch[:, :2])
        return {"loss": loss, "progress_bar": {"loss": loss}, "log": {"half": 0.5}}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Batches:
    """The same batch again and again."""

    def __init__(self) -> None:
        self.batch = torch.randn(1, 32)

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Any:
        return (self.batch for _ in range(BATCHES))


def microseconds(**flags: Any) -> float:
    """The processor's time for a batch, of all threads of this process."""
    options = Options(max_nb_epochs=1, device="cpu", **flags)
    machine = build(options, Model(), train_dataloader=Batches())
    begun = time.process_time()
    machine.run()
    return (time.process_time() - begun) / BATCHES * 1e6


def clock_nanoseconds() -> float:
    """What a transition pays for the clock by state."""
    code = "last = 0; now = clock(); node.nanoseconds += now - last; node.visits += 1; last = now"
    loop = Loop(Options(), Sizes(train=1))
    node = Dispatcher(loop.table, loop.limits, Counters(), Signals(), {})._node
    scope = {"clock": time.perf_counter_ns, "node": node}
    return min(timeit.repeat(code, globals=scope, number=100_000, repeat=5)) / 100_000 * 1e9


def main() -> None:
    """Measure, and print."""
    torch.set_num_threads(1)
    master, slave = pty.openpty()
    reader = subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL)  # the terminal is somebody else's work
    before, terminal = sys.stderr, os.fdopen(slave, "w")
    sys.stderr = terminal
    nothing = {"quiet": True, "runs_dir": None}
    try:
        with tempfile.TemporaryDirectory() as folder:
            variants: dict[str, dict[str, Any]] = {
                "everything off": nothing,
                "the bar, the opening, the table": {"runs_dir": None},
                "the run's folder": {"quiet": True, "runs_dir": folder},
                "everything on": {"runs_dir": folder},
            }
            best = dict.fromkeys(variants, float("inf"))
            for _ in range(ROUNDS):
                for name, flags in variants.items():
                    best[name] = min(best[name], microseconds(**flags))
            size = sum(os.path.getsize(entry.path) for entry in os.scandir(os.path.join(folder, "0")))
    finally:
        sys.stderr = before
        reader.terminate()
    off = best["everything off"]
    for name, cost in best.items():
        print(f"{name:<34} {cost:7.1f} µs a batch   {cost - off:+6.1f}   x {cost / off:.3f}")
    print(f"the clock by state                 {clock_nanoseconds() / 1e3:7.3f} µs a transition")
    print(f"the folder of {BATCHES:,} batches      {size / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
