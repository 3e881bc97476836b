"""One fresh process' way from nothing to its first batches: run by `starting`, many times.

    python -m benchmarks.fresh hand|fsmtrain|lightning|ignite|accelerate

Prints what the import of torch took, what the trainer's own took after it, and the time from torch to the end of the first
batch, as JSON. Nothing else may be imported here.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any


def main(name: str) -> dict[str, float]:
    """Import, train two batches, and tell."""
    collected = 0.0  # seconds of the collector, which passes over all that torch has made
    since = 0.0

    def collecting(phase: str, _: dict[str, int]) -> None:
        nonlocal collected, since
        since = time.process_time() if phase == "start" else since
        collected += time.process_time() - since if phase == "stop" else 0.0

    begun = time.perf_counter()
    import torch
    from torch.nn.functional import mse_loss

    torch.set_num_threads(1)
    with_torch, cpu = time.perf_counter(), time.process_time()
    memory = resident()
    gc.callbacks.append(collecting)
    if name == "fsmtrain":
        import fsmtrain
    elif name == "lightning":
        import lightning  # type: ignore[import-not-found] # noqa: F401
    elif name == "ignite":
        import ignite.engine  # type: ignore[import-not-found] # noqa: F401
    elif name == "accelerate":
        import accelerate  # type: ignore[import-not-found] # noqa: F401
    imported, imported_cpu = time.perf_counter(), time.process_time()
    found = {
        "torch": with_torch - begun,
        "import": imported - with_torch,
        "import_cpu": imported_cpu - cpu,
        "collector": collected,
        "import_bytes": float(resident() - memory),
    }
    x = torch.zeros(4, 8)
    ended: list[float] = []

    class Loader:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            yield x, x[:, :1]
            ended.append(time.perf_counter())
            yield x, x[:, :1]

    if name == "hand":
        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch, target in Loader():
            loss = mse_loss(model(batch), target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    elif name == "fsmtrain":

        class Model(fsmtrain.TrainingModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(8, 1)

            def training_step(self, batch: Any, batch_nb: int) -> Any:
                x, y = batch
                return mse_loss(self.layer(x), y)

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.1)

        options = fsmtrain.Options(max_nb_epochs=1, device="cpu", quiet=True, runs_dir=None)
        fsmtrain.build(options, Model(), train_dataloader=Loader()).run()
    if ended:
        found["first_batch"] = ended[0] - with_torch
        found["bytes"] = float(resident() - memory)
    return found


def resident() -> int:
    """The bytes of this process that are in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
