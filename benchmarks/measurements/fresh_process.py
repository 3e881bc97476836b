"""One fresh process, from its start to its first batches; `startup` runs it many times.

    python -m benchmarks.measurements.fresh_process hand|fsmtrain|lightning|ignite|accelerate

Prints as JSON: the time to import torch, the time to import the trainer after it, and the time from torch to the end of the
first batch. Nothing else may be imported here.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any


def main(name: str) -> dict[str, float]:
    """Import, train two batches, and return times in seconds and memory in bytes."""
    gc_seconds = 0.0  # of the garbage collector, which traverses what torch has created
    gc_start = 0.0

    def time_gc(phase: str, _: dict[str, int]) -> None:
        nonlocal gc_seconds, gc_start
        gc_start = time.process_time() if phase == "start" else gc_start
        gc_seconds += time.process_time() - gc_start if phase == "stop" else 0.0

    start = time.perf_counter()
    import torch
    from torch.nn.functional import mse_loss

    torch.set_num_threads(1)
    with_torch, cpu = time.perf_counter(), time.process_time()
    memory = resident()
    gc.callbacks.append(time_gc)
    if name == "fsmtrain":
        import fsmtrain
    elif name == "lightning":
        import lightning  # noqa: F401
    elif name == "ignite":
        import ignite.engine  # type: ignore[import-not-found] # noqa: F401
    elif name == "accelerate":
        import accelerate  # type: ignore[import-not-found] # noqa: F401
    imported, imported_cpu = time.perf_counter(), time.process_time()
    results = {
        "torch": with_torch - start,
        "import": imported - with_torch,
        "import_cpu": imported_cpu - cpu,
        "gc": gc_seconds,
        "import_bytes": float(resident() - memory),
    }
    x = torch.zeros(4, 8)
    first_batch_end: list[float] = []

    class Loader:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            yield x, x[:, :1]
            first_batch_end.append(time.perf_counter())
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
    if first_batch_end:
        results["first_batch"] = first_batch_end[0] - with_torch
        results["bytes"] = float(resident() - memory)
    return results


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
