"""The cost of the checkpoint writer by itself, in a hand-written loop with and without it.

The model has 2.5 million parameters and Adam, and is saved every 50 batches. Loops with and without saving take turns, so that
other load on the computer affects both::

    python -m benchmarks.measurements.checkpoint_writer [--rounds 5] [--batches 200]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from benchmarks.trainings.models import WIDTH, WideModel
from fsmtrain.runtime.checkpoint_files.codec.codec import encode_unnamed
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.snapshots import Snapshot, take_snapshot
from fsmtrain.runtime.checkpointing.save_top_k import keep_newest

SAVE_INTERVAL = 50  # batches


class Training:
    """A model whose batches take about 20 ms, with its optimizer."""

    def __init__(self, batch_size: int) -> None:
        self.model = WideModel()
        self.optimizer = self.model.configure_optimizers()
        self.batch = torch.randn(batch_size, WIDTH)

    def step(self) -> None:
        """Train one batch."""
        self.optimizer.zero_grad()
        loss = self.model.training_step(self.batch, 0)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, object]:
        """Return what is saved."""
        return {"model": self.model.state_dict(), "optimizers": [self.optimizer.state_dict()]}


def timed(training: Training, batches: int, writer: BackgroundWriter | None) -> tuple[float, float, float]:
    """Return wall time, processor time of the training thread, and the part of it in `submit`, in seconds."""
    submitting = 0.0
    wall, thread = time.perf_counter(), time.thread_time()
    for number in range(batches):
        training.step()
        if writer is not None and number % SAVE_INTERVAL == SAVE_INTERVAL - 1:
            before = time.thread_time()
            writer.submit(training.state(), {"batch": number})
            submitting += time.thread_time() - before
    return time.perf_counter() - wall, time.thread_time() - thread, submitting


def print_parts(training: Training, folder: Path) -> None:
    """Print the cost of each part of a save, in milliseconds of processor time."""
    store = Store(folder)
    taken: Snapshot | None = None
    for _ in range(4):
        marks = [time.process_time()]
        state = training.state()
        encode_unnamed(state)
        marks.append(time.process_time())
        fresh = take_snapshot(encode_unnamed(state), {})
        marks.append(time.process_time())
        taken = take_snapshot(encode_unnamed(state), {}, spare=taken.spare_memory() if taken is not None else None)
        marks.append(time.process_time())
        store.write(fresh.named(), fresh.metadata)
        marks.append(time.process_time())
        store.load_newest()
        marks.append(time.process_time())
    names = ("encode", "copy into fresh memory", "copy into used memory", "write", "load")
    for name, begin, end in zip(names, marks, marks[1:], strict=False):
        print(f"  {name:24}{(end - begin) * 1e3:7.1f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = Training(options.batch_size)
    count = sum(parameter.numel() for parameter in training.model.parameters())
    print(f"{count / 1e6:.1f} million parameters, {options.threads} threads, saved every {SAVE_INTERVAL} batches")
    timed(training, 20, None)
    wall_ratios, thread_ratios, shares = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        print_parts(training, Path(folder) / "parts")
        for _ in range(options.rounds):
            wall, thread, _ = timed(training, options.batches, None)
            with closing(BackgroundWriter(Store(Path(folder) / "runs"), keep_newest(2))) as writer:
                saving_wall, saving_thread, submitting = timed(training, options.batches, writer)
            wall_ratios.append(saving_wall / wall)
            thread_ratios.append(saving_thread / thread)
            shares.append(submitting / saving_thread)
            print(
                f"  {thread / options.batches * 1e3:5.1f} ms a batch; saving: x {wall_ratios[-1]:.4f} in wall time, "
                f"x {thread_ratios[-1]:.4f} in the training thread, {shares[-1]:.2%} of it in submit"
            )
    wall, thread, share = map(statistics.median, (wall_ratios, thread_ratios, shares))
    print(f"median: x {wall:.4f} in wall time, x {thread:.4f} in the training thread, {share:.2%} of it in submit")


if __name__ == "__main__":
    main()
