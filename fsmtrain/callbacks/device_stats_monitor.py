"""`DeviceStatsMonitor`: log the memory of the device, and that of the process."""

from __future__ import annotations

import sys

import torch

from fsmtrain.errors import OptionsError
from fsmtrain.machine import Machine
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.hooks.callback import Callback


class DeviceStatsMonitor(Callback):
    """Log memory in bytes at the end of a batch.

    On a GPU: ``device/allocated``, ``device/allocated_peak``, ``device/reserved``, from the counters of torch's allocator,
    which the host keeps: nothing waits for the device. Everywhere but on Windows: ``process/memory_peak``.

    Args:
        every_n_batches: Log at every n-th batch of an epoch.

    Raises:
        OptionsError: The number is no int >= 1.

    Example:
        >>> from fsmtrain import Trainer
        >>> trainer = Trainer(callbacks=[DeviceStatsMonitor(every_n_batches=100)])
    """

    def __init__(self, every_n_batches: int = 50) -> None:
        if not is_integer(every_n_batches) or every_n_batches < 1:
            raise OptionsError(f"DeviceStatsMonitor(every_n_batches={every_n_batches!r}): must be an int >= 1.")
        self.every_n_batches = every_n_batches

    def on_batch_end(self, machine: Machine) -> None:
        """Log the numbers of now."""
        if (machine.counters.batch_nb + 1) % self.every_n_batches:
            return
        for name, value in stats(machine.device).items():
            machine.log(name, value)


def stats(device: torch.device) -> dict[str, int]:
    """Return the numbers of a device and of this process, in bytes."""
    found = {}
    if device.type == "cuda":
        counted = torch.cuda.memory_stats(device)
        found["device/allocated"] = counted.get("allocated_bytes.all.current", 0)
        found["device/allocated_peak"] = counted.get("allocated_bytes.all.peak", 0)
        found["device/reserved"] = counted.get("reserved_bytes.all.current", 0)
    if sys.platform != "win32":
        import resource  # Windows has no such module

        unit = 1 if sys.platform == "darwin" else 1024
        found["process/memory_peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return found
