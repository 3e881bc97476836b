"""Kill runs at random moments: ``python -m tests.resuming.random_kills [--kills N] [--seed N] [LOADER ...]``.

A small model with dropout trains on shuffled data by Adam under a schedule for each step, with windows of 4 batches and four
checks an epoch, and is saved in the background every few batches. It is killed from outside at ten random moments, a run each,
and resumed. Prints of how many of them the final weights, and all else, are those of the run that nobody kills, bit for bit.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from fsmtrain import Guards, ModelCheckpoint, SeededDataLoader
from tests.models import Samples, Validated
from tests.resuming.kill_and_resume import (
    UnexpectedExit,
    differences,
    empty_folder,
    import_torch_modules,
    resumed_run,
    run_in_child,
    uninterrupted_run,
)
from tests.resuming.resume_scenarios import NoisySamples, Scenario, scenario

BATCHES, EPOCHS, WINDOW = 48, 3, 4
MAX_ATTEMPTS = 20  # at a moment that the run does not outlive


class ComparedModel(Validated):
    """Two layers with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.parameters(), lr=0.01)
        schedule = OneCycleLR(optimizer, max_lr=0.05, total_steps=EPOCHS * BATCHES // WINDOW)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _of(samples: type[Samples], **more: Any) -> Callable[[], Any]:
    return lambda: DataLoader(samples(4 * BATCHES), batch_size=4, shuffle=True, **more)


def _seeded() -> Any:
    workers: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"}
    return SeededDataLoader(NoisySamples(4 * BATCHES), batch_size=4, shuffle=True, seed=1, **workers)


LOADERS: dict[str, Callable[[], Any]] = {
    "DataLoader": _of(Samples),
    "DataLoader, random augmentation": _of(NoisySamples),
    "DataLoader, 2 workers": _of(Samples, num_workers=2, multiprocessing_context="fork"),
    "DataLoader, 2 workers, random augmentation": _of(NoisySamples, num_workers=2, multiprocessing_context="fork"),
    "SeededDataLoader, 2 workers, random augmentation": _seeded,
}


def scenario_of(loader: Callable[[], Any]) -> Scenario:
    """The run with this train loader."""
    return scenario(
        ComparedModel,
        loader,
        lambda: DataLoader(Samples(16), batch_size=4),
        max_nb_epochs=EPOCHS,
        accumulate_grad_batches=WINDOW,
        val_check_interval=0.25,
        guards=Guards(),
        callbacks=lambda: [ModelCheckpoint(every_n_batches=5)],
    )


def kill_at_random_moments(make: Scenario, folder: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kill so many runs; returns how many came out the same, and how many of all went on from a checkpoint."""
    moments = random.Random(seed)
    make([])  # its guards are read once, here
    began = time.perf_counter()
    reference = run_in_child(lambda: uninterrupted_run(make), empty_folder(folder))
    seconds = time.perf_counter() - began
    same = from_checkpoint = 0
    for _ in range(kills):
        for _ in range(MAX_ATTEMPTS):
            if (
                run_in_child(lambda: uninterrupted_run(make), empty_folder(folder), kill_after=moments.uniform(0, seconds))
                is None
            ):
                break
        else:
            raise UnexpectedExit(f"the run ended before it was killed, {MAX_ATTEMPTS} times")
        result = run_in_child(lambda: resumed_run(make, must=False), folder)
        same += not differences(reference, result)
        from_checkpoint += len(result["events"]) < len(reference["events"])
    return same, from_checkpoint


def main(arguments: list[str]) -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loaders", nargs="*", metavar="LOADER", help=f"of: {'; '.join(LOADERS)}; by default all")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="kill so many runs of each")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), metavar="N", help="of the moments")
    options = parser.parse_args(arguments)
    import_torch_modules()
    is_same = True
    print(f"moments from the seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.loaders or LOADERS:
            same, resumed_ = kill_at_random_moments(
                scenario_of(LOADERS[name]), Path(folder, "run"), options.kills, options.seed
            )
            is_same &= same == options.kills
            print(f"{name:50}{same:3} of {options.kills}; {resumed_} of them went on from a checkpoint", flush=True)
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
