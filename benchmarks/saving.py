"""What saving costs a run: the same training with and without checkpoints, side by side.

A model of 2.5 million parameters with Adam is saved every 50 batches. Runs with and without saving take turns, so that
what else the machine does falls on both::

    python -m benchmarks.saving [--rounds 5] [--batches 200]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.models import WIDTH, Wide
from fsmtrain.runtime.checkpoint_files.codec.codec import encode
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.durable_store import Store
from fsmtrain.runtime.checkpoint_files.store.retention import keep_newest
from fsmtrain.runtime.checkpoint_files.store.snapshots import Snapshot, take_snapshot

EVERY = 50  # batches


class Training:
    """A model whose batches take about 20 ms, and all that a run of it would save."""

    def __init__(self, batch_size: int) -> None:
        self.model = Wide()
        self.optimizer = self.model.configure_optimizers()
        self.batch = torch.randn(batch_size, WIDTH)

    def step(self) -> None:
        """One batch."""
        self.optimizer.zero_grad()
        loss = self.model.training_step(self.batch, 0)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, object]:
        """What is saved."""
        return {"model": self.model.state_dict(), "optimizers": [self.optimizer.state_dict()]}


def timed(training: Training, batches: int, writer: BackgroundWriter | None) -> tuple[float, float, float]:
    """Seconds of these batches: on the clock; of the training thread's own time; and those of `submit` among the latter."""
    submitting = 0.0
    begin, own = time.perf_counter(), time.thread_time()
    for number in range(batches):
        training.step()
        if writer is not None and number % EVERY == EVERY - 1:
            before = time.thread_time()
            writer.submit(training.state(), {"batch": number})
            submitting += time.thread_time() - before
    return time.perf_counter() - begin, time.thread_time() - own, submitting


def parts(training: Training, folder: Path) -> None:
    """The cost of each part by itself, in milliseconds of this process' time."""
    store = Store(folder)
    taken: Snapshot | None = None
    for _ in range(4):
        marks = [time.process_time()]
        state = training.state()
        encode(state)
        marks.append(time.process_time())
        fresh = take_snapshot(state, {})
        marks.append(time.process_time())
        taken = take_snapshot(state, {}, reuse=taken)
        marks.append(time.process_time())
        store.write(fresh.encoded, fresh.metadata)
        marks.append(time.process_time())
        store.load_newest()
        marks.append(time.process_time())
    names = ("encode", "copy into fresh memory", "copy into used memory", "write", "load")
    for name, begin, end in zip(names, marks, marks[1:], strict=False):
        print(f"  {name:24}{(end - begin) * 1e3:7.1f} ms")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = Training(options.batch_size)
    count = sum(parameter.numel() for parameter in training.model.parameters())
    print(f"{count / 1e6:.1f} million parameters, {options.threads} threads, saved every {EVERY} batches")
    timed(training, 20, None)
    ratios, own_ratios, shares = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        parts(training, Path(folder) / "parts")
        for _ in range(options.rounds):
            without, own_without, _ = timed(training, options.batches, None)
            with BackgroundWriter(Store(Path(folder) / "runs"), keep_newest(2)) as writer:
                seconds, own, submitting = timed(training, options.batches, writer)
            ratios.append(seconds / without)
            own_ratios.append(own / own_without)
            shares.append(submitting / own)
            print(
                f"  {own_without / options.batches * 1e3:5.1f} ms a batch; with saving x {ratios[-1]:.4f} on the clock, "
                f"x {own_ratios[-1]:.4f} in the thread's own time, of which submit {shares[-1]:.2%}"
            )
    clock, own, share = map(statistics.median, (ratios, own_ratios, shares))
    print(f"median: x {clock:.4f} on the clock, x {own:.4f} in the thread's own time, of which submit {share:.2%}")


if __name__ == "__main__":
    main()
