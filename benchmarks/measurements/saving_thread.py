"""How long a save holds the training thread, beside ``torch.save`` of the same state; and the memory that saves take.

The state `save` of a run is measured, up to where training goes on, and ``torch.save`` into a file, in turns in one process:
for thousands of small tensors, and for a few large ones, beside a copy of them::

    python -m benchmarks.measurements.saving_thread [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from benchmarks.trainings.with_fsmtrain import BARE
from fsmtrain import Machine, ModelCheckpoint, Options, State, TrainingModule, build
from fsmtrain.runtime.nested_tensors import iter_tensors

SMALL = 5_000  # tensors: a quarter of them parameters, with two tensors and a step of Adam each
LARGE = 192  # MiB in all


class AllParameters(TrainingModule):
    """Parameters that are all trained, as cheaply as can be."""

    def __init__(self, count: int, elements: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.zeros(elements) for _ in range(count)])

    def training_step(self, batch: Tensor, batch_nb: int) -> Any:
        return torch.stack([weight.sum() for weight in self.weights]).sum() * batch

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def small_tensors() -> AllParameters:
    """Return a model whose state has 5,000 tensors of 64 elements or one."""
    return AllParameters(SMALL // 4, 64)


def large_tensors() -> AllParameters:
    """Return a model whose state has four parameters, each of 16 MiB, twice as much for Adam, and steps."""
    return AllParameters(4, LARGE * 2**20 // 3 // 4 // 4)


@frozen
class HeldThread:
    """For how long the training thread was held, in seconds."""

    save: float
    torch_save: float
    copy: float  # of all tensors, into memory that has been used before


@frozen
class SavingThread:
    """What was measured of small and of large tensors, and the memory, in copies of the state."""

    small: Sequence[HeldThread]
    large: Sequence[HeldThread]
    copies: float


def torch_save_ratio(held: Sequence[HeldThread]) -> float:
    """Return the median of a save's time as a multiple of ``torch.save``'s, which took its turn right before."""
    return statistics.median(one.save / one.torch_save for one in held)


def saving_run(model: Callable[[], nn.Module], batches: int, folder: Path) -> Machine:
    """Return a run that is saved after each batch."""
    checkpoint = ModelCheckpoint(every_n_batches=1, dirpath=folder)
    return build(Options(**BARE), model(), train_dataloader=[torch.ones(())] * batches, callbacks=[checkpoint])


def measure(model: Callable[[], nn.Module], *, rounds: int) -> Iterator[HeldThread]:
    """Yield what was measured at each save but the first two, whose memory is new. Nothing is written meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        machine = saving_run(model, rounds + 2, Path(name, "checkpoints"))
        memory: list[Tensor] = []
        saves = 0
        while not machine.state.is_final:
            if machine.state is not State.SAVE or saves > rounds + 1:
                machine.advance()
                continue
            if (writer := machine._checkpoints._writer) is not None:
                writer.wait()
            state = [machine.model.state_dict(), machine.optimizers[0].state_dict()]
            torch_save = _seconds(partial(torch.save, state, Path(name, "state.pt")))
            tensors = list(iter_tensors(state))
            memory = memory or [tensor.clone() for tensor in tensors]
            copy = _seconds(partial(torch._foreach_copy_, memory, [tensor.detach() for tensor in tensors]))
            del state, tensors
            save = _seconds(machine.advance)
            saves += 1
            if saves > 2:
                yield HeldThread(save, torch_save, copy)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def peak_copies() -> float:
    """Return how much more memory a run takes if it is saved as often as it can be, in copies of its state of 192 MiB.

    This is measured in a process of its own, in which freed memory goes back to the system, so that its peak has no gaps.
    """
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--peak"]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def _peak_of_this_process() -> float:
    with tempfile.TemporaryDirectory() as name:
        machine = saving_run(large_tensors, 12, Path(name, "checkpoints"))
        while machine.state is not State.SAVE:
            machine.advance()
        before = _peak_bytes()
        machine.run()
        return (_peak_bytes() - before) / (LARGE * 2**20)


def _peak_bytes() -> int:
    """Return the peak of this process. Linux's ``ru_maxrss`` is no less than that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_both(*, rounds: int) -> SavingThread:
    """Measure both models, and the memory."""
    small, large = (list(measure(model, rounds=rounds)) for model in (small_tensors, large_tensors))
    return SavingThread(small, large, peak_copies())


def lines(measured: SavingThread) -> list[str]:
    """Return the table."""
    text = ["", "a save holds the training thread for, in ms            save  torch.save        copy   of torch.save"]
    for name, held in ((f"{SMALL:,} small tensors", measured.small), (f"{LARGE} MiB in large tensors", measured.large)):
        save, torch_save, copy = (statistics.median(getattr(h, f) for h in held) * 1e3 for f in ("save", "torch_save", "copy"))
        text.append(f"  {name:<46}{save:>10.1f}{torch_save:>12.1f}{copy:>12.1f}{torch_save_ratio(held):>14.2f}")
    return [*text, f"  saved as often as can be, a run takes the memory of {measured.copies:.2f} copies of its state more"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", action="store_true", help="measure only the memory, of this process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(_peak_of_this_process())
    else:
        print("\n".join(lines(measure_both(rounds=options.rounds))))


if __name__ == "__main__":
    main()
